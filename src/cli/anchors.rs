//! `anchors add`, `anchors remove` and `anchors list`.

use std::path::PathBuf;

use serde_json::json;

use super::config_arg::ConfigArg;
use super::failure::{Exit, Failure};
use super::files;
use super::format::{fingerprint, with_distance};
use super::open::{actor, with_ledger};
use super::output::{self, FormatArg};
use super::time::DateOrDuration;
use crate::clock::{Clock as _, SystemClock};
use crate::digest::hex;
use crate::ledger::{AnchorRecord, Change, IssuerState, Snapshot};
use crate::x509::{Certificate, TrustDomain, parse_pem_chain};

#[derive(Debug, clap::Subcommand)]
pub(super) enum AnchorsCommand {
    /// Publish other CAs' roots in a trust bundle. They are never accepted for callers here.
    Add(AddArgs),
    /// Take a trust anchor out of a trust bundle.
    Remove(RemoveArgs),
    /// List trust anchors.
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// The roots, PEM; `-` reads standard input.
    file: PathBuf,
    /// The trust domain whose bundle shows them.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// Where they come from, for those who find them later.
    #[arg(long, value_name = "TEXT")]
    source: String,
    /// DateOrDuration they leave the bundle by themselves: a date or a span. Default: when they expire.
    #[arg(long, value_name = "DATE|DURATION")]
    expires: Option<DateOrDuration>,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// SHA-256 of the anchor, or as much of its beginning as is unique.
    #[arg(value_name = "FINGERPRINT")]
    fingerprint: String,
    /// The trust domain. Default: the one that has the anchor.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only this trust domain's.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// Retired ones as well.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    format: FormatArg,
}

pub(super) fn run(command: AnchorsCommand) -> Result<(), Failure> {
    match command {
        AnchorsCommand::Add(args) => add(&args),
        AnchorsCommand::Remove(args) => remove(&args),
        AnchorsCommand::List(args) => list(&args),
    }
}

fn add(args: &AddArgs) -> Result<(), Failure> {
    let pem = files::read(&args.file)?;
    let at = args.file.display().to_string();
    let anchors = parse_pem_chain(&pem).map_err(|error| {
        Failure::new(Exit::Failed, format!("no certificates in PEM: {error}")).at(at.clone())
    })?;
    let now = SystemClock.now();
    let expires_at = args.expires.map(|time| time.after(now));
    // All are looked at before the first is added.
    for anchor in &anchors {
        let wrong = if !anchor.is_ca() {
            "is no CA certificate"
        } else if anchor.not_after() <= now {
            "has expired"
        } else {
            continue;
        };
        return Err(Failure::new(Exit::Failed, format!("`{}` {wrong}", anchor.subject())).at(at));
    }
    if expires_at.is_some_and(|at| at <= now) {
        return Err(Failure::new(Exit::Usage, "--expires is in the past"));
    }
    let config = args.config.load()?;
    let sequence = with_ledger(&config, async |ledger| {
        let by = actor();
        let mut sequence = None;
        for anchor in &anchors {
            let change = Change::AddAnchor {
                trust_domain: args.trust_domain.clone(),
                der: anchor.der().to_vec(),
                source: args.source.clone(),
                expires_at,
            };
            let applied = ledger.apply(change, &by).await?;
            sequence = applied
                .bundles
                .first()
                .map(|bundle| bundle.sequence)
                .or(sequence);
        }
        Ok(sequence)
    })?;
    let prints: Vec<String> = anchors.iter().map(fingerprint).collect();
    if args.format.is_json() {
        return output::json(&json!({ "added": prints, "bundle_sequence": sequence }));
    }
    for (anchor, print) in anchors.iter().zip(&prints) {
        output::line(&format!("added {} sha256:{print}", anchor.subject()))?;
    }
    published(&args.trust_domain, sequence)
}

fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    let wanted = args.fingerprint.to_ascii_lowercase().replace(':', "");
    let wanted = wanted.strip_prefix("sha256").unwrap_or(&wanted).to_owned();
    if wanted.len() < 4 || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let what = format!(
            "`{}` is no fingerprint: give at least 4 hexadecimal digits",
            args.fingerprint
        );
        return Err(Failure::new(Exit::Usage, what).next("rootbridge anchors list"));
    }
    let config = args.config.load()?;
    let (domain, print, sequence) = with_ledger(&config, async |ledger| {
        let records = ledger.snapshot().await?;
        let (domain, anchor) = find(&records, args.trust_domain.as_ref(), &wanted)?;
        let change = Change::RetireAnchor {
            trust_domain: domain.clone(),
            sha256: anchor.sha256,
        };
        let applied = ledger.apply(change, &actor()).await?;
        let sequence = applied.bundles.first().map(|bundle| bundle.sequence);
        Ok((domain.clone(), hex(&anchor.sha256), sequence))
    })?;
    if args.format.is_json() {
        return output::json(&json!({ "removed": print, "bundle_sequence": sequence }));
    }
    output::line(&format!("removed sha256:{print}"))?;
    published(&domain, sequence)
}

