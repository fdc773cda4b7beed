//! Callers that renew by certificate, and whose renewals end soon.

use std::collections::BTreeSet;
use std::time::Duration;

use super::report::Report;
use crate::authn::{ClientCertificatesConfig, is_due_soon};
use crate::cli::format::{count, joined, with_distance};
use crate::clock::UnixTime;
use crate::config::Config;
use crate::ledger::{CallerMethod, Filter, Kind, Ledger, LedgerError, State};
use crate::x509::TrustDomain;

const CATEGORY: &str = "callers";
const ITEM: &str = "renewals by certificate";
/// How many certificates are looked at, the newest of those that are valid.
const MOST: usize = 10_000;
const PAGE: u32 = 1000;
/// How many callers are named.
const NAMED: usize = 5;

/// Warns of callers that must present a token again soon, or are refused already.
pub(super) async fn ends(config: &Config, ledger: &dyn Ledger, now: UnixTime, report: &mut Report) {
    let listeners = config.listeners().iter();
    let accepting = listeners.filter_map(|each| each.callers().client_certificates());
    let accepting: Vec<_> = accepting.collect();
    if accepting.is_empty() {
        return;
    }
    match find(&accepting, ledger, now).await {
        Err(error) => report.error(CATEGORY, ITEM, error),
        Ok(found) if found.is_empty() => {
            report.pass(CATEGORY, ITEM, "nobody must present a token again soon");
        }
        Ok(mut found) => {
            found.sort_by_key(|(_, end)| *end);
            let named = found.iter().take(NAMED);
            let named = named.map(|(name, end)| format!("{name} by {}", with_distance(*end, now)));
            let more = if found.len() > NAMED { ", …" } else { "" };
            let detail = format!(
                "{} must present a token again: {}{more}",
                count(found.len(), "caller"),
                joined(named, ", ")
            );
            report.warn(CATEGORY, ITEM, detail).hint(
                "afterwards their renewals are refused (client_certificates.reauthenticate_after)",
            );
        }
    }
}

/// The callers with a valid certificate, and when their renewals end.
async fn find(
    accepting: &[&ClientCertificatesConfig],
    ledger: &dyn Ledger,
    now: UnixTime,
) -> Result<Vec<(String, UnixTime)>, LedgerError> {
    let mut filter = Filter {
        kind: Some(Kind::Leaf),
        state: Some(State::Issued),
        expires_after: Some(now),
        limit: PAGE,
        ..Filter::default()
    };
    let (mut seen, mut read, mut found) = (BTreeSet::new(), 0, Vec::new());
    while read < MOST {
        let rows = ledger.certificates(filter.clone()).await?;
        let Some(last) = rows.last() else { break };
        filter.before_id = Some(last.id);
        read += rows.len();
        for row in &rows {
            // The newest certificate of a caller has what its renewals inherit.
            if !seen.insert(row.subject.clone()) || row.caller.method != CallerMethod::Certificate {
                continue;
            }
            let longest = longest(accepting, &row.caller.trust_domain);
            if let (Some(at), Some(after)) = (row.caller.token_authenticated_at, longest)
                && is_due_soon(at, after, now)
            {
                found.push((row.caller.identity.clone(), at.plus(after)));
            }
        }
    }
    Ok(found)
}

/// Of the listeners that accept its certificates, the one that does so for longest.
fn longest(accepting: &[&ClientCertificatesConfig], domain: &TrustDomain) -> Option<Duration> {
    let of_domain = accepting
        .iter()
        .filter(|config| config.trust_domains().contains(domain));
    of_domain.map(|config| config.reauthenticate_after()).max()
}
