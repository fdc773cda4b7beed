//! Whether an issuer for Linkerd's controller can be made at all.

use super::report::Report;
use crate::config::Config;
use crate::issuance::{NO_ROOM, make_room, room_below_active};
use crate::ledger::Snapshot;

const CATEGORY: &str = "linkerd";

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
        match room_below_active(authority) {
            Ok(Some(0)) => {
                report
                    .fail(CATEGORY, &item, NO_ROOM)
                    .hint(&make_room(domain));
            }
            Ok(_) => report.pass(CATEGORY, &item, "the issuing CA may have a CA below it"),
            Err(why) => {
                report.fail(CATEGORY, &item, &why.to_string());
            }
        }
    }
}
