//! Requests to upstream CAs.

use super::report::Report;
use crate::cli::format::with_distance;
use crate::clock::UnixTime;
use crate::ledger::{AuthorityRecord, CaRequestState, Snapshot};

/// The request of each authority that is in flight. One that only the upstream CA can end is no fault.
pub(super) fn requests(records: &Snapshot, now: UnixTime, report: &mut Report) {
    let open = records.authorities.iter();
    let open = open.filter_map(|each| Some((each, AuthorityRecord::open_request(each)?)));
    for (authority, request) in open {
        let domain = authority.trust_domain.as_str();
        let since = with_distance(request.created_at, now);
        let detail = format!(
            "request {} to {} is {} since {since}{}{}",
            request.id,
            request.upstream,
            request.state,
            named(", reference ", request.reference.as_ref()),
            named(": ", request.problem.as_ref())
        );
        match (request.state, &request.problem) {
            (CaRequestState::Received, _) | (_, Some(_)) => {
                let finding = report.warn("upstream", domain, detail);
                finding.hint("rootbridge ca list");
            }
            _ => report.pass("upstream", domain, detail),
        }
    }
}

fn named(before: &str, text: Option<&String>) -> String {
    text.map(|text| format!("{before}{text}"))
        .unwrap_or_default()
}
