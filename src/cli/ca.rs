//! `ca init`, `ca request`, `ca import`, `ca adopt` and `ca list`; the others are in `ca_requests`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::ca_requests::{self, CancelArgs, RetireArgs, open_json, show_open};
use super::certificate_files;
use super::config_arg::CommonArgs;
use super::existing_key;
use super::failure::{Exit, Failure};
use super::format::{fingerprint, joined, or_empty, with_distance};
use super::name_constraints::ruled_out;
use super::open::{actor, config_with_environment, snapshot, with_core};
use super::output;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::digest::hex;
use crate::hsm::KeyName;
use crate::issuance::{ExistingKey, ImportReport, InitOptions, RequestOptions, active_row};
use crate::ledger::{AuthorityRecord, IssuerRecord, RotationId};
use crate::upstream::replaced;
use crate::x509::{Certificate, KeyKind, TrustDomain};

#[derive(Debug, clap::Subcommand)]
pub(super) enum CaCommand {
    /// Create a root key and an issuing key in the token, and certify both.
    Init(Box<InitArgs>),
    /// Create an issuing key in the token, and print the CSR for the enterprise's CA.
    Request(RequestArgs),
    /// Install the certificate chain that the enterprise's CA issued for `ca request`.
    Import(ImportArgs),
    /// Move in a CA that exists: its key is in a token, and its certificate at hand.
    Adopt(AdoptArgs),
    /// List authorities, their issuers, and requests to upstream CAs.
    List(CommonArgs),
    /// End the request to the upstream CA that is in flight.
    Cancel(CancelArgs),
    /// Retire an issuing CA whose last certificate has expired.
    Retire(RetireArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct NewKeyArgs {
    /// The trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// The token's name in [hsm.tokens.NAME], or its PKCS#11 URI. Default: the only one.
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// The kind of a new key: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072 or rsa-4096.
    #[arg(long, value_name = "KIND", default_value = "ecdsa-p256", value_parser = KeyKind::for_ca)]
    key: KeyKind,
    /// How many CAs may follow the issuing CA in a certification path (pathLenConstraint).
    #[arg(long, value_name = "N", default_value_t = 0)]
    path_len: u8,
    /// organizationName in the subject.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    key: NewKeyArgs,
    /// The root's key, which is in a token already: PKCS#11 URI, CKA_ID in hexadecimal, or label.
    #[arg(long, value_name = "KEY")]
    root_key: Option<KeyName>,
    /// The issuing key, in the same way.
    #[arg(long, value_name = "KEY")]
    issuing_key: Option<KeyName>,
    /// Lifetime of the root certificate.
    #[arg(long, value_name = "DURATION", default_value = "3650d", value_parser = humantime::parse_duration)]
    root_ttl: Duration,
    /// Lifetime of the issuing certificate.
    #[arg(long, value_name = "DURATION", default_value = "365d", value_parser = humantime::parse_duration)]
    issuing_ttl: Duration,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RequestArgs {
    #[command(flatten)]
    key: NewKeyArgs,
    /// Use a key that is in a token already: PKCS#11 URI, CKA_ID in hexadecimal, or label.
    #[arg(long, value_name = "KEY", conflicts_with = "key")]
    use_key: Option<KeyName>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// The issuing certificate, those above it and the root, in any order and in one or several
    /// files: PEM, DER or PKCS#7 (.p7b). `-`: standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct AdoptArgs {
    /// The trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// The CA's key: PKCS#11 URI, CKA_ID in hexadecimal, or label.
    #[arg(long, value_name = "KEY")]
    key: KeyName,
    /// The token's name in [hsm.tokens.NAME], or its PKCS#11 URI. Default: all are searched.
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// The CA's certificate and those above it, in any order, as for `ca import`. `-`: standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(command: CaCommand) -> Result<(), Failure> {
    match command {
        CaCommand::Init(args) => init(*args),
        CaCommand::Request(args) => request(args),
        CaCommand::Import(args) => import(&args),
        CaCommand::Adopt(args) => adopt(&args),
        CaCommand::List(args) => list(&args),
        CaCommand::Cancel(args) => ca_requests::cancel(&args),
        CaCommand::Retire(args) => ca_requests::retire(&args),
    }
}

fn init(args: InitArgs) -> Result<(), Failure> {
    if args.issuing_ttl > args.root_ttl {
        let message =
            "the issuing certificate would outlive its root: --issuing-ttl exceeds --root-ttl";
        return Err(Failure::new(Exit::Usage, message));
    }
    let config = config_with_environment(&args.common.config)?;
    // A configured token is needed for the keys that are generated.
    let generates = args.root_key.is_none() || args.issuing_key.is_none();
    let wanted_token = args.key.token.clone();
    let mut options = InitOptions {
        token: match generates {
            true => token(&config, args.key.token)?,
            false => String::new(),
        },
        trust_domain: args.key.trust_domain,
        kind: args.key.key,
        root_key: None,
        issuing_key: None,
        root_ttl: args.root_ttl,
        issuing_ttl: args.issuing_ttl,
        path_len: args.key.path_len,
        organization: args.key.organization,
    };
    let report = with_core(&config, async |core| {
        let ceremony = core.ceremony(actor());
        let token = wanted_token.as_deref();
        if let Some(name) = &args.root_key {
            options.root_key = Some(existing_key::find(&ceremony, token, name).await?);
        }
        if let Some(name) = &args.issuing_key {
            options.issuing_key = Some(existing_key::find(&ceremony, token, name).await?);
        }
        Ok(ceremony.init(options).await?)
    })?;
    if args.common.format.is_json() {
        return output::json(&json!({
            "trust_domain": report.trust_domain.to_string(),
            "root": certificate_json(&report.root),
            "issuing": certificate_json(&report.issuing),
            "bundle_sequence": report.bundle_sequence,
        }));
    }
    let now = SystemClock.now();
    output::facts([
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
    output::note("a running server uses it without a restart; otherwise: rootbridge serve")
}

fn request(args: RequestArgs) -> Result<(), Failure> {
    let config = config_with_environment(&args.common.config)?;
    let wanted_token = args.key.token.clone();
    let mut options = RequestOptions {
        token: match args.use_key {
            None => token(&config, args.key.token)?,
            Some(_) => String::new(),
        },
        trust_domain: args.key.trust_domain,
        kind: args.key.key,
        use_key: None,
        path_len: args.key.path_len,
        organization: args.key.organization,
    };
    let (report, existing) = with_core(&config, async |core| {
        let ceremony = core.ceremony(actor());
        if let Some(name) = &args.use_key {
            let found = existing_key::find(&ceremony, wanted_token.as_deref(), name).await?;
            options.use_key = Some(found);
        }
        let existing = options.use_key.clone();
        Ok((ceremony.request(options).await?, existing))
    })?;
    if args.common.format.is_json() {
        return output::json(&json!({
            "issuer": report.issuer.to_string(),
            "key": report.public_key.kind().to_string(),
            "csr": report.csr_pem,
            "existing_key": existing.as_ref().map(existing_key::to_json),
        }));
    }
    output::raw(report.csr_pem)?;
    output::note(format!(
        "issuer {} needs its certificate: rootbridge ca import FILE… (with those above it \
         and the root)",
        report.issuer
    ))
}

fn import(args: &ImportArgs) -> Result<(), Failure> {
    // Before standard input or a pipe is read: this process may start again.
    let config = config_with_environment(&args.common.config)?;
    let certificates = certificate_files::read(&args.files)?;
    let named = joined(args.files.iter().map(|file| file.display()), ", ");
    let report = with_core(&config, async |core| {
        let imported = core.ceremony(actor()).import(&certificates).await;
        imported.map_err(|error| Failure::from(error).at(named))
    })?;
    imported(&config, &report, args.common.format.is_json(), None)
}

fn adopt(args: &AdoptArgs) -> Result<(), Failure> {
    // Before standard input or a pipe is read: this process may start again.
    let config = config_with_environment(&args.common.config)?;
    let certificates = certificate_files::read(&args.files)?;
    let (report, key) = with_core(&config, async |core| {
        let ceremony = core.ceremony(actor());
        let key = existing_key::find(&ceremony, args.token.as_deref(), &args.key).await?;
        let adopted = ceremony.adopt(&args.trust_domain, &key, &certificates);
        Ok((adopted.await?, key))
    })?;
    imported(&config, &report, args.common.format.is_json(), Some(&key))
}

/// An issuer that is active now.
fn imported(
    config: &Config,
    report: &ImportReport,
    as_json: bool,
    key: Option<&ExistingKey>,
) -> Result<(), Failure> {
    if as_json {
        return output::json(&json!({
            "trust_domain": report.trust_domain.to_string(),
            "issuer": report.issuer.to_string(),
            "issuing": certificate_json(&report.certificate),
            "anchor": certificate_json(&report.anchor),
            "warnings": report.warnings,
            "unused": report.unused.iter().map(fingerprint).collect::<Vec<_>>(),
            "bundle_sequence": report.bundle_sequence,
            "rotation": report.rotation.map(RotationId::get),
            "existing_key": key.map(existing_key::to_json),
        }));
    }
    for warning in &report.warnings {
        output::note(format!("warning: {warning}"))?;
    }
    for (name, why) in ruled_out(config, &report.trust_domain, &report.path) {
        output::note(format!(
            "warning: no certificate for {name} will verify: {why}"
        ))?;
    }
    for unused in &report.unused {
        let subject = unused.subject();
        output::note(format!("`{subject}` is not in the path, and was left out"))?;
    }
    let not_after = report.certificate.not_after();
    output::facts([
        ("trust domain", report.trust_domain.to_string()),
        ("issuer", report.state()),
        ("certificate", report.certificate.subject()),
        ("  expires", with_distance(not_after, SystemClock.now())),
        ("root", report.anchor.subject()),
        (
            "  fingerprint",
            format!("sha256:{}", fingerprint(&report.anchor)),
        ),
    ])
}

fn list(args: &CommonArgs) -> Result<(), Failure> {
    let records = snapshot(&args.config.load()?)?;
    let issuers = records.authorities.iter().flat_map(|authority| {
        let issuers = authority.issuers.iter();
        issuers.map(move |issuer| (authority, issuer))
    });
    if args.format.is_json() {
        let rows = issuers.map(|(authority, issuer)| issuer_json(authority, issuer));
        return output::json(&rows.collect::<Vec<_>>());
    }
    let now = SystemClock.now();
    let rows = issuers.map(|(authority, issuer)| {
        let token = issuer.locations.first().map(|location| &location.token);
        let expires = match issuer.certificates.last() {
            Some(last) => with_distance(last.not_after, now),
            None => "no certificate".to_owned(),
        };
        [
            ("TRUST DOMAIN", authority.trust_domain.to_string()),
            ("ISSUER", issuer.id.to_string()),
            ("ROLE", issuer.role.to_string()),
            ("STATE", state(authority, issuer)),
            ("TOKEN", or_empty(token)),
            ("EXPIRES", expires),
        ]
    });
    output::table(
        rows,
        "no authority yet: rootbridge ca init --trust-domain TRUST_DOMAIN",
    )?;
    show_open(&records, now)
}

/// An active issuing CA in whose place another one signs is not what operators call active.
fn state(authority: &AuthorityRecord, issuer: &IssuerRecord) -> String {
    let mut replaced = replaced(authority).into_iter();
    match replaced.any(|each| each.id == issuer.id) {
        true => "replaced".to_owned(),
        false => issuer.state.to_string(),
    }
}

fn issuer_json(authority: &AuthorityRecord, issuer: &IssuerRecord) -> Value {
    let locations = issuer.locations.iter().map(|location| {
        json!({
            "token": location.token,
            "token_serial": location.token_serial,
            "key_id": hex(&location.key_id),
            "label": location.label,
        })
    });
    json!({
        "trust_domain": authority.trust_domain.to_string(),
        "issuer": issuer.id.to_string(),
        "role": issuer.role.as_str(),
        "state": issuer.state.as_str(),
        "signs": active_row(authority).is_some_and(|(signing, _)| signing.id == issuer.id),
        "path_len": issuer.path_len,
        "locations": locations.collect::<Vec<_>>(),
        "not_after": issuer.certificates.last().map(|last| last.not_after.to_string()),
        "created_at": issuer.created_at.to_string(),
        "created_by": issuer.created_by,
        "request": open_json(authority, &issuer.id),
    })
}

fn certificate_json(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject(),
        "serial_number": certificate.serial().to_string(),
        "sha256": fingerprint(certificate),
        "not_before": certificate.not_before().to_string(),
        "not_after": certificate.not_after().to_string(),
        "pem": certificate.to_pem(),
    })
}

/// The token given, or the only one configured.
fn token(config: &Config, given: Option<String>) -> Result<String, Failure> {
    let names: Vec<&str> = config.hsm().token_names().collect();
    match (given, names.as_slice()) {
        (Some(name), _) => Ok(name),
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => Err(Failure::new(Exit::Config, "no token is configured")
            .at(config.file().display())
            .next("add [hsm.tokens.main] with `label` and `pin_file`")),
        (None, names) => {
            let message = format!(
                "several tokens are configured ({}): choose one",
                names.join(", ")
            );
            Err(Failure::new(Exit::Usage, message).next("give --token NAME"))
        }
    }
}
