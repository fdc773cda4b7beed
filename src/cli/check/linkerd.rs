//! Linkerd: whether an issuer for its controller can be made, and what its own check will say of the
//! authorities that its proxies get certificates from.

use super::report::Report;
use crate::config::Config;
use crate::issuance::{NO_REMAINING_PATH_LEN, active_path, path_len_remedy};
use crate::ledger::Snapshot;
use crate::mesh::what_linkerd_check_says;
use crate::x509::{Certificate, TrustDomain, remaining_path_len};

const CATEGORY: &str = "linkerd";

/// Each Linkerd listener's authority.
pub(super) fn authorities(config: &Config, records: &Snapshot, report: &mut Report) {
    let listeners = config.listeners().iter();
    let mut domains: Vec<_> = listeners
        .filter_map(|listener| listener.linkerd()?.trust_domain())
        .collect();
    domains.dedup();
    for domain in domains {
        let Some((issuer, anchors)) = active_issuer(records, domain) else {
            continue;
        };
        let said = what_linkerd_check_says(&issuer, &anchors);
        if said.is_empty() {
            report.pass(CATEGORY, domain.as_str(), "`linkerd check` knows its keys");
        }
        for each in said {
            let what = format!("{each}; proxies take it");
            report
                .warn(CATEGORY, domain.as_str(), &what)
                .hint("nothing breaks: docs/how-to/linkerd.md lists what `linkerd check` says");
        }
    }
}

/// The certificate that signs now, and the published anchors.
fn active_issuer(
    records: &Snapshot,
    domain: &TrustDomain,
) -> Option<(Certificate, Vec<Certificate>)> {
    let authority = records.authority(domain)?;
    let issuer = active_path(authority).ok()?.into_iter().next()?;
    let anchors = authority.bundle.as_ref()?.anchors.iter();
    let anchors = anchors.filter_map(|der| Certificate::parse(der.as_slice()).ok());
    Some((issuer, anchors.collect()))
}

/// Each `[linkerd_issuers.*]` by the records.
pub(super) fn issuers(config: &Config, records: &Snapshot, report: &mut Report) {
    for issuer in config.controllers().linkerd_issuers() {
        let Some(cluster) = config.clusters().get(issuer.cluster()) else {
            continue;
        };
        let domain = cluster.trust_domain();
        let item = format!("issuer {}", issuer.name());
        let Some(authority) = records.authority(domain) else {
            let what = format!("there is no authority for the trust domain {domain}");
            report.fail(CATEGORY, &item, &what).hint(&format!(
                "rootbridge ca init --trust-domain {domain} --path-len 1"
            ));
            continue;
        };
        match active_path(authority).map(|path| remaining_path_len(&path)) {
            Ok(Some(0)) => {
                report
                    .fail(CATEGORY, &item, NO_REMAINING_PATH_LEN)
                    .hint(&path_len_remedy(domain));
            }
            Ok(_) => report.pass(CATEGORY, &item, "the issuing CA may have a CA below it"),
            Err(why) => {
                report.fail(CATEGORY, &item, &why.to_string());
            }
        }
    }
}
