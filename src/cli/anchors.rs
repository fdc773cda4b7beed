//! `anchors add`, `anchors remove` and `anchors list`; `anchors approve` is in `ca_requests`.

use std::path::PathBuf;

use serde_json::json;

use super::ca_requests::{ApproveArgs, approve};
use super::certificate_files;
use super::config_arg::CommonArgs;
use super::failure::{Exit, Failure};
use super::format::{fingerprint, joined, or_empty, with_distance};
use super::open::{actor, snapshot, with_ledger};
use super::output;
use super::time::DateOrDuration;
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::digest::hex;
use crate::ledger::{AnchorRecord, Applied, Change, IssuerState, Snapshot};
use crate::x509::{Certificate, Position, TrustDomain};

#[derive(Debug, clap::Subcommand)]
pub(super) enum AnchorsCommand {
    /// Publish roots of other CAs in a trust bundle. This server accepts no caller through them.
    Add(AddArgs),
    /// Remove a trust anchor from a trust bundle.
    Remove(RemoveArgs),
    /// Approve the root of an upstream CA, which a certificate of an issuing key waits for.
    Approve(ApproveArgs),
    /// List trust anchors.
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// The roots, in one or several files: PEM, DER or PKCS#7 (.p7b). `-`: standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The trust domain of the bundle.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// Where the roots come from, as a note for later readers.
    #[arg(long, value_name = "TEXT")]
    source: String,
    /// When they are removed from the bundle: a date, or a duration from now. Default: when they
    /// expire.
    #[arg(long, value_name = "DATE|DURATION")]
    expires: Option<DateOrDuration>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// SHA-256 of the anchor, or a unique prefix of it.
    #[arg(value_name = "FINGERPRINT")]
    fingerprint: String,
    /// The trust domain. Default: the one that has the anchor.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only the anchors of this trust domain.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// Include retired anchors.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(command: AnchorsCommand) -> Result<(), Failure> {
    match command {
        AnchorsCommand::Add(args) => add(&args),
        AnchorsCommand::Remove(args) => remove(&args),
        AnchorsCommand::Approve(args) => approve(&args),
        AnchorsCommand::List(args) => list(&args),
    }
}

fn add(args: &AddArgs) -> Result<(), Failure> {
    let anchors = certificate_files::read(&args.files)?;
    let now = SystemClock.now();
    let expires_at = args.expires.map(|time| time.after(now));
    if expires_at.is_some_and(|time| time <= now) {
        return Err(Failure::new(Exit::Usage, "--expires is in the past"));
    }
    let warnings = examine(&anchors, now)
        .map_err(|failure| failure.at(joined(args.files.iter().map(|f| f.display()), ", ")))?;
    let config = args.common.config.load()?;
    let applied = with_ledger(&config, async |ledger| {
        let change = Change::AddAnchors {
            trust_domain: args.trust_domain.clone(),
            ders: anchors.iter().map(|each| each.der().to_vec()).collect(),
            source: args.source.clone(),
            expires_at,
        };
        Ok(ledger.apply(change, &actor()).await?)
    })?;
    let sequence = bundle_sequence(&applied);
    let (added, known): (Vec<_>, Vec<_>) = anchors
        .iter()
        .partition(|each| applied.added_anchors.contains(&each.fingerprint()));
    if args.common.format.is_json() {
        let all = |list: &[&Certificate]| -> Vec<String> {
            list.iter().map(|each| fingerprint(each)).collect()
        };
        return output::json(&json!({
            "added": all(&added),
            "known": all(&known),
            "warnings": warnings,
            "bundle_sequence": sequence,
        }));
    }
    for warning in &warnings {
        output::note(format!("warning: {warning}"))?;
    }
    for (word, list) in [("added", &added), ("published already", &known)] {
        for anchor in list {
            let (subject, sha256) = (anchor.subject(), fingerprint(anchor));
            output::line(format!("{word} {subject} sha256:{sha256}"))?;
        }
    }
    note_sequence(&args.trust_domain, sequence)
}

/// All anchors are examined before the first is added, and every one that cannot be is named. What
/// strict verifiers alone refuse is returned.
fn examine(anchors: &[Certificate], now: UnixTime) -> Result<Vec<String>, Failure> {
    let mut reasons = Vec::new();
    let mut warnings = Vec::new();
    for anchor in anchors {
        let subject = anchor.subject();
        if !anchor.is_ca() {
            reasons.push(format!("`{subject}` is no CA certificate"));
        } else if anchor.not_after() <= now {
            reasons.push(format!("`{subject}` has expired"));
        }
        for objection in anchor.objections(Position::Anchor) {
            let list = match objection.verifier.is_of_meshes() {
                true => &mut reasons,
                false => &mut warnings,
            };
            list.push(format!("`{subject}`: {objection}"));
        }
    }
    let mut reasons = reasons.into_iter();
    match reasons.next() {
        None => Ok(warnings),
        Some(first) => {
            let failure = Failure::new(Exit::Failed, first);
            Err(reasons.fold(failure, |failure, reason| {
                failure.next(format!("also {reason}"))
            }))
        }
    }
}

fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    let prefix = args.fingerprint.to_ascii_lowercase().replace(':', "");
    let prefix = prefix.strip_prefix("sha256").unwrap_or(&prefix);
    if prefix.len() < 4 || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let message = format!(
            "`{}` is no fingerprint: give at least 4 hexadecimal digits",
            args.fingerprint
        );
        return Err(Failure::new(Exit::Usage, message).next("rootbridge anchors list"));
    }
    let config = args.common.config.load()?;
    let (domain, removed, sequence) = with_ledger(&config, async |ledger| {
        let records = ledger.snapshot().await?;
        let (domain, anchor) = find_anchor(&records, args.trust_domain.as_ref(), prefix)?;
        let change = Change::RetireAnchor {
            trust_domain: domain.clone(),
            sha256: anchor.sha256,
        };
        let applied = ledger.apply(change, &actor()).await?;
        Ok((
            domain.clone(),
            hex(&anchor.sha256),
            bundle_sequence(&applied),
        ))
    })?;
    if args.common.format.is_json() {
        return output::json(&json!({ "removed": removed, "bundle_sequence": sequence }));
    }
    output::line(format!("removed sha256:{removed}"))?;
    note_sequence(&domain, sequence)
}

fn bundle_sequence(applied: &Applied) -> Option<u64> {
    applied.bundles.first().map(|bundle| bundle.sequence)
}

fn note_sequence(domain: &TrustDomain, sequence: Option<u64>) -> Result<(), Failure> {
    match sequence {
        Some(sequence) => output::note(format!("bundle of {domain}: sequence {sequence}")),
        None => output::note(format!("the bundle of {domain} is unchanged")),
    }
}

/// The anchor whose fingerprint starts with `prefix`; retired anchors do not count.
fn find_anchor<'r>(
    records: &'r Snapshot,
    domain: Option<&TrustDomain>,
    prefix: &str,
) -> Result<(&'r TrustDomain, &'r AnchorRecord), Failure> {
    let found: Vec<_> = anchors(records, domain, false)
        .filter(|(_, anchor)| hex(&anchor.sha256).starts_with(prefix))
        .collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let message = format!("no anchor in use has the fingerprint {prefix}");
            Err(Failure::new(Exit::Ledger, message).next("rootbridge anchors list"))
        }
        several => {
            let shown = several
                .iter()
                .map(|(domain, anchor)| format!("{} of {domain}", hex(&anchor.sha256)));
            let message = format!("{prefix} matches several anchors: {}", joined(shown, ", "));
            Err(Failure::new(Exit::Usage, message).next("give more digits, or --trust-domain"))
        }
    }
}

fn anchors<'r>(
    records: &'r Snapshot,
    domain: Option<&TrustDomain>,
    with_retired: bool,
) -> impl Iterator<Item = (&'r TrustDomain, &'r AnchorRecord)> {
    records
        .authorities
        .iter()
        .filter(move |authority| domain.is_none_or(|domain| *domain == authority.trust_domain))
        .flat_map(|authority| {
            let anchors = authority.anchors.iter();
            anchors.map(|anchor| (&authority.trust_domain, anchor))
        })
        .filter(move |(_, anchor)| with_retired || anchor.state != IssuerState::Retired)
}

fn objections(anchor: &Certificate) -> Vec<String> {
    let objections = anchor.objections(Position::Anchor).into_iter();
    objections.map(|each| each.to_string()).collect()
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let records = snapshot(&args.common.config.load()?)?;
    let anchors =
        anchors(&records, args.trust_domain.as_ref(), args.all).map(|(domain, anchor)| {
            let certificate = Certificate::parse(anchor.der.as_slice()).ok();
            (domain, anchor, certificate)
        });
    if args.common.format.is_json() {
        let rows = anchors.map(|(domain, anchor, certificate)| {
            json!({
                "trust_domain": domain.to_string(),
                "sha256": hex(&anchor.sha256),
                "subject": certificate.as_ref().map(Certificate::subject),
                "not_after": certificate.as_ref().map(|c| c.not_after().to_string()),
                "objections": certificate.as_ref().map(objections),
                "origin": anchor.origin.as_str(),
                "source": anchor.source,
                "state": anchor.state.as_str(),
                "expires_at": anchor.expires_at.map(|time| time.to_string()),
                "added_at": anchor.added_at.to_string(),
                "added_by": anchor.added_by,
                "retired_at": anchor.retired_at.map(|time| time.to_string()),
            })
        });
        return output::json(&rows.collect::<Vec<_>>());
    }
    let now = SystemClock.now();
    let rows = anchors.map(|(domain, anchor, certificate)| {
        let not_after = certificate.as_ref().map(Certificate::not_after);
        let until = anchor.expires_at.into_iter().chain(not_after).min();
        [
            ("TRUST DOMAIN", domain.to_string()),
            (
                "SUBJECT",
                or_empty(certificate.as_ref().map(Certificate::subject)),
            ),
            ("ORIGIN", anchor.origin.to_string()),
            ("STATE", anchor.state.to_string()),
            (
                "UNTIL",
                or_empty(until.map(|time| with_distance(time, now))),
            ),
            ("SOURCE", anchor.source.clone()),
            ("FINGERPRINT", format!("sha256:{}", hex(&anchor.sha256))),
        ]
    });
    output::table(rows, "no trust anchors")
}
