//! The certificates of listeners that come from files, read as the server reads them.

use super::report::Report;
use crate::cli::format::with_distance;
use crate::clock::UnixTime;
use crate::config::Config;
use crate::mesh::CertificatePair;

const CATEGORY: &str = "listeners";

pub(super) fn files(config: &Config, now: UnixTime, report: &mut Report) {
    for listener in config.listeners() {
        let Some((certificate, key)) = listener.tls().files() else {
            continue;
        };
        let name = listener.name();
        let for_linkerd = listener.linkerd().is_some();
        match CertificatePair::read(certificate, key, for_linkerd) {
            Ok(pair) => validity(name, &pair, now, report),
            Err(error) => report.error(CATEGORY, name, error),
        }
    }
}

fn validity(name: &str, pair: &CertificatePair, now: UnixTime, report: &mut Report) {
    const RENEW: &str = "replace certificate_file and key_file; a running server reads them again";
    if let Some(problem) = pair.not_valid(now) {
        report.fail(CATEGORY, name, problem).hint(RENEW);
        return;
    }
    let Some(leaf) = pair.leaf() else {
        report.pass(CATEGORY, name, "certificate and key belong together");
        return;
    };
    let (from, until) = (leaf.not_before(), leaf.not_after());
    let detail = format!("the certificate expires {}", with_distance(until, now));
    if until.since(now) < until.since(from) / 6 {
        report.warn(CATEGORY, name, detail).hint(RENEW);
    } else {
        report.pass(CATEGORY, name, detail);
    }
}