fn published(domain: &TrustDomain, sequence: Option<u64>) -> Result<(), Failure> {
    match sequence {
        Some(sequence) => output::note(&format!("bundle of {domain}: version {sequence}")),
        None => output::note(&format!("the bundle of {domain} is as before")),
    }
}

/// The one anchor in use whose fingerprint begins so.
fn find<'r>(
    records: &'r Snapshot,
    domain: Option<&TrustDomain>,
    wanted: &str,
) -> Result<(&'r TrustDomain, &'r AnchorRecord), Failure> {
    let found: Vec<_> = anchors(records, domain)
        .filter(|(_, anchor)| anchor.state != IssuerState::Retired)
        .filter(|(_, anchor)| hex(&anchor.sha256).starts_with(wanted))
        .collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::new(
            Exit::Ledger,
            format!("no anchor in use has the fingerprint {wanted}"),
        )
        .next("rootbridge anchors list")),
        several => {
            let all: Vec<_> = several
                .iter()
                .map(|(td, a)| format!("{} of {td}", hex(&a.sha256)))
                .collect();
            let what = format!(
                "{wanted} is not enough to tell them apart: {}",
                all.join(", ")
            );
            Err(Failure::new(Exit::Usage, what).next("give more digits, or --trust-domain"))
        }
    }
}

fn anchors<'r>(
    records: &'r Snapshot,
    domain: Option<&TrustDomain>,
) -> impl Iterator<Item = (&'r TrustDomain, &'r AnchorRecord)> {
    records
        .authorities
        .iter()
        .filter(move |authority| domain.is_none_or(|domain| *domain == authority.trust_domain))
        .flat_map(|authority| {
            authority
                .anchors
                .iter()
                .map(|anchor| (&authority.trust_domain, anchor))
        })
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let records = with_ledger(&config, async |ledger| Ok(ledger.snapshot().await?))?;
    let shown: Vec<_> = anchors(&records, args.trust_domain.as_ref())
        .filter(|(_, anchor)| args.all || anchor.state != IssuerState::Retired)
        .map(|(domain, anchor)| {
            (
                domain,
                anchor,
                Certificate::parse(anchor.der.as_slice()).ok(),
            )
        })
        .collect();
    let now = SystemClock.now();
    if args.format.is_json() {
        let rows: Vec<_> = shown
            .iter()
            .map(|(domain, anchor, certificate)| {
                json!({
                    "trust_domain": domain.to_string(),
                    "sha256": hex(&anchor.sha256),
                    "subject": certificate.as_ref().map(Certificate::subject),
                    "not_after": certificate.as_ref().map(|c| c.not_after().to_string()),
                    "origin": anchor.origin.as_str(),
                    "source": anchor.source,
                    "state": anchor.state.as_str(),
                    "expires_at": anchor.expires_at.map(|at| at.to_string()),
                    "added_at": anchor.added_at.to_string(),
                    "added_by": anchor.added_by,
                    "retired_at": anchor.retired_at.map(|at| at.to_string()),
                })
            })
            .collect();
        return output::json(&rows);
    }
    let rows: Vec<_> = shown
        .iter()
        .map(|(domain, anchor, certificate)| {
            let end = certificate.as_ref().map(Certificate::not_after);
            let end = anchor.expires_at.into_iter().chain(end).min();
            vec![
                domain.to_string(),
                certificate
                    .as_ref()
                    .map(Certificate::subject)
                    .unwrap_or_default(),
                anchor.origin.to_string(),
                anchor.state.to_string(),
                end.map(|at| with_distance(at, now)).unwrap_or_default(),
                anchor.source.clone(),
                format!("sha256:{}", hex(&anchor.sha256)),
            ]
        })
        .collect();
    output::table(
        &[
            "TRUST DOMAIN",
            "SUBJECT",
            "ORIGIN",
            "STATE",
            "LEAVES",
            "SOURCE",
            "FINGERPRINT",
        ],
        &rows,
        "no trust anchors",
    )
}
