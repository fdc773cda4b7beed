//! Certification paths, trust bundles, and the clock.

use std::time::Duration;

use super::report::Report;
use crate::cli::format::{count, joined, short_duration, with_distance};
use crate::clock::UnixTime;
use crate::ledger::{AuthorityRecord, Filter, IssuerRecord, IssuerState, Ledger, Role, Snapshot};
use crate::x509::{Certificate, verify_ca_path};

/// 2026-09-21, when this check was written: an earlier clock is wrong.
const EARLIEST_TIME: UnixTime = UnixTime::from_secs(1_790_000_000);
/// How far the newest record may be ahead of the clock.
const MAX_SKEW: Duration = Duration::from_secs(60);
/// How early the expiry of an anchor is a warning.
const ANCHOR_EXPIRY: Duration = Duration::from_secs(30 * 86_400);

/// The path of each authority from its issuing CA to a published anchor.
pub(super) fn chains(records: &Snapshot, now: UnixTime, report: &mut Report) {
    if records.authorities.is_empty() {
        report
            .fail("chain", "authorities", "there is no authority yet")
            .hint("rootbridge ca init --trust-domain TRUST_DOMAIN");
    }
    for authority in &records.authorities {
        let domain = authority.trust_domain.as_str();
        let mut active = authority
            .issuers
            .iter()
            .filter(|issuer| issuer.role == Role::Issuing && issuer.state == IssuerState::Active)
            .peekable();
        if active.peek().is_none() {
            report
                .fail("chain", domain, "no issuing CA is active")
                .hint("rootbridge ca init, or rootbridge ca import for a pending ca request");
        }
        for issuer in active {
            match verified_issuer(authority, issuer, now) {
                Ok(certificate) => remaining_validity(domain, &certificate, now, report),
                Err(error) => report.error("chain", domain, error),
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
    let detail = format!(
        "{} verifies, expires {}",
        certificate.subject(),
        with_distance(certificate.not_after(), now)
    );
    if remaining < lifetime / 6 {
        report
            .warn("chain", domain, detail)
            .hint("renew it: rootbridge ca request, then ca import");
    } else {
        report.pass("chain", domain, detail);
    }
}

fn bundle(authority: &AuthorityRecord, now: UnixTime, report: &mut Report) {
    let domain = authority.trust_domain.as_str();
    let Some(bundle) = &authority.bundle else {
        report.error("bundle", domain, "no trust bundle is published");
        return;
    };
    let soon = now.plus(ANCHOR_EXPIRY);
    let expiring: Vec<String> = bundle
        .anchors
        .iter()
        .filter_map(|der| Certificate::parse(der.as_slice()).ok())
        .filter(|anchor| anchor.not_after() < soon)
        .map(|anchor| {
            let expires = with_distance(anchor.not_after(), now);
            format!("{} expires {expires}", anchor.subject())
        })
        .collect();
    let anchors = count(bundle.anchors.len(), "trust anchor");
    let detail = format!("version {}, {anchors}", bundle.sequence);
    if expiring.is_empty() {
        report.pass("bundle", domain, detail);
    } else {
        let detail = format!("{detail}; {}", joined(expiring, "; "));
        report.warn("bundle", domain, detail);
    }
}

/// Compares the clock with the date of this program and with the newest record.
pub(super) async fn clock(ledger: &dyn Ledger, now: UnixTime, report: &mut Report) {
    if now < EARLIEST_TIME {
        report
            .fail(
                "clock",
                "time",
                format!("the clock says {now}, which is wrong"),
            )
            .hint("set the clock (NTP): certificates would not be valid yet, or no longer");
        return;
    }
    let newest = Filter {
        limit: 1,
        ..Filter::default()
    };
    let rows = ledger.certificates(newest).await.unwrap_or_default();
    match rows.first().map(|row| row.recorded_at) {
        Some(last) if last > now.plus(MAX_SKEW) => {
            let ahead = short_duration(last.since(now));
            let detail = format!("the newest record is {ahead} ahead of the clock");
            report
                .fail("clock", "time", detail)
                .hint("the clock went back, or was ahead: compare it with NTP");
        }
        _ => report.pass("clock", "time", now),
    }
}
