//! Linkerd: whether an issuer for its controller can be issued, and what `linkerd check` reports
//! about the authorities of its proxies.

use super::report::Report;
use crate::config::Config;
use crate::issuance::{NO_REMAINING_PATH_LEN, active_path, path_len_remedy};
use crate::ledger::Snapshot;
use crate::mesh::linkerd_check_problems;
use crate::x509::{Certificate, TrustDomain, remaining_path_len};

const CATEGORY: &str = "linkerd";

/// The authority of each listener with the Linkerd API.
pub(super) fn authorities(config: &Config, records: &Snapshot, report: &mut Report) {
    let listeners = config.listeners().iter();
    let mut domains: Vec<_> = listeners
        .filter_map(|listener| listener.linkerd()?.trust_domain())
        .collect();
    domains.dedup();
    for domain in domains {
        let Some((issuer, anchors)) = active_issuer_and_anchors(records, domain) else {
            continue;
        };
        let warnings = linkerd_check_problems(&issuer, &anchors);
        if warnings.is_empty() {
            report.pass(
                CATEGORY,
                domain.as_str(),
                "`linkerd check` supports its keys",
            );
        }
        for warning in warnings {
            report
                .warn(
                    CATEGORY,
                    domain.as_str(),
                    format!("{warning}; proxies accept it"),
                )
                .hint("nothing breaks: docs/how-to/linkerd.md lists what `linkerd check` reports");
        }
    }
}

/// The active issuing certificate, and the published anchors.
fn active_issuer_and_anchors(
    records: &Snapshot,
    domain: &TrustDomain,
) -> Option<(Certificate, Vec<Certificate>)> {
    let authority = records.authority(domain)?;
    let issuer = active_path(authority).ok()?.into_iter().next()?;
    let anchors = authority.bundle.as_ref()?.anchors.iter();
    let anchors = anchors.filter_map(|der| Certificate::parse(der.as_slice()).ok());
    Some((issuer, anchors.collect()))
}

/// Each `[linkerd_issuers.*]`, compared with the ledger's records.
pub(super) fn issuers(config: &Config, records: &Snapshot, report: &mut Report) {
    for issuer in config.controllers().linkerd_issuers() {
        let Some(cluster) = config.clusters().get(issuer.cluster()) else {
            continue;
        };
        let domain = cluster.trust_domain();
        let item = format!("issuer {}", issuer.name());
        let Some(authority) = records.authority(domain) else {
            let detail = format!("there is no authority for the trust domain {domain}");
            let hint = format!("rootbridge ca init --trust-domain {domain} --path-len 1");
            report.fail(CATEGORY, &item, detail).hint(hint);
            continue;
        };
        match active_path(authority).map(|path| remaining_path_len(&path)) {
            Ok(Some(0)) => report
                .fail(CATEGORY, &item, NO_REMAINING_PATH_LEN)
                .hint(path_len_remedy(domain)),
            Ok(_) => report.pass(CATEGORY, &item, "the issuing CA may have a CA below it"),
            Err(error) => report.error(CATEGORY, &item, error),
        }
    }
}
