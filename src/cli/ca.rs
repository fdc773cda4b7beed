//! `ca init`, `ca request`, `ca import` and `ca list`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::config_arg::ConfigArg;
use super::failure::{Exit, Failure};
use super::files;
use super::format::{fingerprint, with_distance};
use super::open::{actor, configuration, with_core, with_ledger};
use super::output::{self, FormatArg};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::issuance::{ImportReport, InitOptions, InitReport, RequestOptions};
use crate::x509::{Certificate, KeyKind, TrustDomain};

#[derive(Debug, clap::Subcommand)]
pub(super) enum CaCommand {
    /// Make a root and an issuing key in the token, and certify both.
    Init(InitArgs),
    /// Make an issuing key in the token, and print the request for the enterprise's CA.
    Request(RequestArgs),
    /// Put the enterprise CA's answer to `ca request` to use.
    Import(ImportArgs),
    /// List authorities and their issuers.
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct NewKey {
    /// The trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// The token, as [hsm.tokens.NAME] calls it. Default: the only one.
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// The kind of key: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072 or rsa-4096.
    #[arg(long, value_name = "KIND", default_value = "ecdsa-p256")]
    key: KeyKind,
    /// How many CAs may stand below the issuing CA.
    #[arg(long, value_name = "N", default_value_t = 0)]
    path_len: u8,
    /// organizationName in the subject.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    key: NewKey,
    /// Life of the root certificate.
    #[arg(long, value_name = "DURATION", default_value = "3650d", value_parser = humantime::parse_duration)]
    root_ttl: Duration,
    /// Life of the issuing certificate.
    #[arg(long, value_name = "DURATION", default_value = "365d", value_parser = humantime::parse_duration)]
    issuing_ttl: Duration,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(super) struct RequestArgs {
    #[command(flatten)]
    key: NewKey,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// The issuing certificate, each one above it, and the root last; PEM. `-`: standard input.
    #[arg(value_name = "CHAIN.PEM")]
    chain: PathBuf,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    format: FormatArg,
}

pub(super) fn run(command: CaCommand) -> Result<(), Failure> {
    match command {
        CaCommand::Init(args) => init(args),
        CaCommand::Request(args) => request(args),
        CaCommand::Import(args) => import(&args),
        CaCommand::List(args) => list(&args),
    }
}

fn init(args: InitArgs) -> Result<(), Failure> {
    if args.issuing_ttl > args.root_ttl {
        let what =
            "the issuing certificate would outlive its root: --issuing-ttl is over --root-ttl";
        return Err(Failure::new(Exit::Usage, what));
    }
    let config = configuration(&args.config)?;
    let options = InitOptions {
        token: token(&config, args.key.token)?,
        trust_domain: args.key.trust_domain,
        kind: args.key.key,
        root_ttl: args.root_ttl,
        issuing_ttl: args.issuing_ttl,
        path_len: args.key.path_len,
        organization: args.key.organization,
    };
    let report: InitReport = with_core(&config, async |core| {
        Ok(core.ceremony(actor()).init(options).await?)
    })?;
    if args.format.is_json() {
        return output::json(&json!({
            "trust_domain": report.trust_domain.to_string(),
            "root": certificate(&report.root),
            "issuing": certificate(&report.issuing),
            "bundle_sequence": report.bundle_sequence,
        }));
    }
    let now = SystemClock.now();
    output::facts(&[
        ("trust domain", report.trust_domain.to_string()),
        ("root", report.root.subject()),
        (
            "  fingerprint",
            format!("sha256:{}", fingerprint(&report.root)),
        ),
        ("  expires", with_distance(report.root.not_after(), now)),
        ("issuing", report.issuing.subject()),
        ("  expires", with_distance(report.issuing.not_after(), now)),
    ])?;
    output::note("a running server takes it without a restart; otherwise: rootbridge serve")
}

fn request(args: RequestArgs) -> Result<(), Failure> {
    let config = configuration(&args.config)?;
    let options = RequestOptions {
        token: token(&config, args.key.token)?,
        trust_domain: args.key.trust_domain,
        kind: args.key.key,
        path_len: args.key.path_len,
        organization: args.key.organization,
    };
    let report = with_core(&config, async |core| {
        Ok(core.ceremony(actor()).request(options).await?)
    })?;
    if args.format.is_json() {
        return output::json(&json!({
            "issuer": report.issuer.to_string(),
            "key": report.public_key.kind().to_string(),
            "csr": report.csr_pem,
        }));
    }
    output::raw(report.csr_pem.as_bytes())?;
    output::note(&format!(
        "issuer {} waits for its certificate: rootbridge ca import CHAIN.PEM (issuing certificate \
         first, root last)",
        report.issuer
    ))
}

fn import(args: &ImportArgs) -> Result<(), Failure> {
    let chain = files::read(&args.chain)?;
    let config = configuration(&args.config)?;
    let report: ImportReport = with_core(&config, async |core| {
        let imported = core.ceremony(actor()).import(&chain).await;
        imported.map_err(|error| Failure::from(error).at(args.chain.display().to_string()))
    })?;
    if args.format.is_json() {
        return output::json(&json!({
            "trust_domain": report.trust_domain.to_string(),
            "issuer": report.issuer.to_string(),
            "issuing": certificate(&report.certificate),
            "anchor": certificate(&report.anchor),
            "bundle_sequence": report.bundle_sequence,
        }));
    }
    output::facts(&[
        ("trust domain", report.trust_domain.to_string()),
        ("issuer", format!("{}, active", report.issuer)),
        ("certificate", report.certificate.subject()),
        (
            "  expires",
            with_distance(report.certificate.not_after(), SystemClock.now()),
        ),
        ("root", report.anchor.subject()),
        (
            "  fingerprint",
            format!("sha256:{}", fingerprint(&report.anchor)),
        ),
    ])
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let records = with_ledger(&config, async |ledger| Ok(ledger.snapshot().await?))?;
    let issuers = || {
        records
            .authorities
            .iter()
            .flat_map(|a| a.issuers.iter().map(move |issuer| (a, issuer)))
    };
    if args.format.is_json() {
        let rows: Vec<_> = issuers()
            .map(|(authority, issuer)| {
                json!({
                    "trust_domain": authority.trust_domain.to_string(),
                    "issuer": issuer.id.to_string(),
                    "role": issuer.role.as_str(),
                    "state": issuer.state.as_str(),
                    "path_len": issuer.path_len,
                    "locations": issuer.locations.iter().map(|location| json!({
                        "token": location.token,
                        "token_serial": location.token_serial,
                        "key_id": crate::digest::hex(&location.key_id),
                        "label": location.label,
                    })).collect::<Vec<_>>(),
                    "not_after": issuer.certificates.last().map(|last| last.not_after.to_string()),
                    "created_at": issuer.created_at.to_string(),
                    "created_by": issuer.created_by,
                })
            })
            .collect();
        return output::json(&rows);
    }
    let now = SystemClock.now();
    let rows: Vec<_> = issuers()
        .map(|(authority, issuer)| {
            vec![
                authority.trust_domain.to_string(),
                issuer.id.to_string(),
                issuer.role.to_string(),
                issuer.state.to_string(),
                issuer
                    .locations
                    .first()
                    .map(|location| location.token.clone())
                    .unwrap_or_default(),
                issuer
                    .certificates
                    .last()
                    .map_or("no certificate".to_owned(), |last| {
                        with_distance(last.not_after, now)
                    }),
            ]
        })
        .collect();
    output::table(
        &[
            "TRUST DOMAIN",
            "ISSUER",
            "ROLE",
            "STATE",
            "TOKEN",
            "EXPIRES",
        ],
        &rows,
        "no authority yet: rootbridge ca init --trust-domain TRUST_DOMAIN",
    )
}

fn certificate(certificate: &Certificate) -> serde_json::Value {
    json!({
        "subject": certificate.subject(),
        "serial_number": certificate.serial().to_string(),
        "sha256": fingerprint(certificate),
        "not_before": certificate.not_before().to_string(),
        "not_after": certificate.not_after().to_string(),
        "pem": certificate.to_pem(),
    })
}

/// The token that was named, or the only one there is.
fn token(config: &Config, said: Option<String>) -> Result<String, Failure> {
    let names: Vec<&str> = config.hsm().token_names().collect();
    match (said, names.as_slice()) {
        (Some(name), _) => Ok(name),
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => Err(Failure::new(Exit::Config, "no token is configured")
            .at(config.file().display().to_string())
            .next("add [hsm.tokens.main] with `label` and `pin_file`")),
        (None, names) => {
            let what = format!(
                "several tokens are configured ({}): choose one",
                names.join(", ")
            );
            Err(Failure::new(Exit::Usage, what).next("give --token NAME"))
        }
    }
}
