//! Certification paths, trust bundles, and the clock.

use std::time::Duration;

use super::report::Report;
use crate::cli::format::{count, joined, short_duration, with_distance};
use crate::cli::name_constraints::ruled_out;
use crate::clock::UnixTime;
use crate::config::Config;
use crate::issuance::shortest_ttl;
use crate::ledger::{AuthorityRecord, Filter, IssuerRecord, IssuerState, Ledger, Role, Snapshot};
use crate::policy::Profile;
use crate::x509::{Certificate, Position, TrustDomain, verify_ca_path};

/// 2026-09-21, when this check was written: an earlier clock is wrong.
const EARLIEST_TIME: UnixTime = UnixTime::from_secs(1_790_000_000);
/// How far the newest record may be ahead of the clock.
const MAX_SKEW: Duration = Duration::from_secs(60);
/// How early the expiry of an anchor is a warning.
const ANCHOR_EXPIRY: Duration = Duration::from_secs(30 * 86_400);

/// The path of each authority from its issuing CA to a published anchor.
pub(super) fn chains(
    config: &Config,
    records: &Snapshot,
    profile: &Profile,
    now: UnixTime,
    report: &mut Report,
) {
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
                Ok(path) => {
                    remaining_validity(domain, &path, profile, now, report);
                    verifiers(config, &authority.trust_domain, &path, report);
                }
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
) -> Result<Vec<Certificate>, String> {
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
    let mut anchors = published
        .unwrap_or_default()
        .iter()
        .map(parse)
        .collect::<Result<Vec<_>, _>>()?;
    let path = verify_ca_path(&chain, &anchors, now).map_err(|error| error.to_string())?;
    chain.truncate(path.intermediates + 1);
    let anchor = anchors.swap_remove(path.anchor);
    // An adopted root is its own anchor.
    if chain.last() != Some(&anchor) {
        chain.push(anchor);
    }
    Ok(chain)
}

/// What verifiers refuse in the path, and configured names that its nameConstraints rule out.
fn verifiers(
    config: &Config,
    trust_domain: &TrustDomain,
    path: &[Certificate],
    report: &mut Report,
) {
    let domain = trust_domain.as_str();
    for (index, certificate) in path.iter().enumerate() {
        let position = match index + 1 == path.len() {
            true => Position::Anchor,
            false => Position::Intermediate,
        };
        for objection in certificate.objections(position) {
            let detail = format!("{}: {objection}", certificate.subject());
            match objection.verifier.is_of_meshes() {
                true => report.error("chain", domain, detail),
                false => {
                    report.warn("chain", domain, detail);
                }
            }
        }
    }
    for (name, why) in ruled_out(config, trust_domain, path) {
        report
            .fail(
                "chain",
                domain,
                format!("no certificate for {name} verifies: {why}"),
            )
            .hint("have the CA certified without that constraint, or configure another name");
    }
}

/// By the rule that requests meet: no certificate outlives any certificate of the path.
fn remaining_validity(
    domain: &str,
    path: &[Certificate],
    profile: &Profile,
    now: UnixTime,
    report: &mut Report,
) {
    let Some((issuing, earliest)) = path
        .first()
        .zip(path.iter().min_by_key(|each| each.not_after()))
    else {
        return;
    };
    let (not_after, remaining) = (earliest.not_after(), earliest.not_after().since(now));
    let lifetime = not_after.since(earliest.not_before());
    let mut detail = format!(
        "{} verifies, expires {}",
        issuing.subject(),
        with_distance(not_after, now)
    );
    if earliest != issuing {
        detail = format!("{detail}, with {} above it", earliest.subject());
    }
    let hint = "renew it: rootbridge ca request, then ca import";
    if remaining < shortest_ttl(profile.backdate()) {
        let detail = format!("{detail}: nothing is issued any more");
        report.fail("chain", domain, detail).hint(hint);
    } else if remaining < profile.default_ttl() {
        let detail = format!("{detail}: certificates do not get their default lifetime");
        report.warn("chain", domain, detail).hint(hint);
    } else if remaining < lifetime / 6 {
        report.warn("chain", domain, detail).hint(hint);
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
    let anchors = bundle
        .anchors
        .iter()
        .filter_map(|der| Certificate::parse(der.as_slice()).ok());
    for anchor in anchors {
        for objection in anchor.objections(Position::Anchor) {
            if objection.verifier.is_of_meshes() {
                let detail = format!("{}: {objection}", anchor.subject());
                report
                    .fail("bundle", domain, detail)
                    .hint("remove it: rootbridge anchors remove FINGERPRINT");
            }
        }
    }
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
    let detail = format!("sequence {}, {anchors}", bundle.sequence);
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
