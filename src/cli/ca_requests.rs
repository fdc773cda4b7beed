//! Requests to upstream CAs: what `ca list` shows of them, `ca cancel`, `ca retire` and
//! `anchors approve`.

use serde_json::{Value, json};

use super::config_arg::CommonArgs;
use super::failure::{Exit, Failure};
use super::format::{or_empty, with_distance};
use super::open::{actor, with_ledger};
use super::output;
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::digest::hex;
use crate::ledger::{
    AuthorityRecord, CaRequestChange, CaRequestRecord, CaRequestState, Change, IssuerId,
    IssuerState, Snapshot,
};
use crate::upstream::unexpired;
use crate::x509::{Certificate, TrustDomain};

#[derive(Debug, clap::Args)]
pub(super) struct CancelArgs {
    /// The trust domain whose request to its upstream CA ends.
    #[arg(value_name = "TRUST_DOMAIN")]
    trust_domain: TrustDomain,
    /// Why, for the records.
    #[arg(long, value_name = "TEXT", default_value = "cancelled by an operator")]
    reason: String,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RetireArgs {
    /// The issuer, as `ca list` names it.
    #[arg(value_name = "ISSUER")]
    issuer: IssuerId,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct ApproveArgs {
    /// SHA-256 of the root, all 64 digits: compare it with what the CA's administrators say.
    #[arg(value_name = "FINGERPRINT")]
    fingerprint: String,
    /// The trust domain. Default: every one with a request that waits for this root.
    #[arg(long, value_name = "TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn cancel(args: &CancelArgs) -> Result<(), Failure> {
    let config = args.common.config.load()?;
    let domain = &args.trust_domain;
    let request = with_ledger(&config, async |ledger| {
        let records = ledger.snapshot().await?;
        let open = records
            .authority(domain)
            .and_then(AuthorityRecord::open_request);
        let open = open.ok_or_else(|| {
            let message = format!("no request of {domain} to an upstream CA is in flight");
            Failure::new(Exit::Ledger, message).next("rootbridge ca list")
        })?;
        let change = CaRequestChange::End {
            request: open.id,
            state: CaRequestState::Cancelled,
            reason: args.reason.clone(),
        };
        ledger.apply(Change::Request(change), &actor()).await?;
        Ok(open.clone())
    })?;
    if args.common.format.is_json() {
        return output::json(&json!({ "cancelled": request.id.get() }));
    }
    let (id, upstream) = (request.id, &request.upstream);
    output::line(format!(
        "cancelled request {id} of {domain} to upstream {upstream}"
    ))?;
    output::note(
        "a running server makes another one after upstream.NAME.after_refusal, with a new key",
    )
}

pub(super) fn retire(args: &RetireArgs) -> Result<(), Failure> {
    let config = args.common.config.load()?;
    let id = &args.issuer;
    with_ledger(&config, async |ledger| {
        let now = SystemClock.now();
        if let Some(end) = unexpired(ledger, id, now).await? {
            let message = format!(
                "issuer {id} has certificates that have not expired, one until {end}: they would \
                 verify no longer where a peer relies on the records of this server"
            );
            return Err(Failure::new(Exit::Failed, message).next(format!(
                "rootbridge cert list --issuer {id} --expires-after now"
            )));
        }
        let change = Change::SetIssuerState {
            issuer: id.clone(),
            state: IssuerState::Retired,
        };
        ledger.apply(change, &actor()).await?;
        Ok(())
    })?;
    if args.common.format.is_json() {
        return output::json(&json!({ "retired": id.to_string() }));
    }
    output::line(format!("retired issuer {id}"))
}

pub(super) fn approve(args: &ApproveArgs) -> Result<(), Failure> {
    let given = args.fingerprint.to_ascii_lowercase().replace(':', "");
    let sha256 = given.strip_prefix("sha256").unwrap_or(&given);
    if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let message = "an approval needs the whole fingerprint, 64 hexadecimal digits: part of one is \
                       easily made to match";
        return Err(Failure::new(Exit::Usage, message).next("rootbridge ca list"));
    }
    let config = args.common.config.load()?;
    let approved = with_ledger(&config, async |ledger| {
        let records = ledger.snapshot().await?;
        let waiting: Vec<_> = waiting(&records)
            .filter(|(domain, ..)| {
                args.trust_domain
                    .as_ref()
                    .is_none_or(|only| only == *domain)
            })
            .filter(|(_, _, root)| hex(&root.fingerprint()) == sha256)
            .collect();
        if waiting.is_empty() {
            let roots = self::waiting(&records).map(|(domain, _, root)| {
                format!("{domain} waits for sha256:{}", fingerprint(&root))
            });
            let roots: Vec<_> = roots.collect();
            let waits = match roots.is_empty() {
                true => "no request waits for a root".to_owned(),
                false => roots.join(", "),
            };
            let message = format!("no request waits for the root sha256:{sha256}: {waits}");
            return Err(Failure::new(Exit::Ledger, message).next("rootbridge ca list"));
        }
        let mut changes = Vec::new();
        for (domain, request, root) in &waiting {
            changes.push(Change::ApproveAnchor {
                trust_domain: (*domain).clone(),
                der: root.der().to_vec(),
                source: format!("upstream {}, request {}", request.upstream, request.id),
            });
        }
        ledger.apply(Change::All(changes), &actor()).await?;
        let approved = waiting.into_iter();
        Ok(approved
            .map(|(domain, _, root)| (domain.clone(), root.subject()))
            .collect::<Vec<_>>())
    })?;
    if args.common.format.is_json() {
        let domains = approved.iter().map(|(domain, _)| domain.to_string());
        let domains: Vec<_> = domains.collect();
        return output::json(&json!({ "approved": sha256, "trust_domains": domains }));
    }
    for (domain, subject) in &approved {
        output::line(format!("approved `{subject}` for {domain}"))?;
    }
    output::note(
        "a running server uses the certificates below it as soon as workloads have the root",
    )
}

/// The requests whose certificates wait for their root, with it.
fn waiting(
    records: &Snapshot,
) -> impl Iterator<Item = (&TrustDomain, &CaRequestRecord, Certificate)> {
    records.authorities.iter().filter_map(|authority| {
        let open = authority.open_request()?;
        let root = open.certificates.last()?;
        let root = Certificate::parse(root.as_slice()).ok()?;
        (open.state == CaRequestState::Received).then_some((&authority.trust_domain, open, root))
    })
}

fn fingerprint(root: &Certificate) -> String {
    hex(&root.fingerprint())
}

/// The requests in flight, below the table of `ca list`.
pub(super) fn show_open(records: &Snapshot, now: UnixTime) -> Result<(), Failure> {
    let open = records
        .authorities
        .iter()
        .filter_map(|authority| Some((authority, authority.open_request()?)));
    let mut rows = open
        .map(|(authority, open)| {
            [
                ("TRUST DOMAIN", authority.trust_domain.to_string()),
                ("REQUEST", open.id.to_string()),
                ("UPSTREAM", open.upstream.clone()),
                ("STATE", open.state.to_string()),
                ("SINCE", with_distance(open.created_at, now)),
                ("REFERENCE", or_empty(open.reference.clone())),
                ("NEXT ATTEMPT", with_distance(open.next_attempt_at, now)),
                ("PROBLEM", or_empty(open.problem.clone())),
            ]
        })
        .peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    output::line("")?;
    output::table(rows, "")
}

/// Of an issuer's own request, if one is in flight.
pub(super) fn open_json(authority: &AuthorityRecord, issuer: &IssuerId) -> Option<Value> {
    let open = authority.open_request()?;
    (open.issuer.as_ref() == Some(issuer)).then(|| {
        json!({
            "id": open.id.get(),
            "upstream": open.upstream,
            "state": open.state.as_str(),
            "reference": open.reference,
            "problem": open.problem,
            "attempts": open.attempts,
            "next_attempt_at": open.next_attempt_at.to_string(),
            "created_at": open.created_at.to_string(),
            "changed_at": open.changed_at.to_string(),
        })
    })
}
