//! Certificates and times, as people read them.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::digest::hex;
use crate::x509::Certificate;

/// SHA-256 of the certificate, lower-case hexadecimal.
pub(super) fn fingerprint(certificate: &Certificate) -> String {
    hex(&certificate.fingerprint())
}

/// `1 anchor`, `2 anchors`.
pub(super) fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// Whether `now` is within the certificate's validity.
pub(super) fn validity(certificate: &Certificate, now: UnixTime) -> &'static str {
    if now < certificate.not_before() {
        "not yet valid"
    } else if now > certificate.not_after() {
        "expired"
    } else {
        "valid"
    }
}

/// A moment with its distance from `now`: `2026-11-22T18:00:00Z (in 3days 4h)`.
pub(super) fn with_distance(at: UnixTime, now: UnixTime) -> String {
    if at >= now {
        format!("{at} (in {})", short_duration(at.since(now)))
    } else {
        format!("{at} ({} ago)", short_duration(now.since(at)))
    }
}

/// A span in its two largest units.
pub(super) fn short_duration(span: Duration) -> String {
    let secs = span.as_secs();
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let at = units
        .iter()
        .position(|(_, unit)| secs >= *unit)
        .unwrap_or(3);
    let mut rest = secs;
    let parts: Vec<String> = units
        .iter()
        .skip(at)
        .take(2)
        .filter_map(|(name, unit)| {
            let count = rest / unit;
            rest %= unit;
            (count > 0).then(|| format!("{count}{name}"))
        })
        .collect();
    if parts.is_empty() {
        "0s".to_owned()
    } else {
        parts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_rough() {
        for (secs, shown) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (86_400, "1d"),
            (90_061, "1d 1h"),
        ] {
            assert_eq!(short_duration(Duration::from_secs(secs)), shown);
        }
    }
}
