//! Chains, bundles, and the clock.

use std::time::Duration;

use super::report::Report;
use crate::cli::format::{count, short_duration, with_distance};
use crate::clock::UnixTime;
use crate::ledger::{AuthorityRecord, Filter, IssuerRecord, IssuerState, Ledger, Role, Snapshot};
use crate::x509::{Certificate, verify_ca_path};

/// No clock is before the day this was written.
const EARLIEST_TIME: UnixTime = UnixTime::from_secs(1_790_000_000);
/// How far clocks of a mesh may be apart without harm.
const MAX_SKEW: Duration = Duration::from_secs(60);

/// Each authority's way from what signs leaves up to what workloads trust.
pub(super) fn chains(records: &Snapshot, now: UnixTime, report: &mut Report) {
    if records.authorities.is_empty() {
        report
            .fail("chain", "authorities", "there is no authority yet")
            .hint("rootbridge ca init --trust-domain TRUST_DOMAIN");
    }
    for authority in &records.authorities {
        let domain = authority.trust_domain.as_str();
        let active: Vec<_> = authority
            .issuers
            .iter()
            .filter(|issuer| issuer.role == Role::Issuing && issuer.state == IssuerState::Active)
            .collect();
        if active.is_empty() {
            report
                .fail("chain", domain, "no issuing CA is active")
                .hint("rootbridge ca init, or rootbridge ca import with the answer to ca request");
        }
        for issuer in active {
            match verified_issuer(authority, issuer, now) {
                Ok(certificate) => remaining_validity(domain, &certificate, now, report),
                Err(why) => {
                    report.fail("chain", domain, &why);
                }
            }
        }
        bundle(authority, now, report);
    }
}

fn verified_issuer(
    authority: &AuthorityRecord,
    issuer: &IssuerRecord,
    now: UnixTime,
) -> Result<Certificate, String> {
    let newest = issuer
        .certificates
        .iter()
        .rfind(|c| c.state == IssuerState::Active);
    let newest = newest.ok_or("the active issuing CA has no active certificate")?;
    let parse = |der: &Vec<u8>| Certificate::parse(der.as_slice()).map_err(|e| e.to_string());
    let mut chain = vec![parse(&newest.der)?];
    for above in &newest.path {
        chain.push(parse(above)?);
    }
    let published = authority
        .bundle
        .as_ref()
        .map(|bundle| bundle.anchors.as_slice());
    let anchors = published
        .unwrap_or_default()
        .iter()
        .map(parse)
        .collect::<Result<Vec<_>, _>>()?;
    verify_ca_path(&chain, &anchors, now).map_err(|error| error.to_string())?;
    Ok(chain.swap_remove(0))
}

fn remaining_validity(domain: &str, certificate: &Certificate, now: UnixTime, report: &mut Report) {
    let remaining = certificate.not_after().since(now);
    let lifetime = certificate.not_after().since(certificate.not_before());
    let said = format!(
        "{} verifies, expires {}",
        certificate.subject(),
        with_distance(certificate.not_after(), now)
    );
    if remaining < lifetime / 6 {
        report
            .warn("chain", domain, &said)
            .hint("renew it: rootbridge ca request, then ca import");
    } else {
        report.pass("chain", domain, &said);
    }
}

fn bundle(authority: &AuthorityRecord, now: UnixTime, report: &mut Report) {
    let domain = authority.trust_domain.as_str();
    let Some(bundle) = &authority.bundle else {
        report.fail("bundle", domain, "no trust bundle is published");
        return;
    };
    let soon = now.plus(Duration::from_secs(30 * 86_400));
    let expiring: Vec<String> = bundle
        .anchors
        .iter()
        .filter_map(|der| Certificate::parse(der.as_slice()).ok())
        .filter(|anchor| anchor.not_after() < soon)
        .map(|anchor| {
            format!(
                "{} expires {}",
                anchor.subject(),
                with_distance(anchor.not_after(), now)
            )
        })
        .collect();
    let anchors = count(bundle.anchors.len(), "trust anchor");
    let said = format!("version {}, {anchors}", bundle.sequence);
    if expiring.is_empty() {
        report.pass("bundle", domain, &said);
    } else {
        report.warn(
            "bundle",
            domain,
            &format!("{said}; {}", expiring.join("; ")),
        );
    }
}

/// The clock against this program and against what was recorded last.
pub(super) async fn clock(ledger: &dyn Ledger, now: UnixTime, report: &mut Report) {
    if now < EARLIEST_TIME {
        report
            .fail(
                "clock",
                "time",
                &format!("the clock says {now}, which cannot be"),
            )
            .hint("set the clock (NTP): certificates would not be valid yet, or no longer");
        return;
    }
    let last = ledger
        .certificates(Filter {
            limit: 1,
            ..Filter::default()
        })
        .await;
    let last = last
        .ok()
        .and_then(|rows| rows.first().map(|row| row.recorded_at));
    match last {
        Some(last) if last > now.plus(MAX_SKEW) => {
            let ahead = short_duration(last.since(now));
            report
                .fail(
                    "clock",
                    "time",
                    &format!("the last record is {ahead} ahead of the clock"),
                )
                .hint("the clock went back, or was ahead: compare it with NTP");
        }
        _ => report.pass("clock", "time", &now.to_string()),
    }
}
