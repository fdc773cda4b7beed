//! Who may use the API `admin`.

use std::collections::BTreeSet;

use super::raw::RawListener;
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::x509::SpiffeId;

/// Checks the key `admins`: whole names, so that nobody becomes one by a name that matches.
pub(super) fn check(raw: &RawListener, serves: bool) -> Result<BTreeSet<String>, ConfigIssues> {
    let mut issues = ConfigIssues::default();
    issues.require(
        serves || raw.admins.is_empty(),
        "admins",
        "is for the API `admin`, which is not among `apis`",
    );
    for name in &raw.admins {
        let is_subject = name
            .strip_prefix("subject:")
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(verifier, sub)| {
                raw.jwt.iter().any(|each| each == verifier) && !sub.is_empty()
            });
        let is_workload = SpiffeId::parse(name).is_ok_and(|id| !id.path().is_empty());
        if !is_subject && !is_workload {
            let problem = format_args!("`{}` is no caller of this listener", name.escape_default());
            let fix = "write spiffe://TRUST_DOMAIN/ns/NS/sa/SA, or subject:NAME:SUB with NAME of `jwt`; \
                       operators are in `operators`";
            issues.push(ConfigIssue::new("admins", problem).with_fix(fix));
        }
    }
    let nobody = serves && raw.admins.is_empty() && raw.operators.is_empty();
    issues.require(
        !nobody,
        "admins",
        "nobody may use the API `admin`: name callers here, or operators in `operators`",
    );
    issues.into_result(Some(raw.admins.iter().cloned().collect()))
}
