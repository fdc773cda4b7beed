//! Certificates, times and numbers as text for people.

use std::fmt::Display;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::digest::hex;
use crate::x509::Certificate;

/// SHA-256 of the DER, lower-case hexadecimal.
pub(super) fn fingerprint(certificate: &Certificate) -> String {
    hex(&certificate.fingerprint())
}

/// The values as one PEM text.
pub(super) fn pem(certificates: &[Certificate]) -> String {
    certificates.iter().map(Certificate::to_pem).collect()
}

/// `1 anchor`, `2 anchors`.
pub(super) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

/// The value, or nothing.
pub(super) fn or_empty(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

pub(super) fn joined<T: Display>(values: impl IntoIterator<Item = T>, separator: &str) -> String {
    let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
    values.join(separator)
}

pub(super) fn validity(certificate: &Certificate, now: UnixTime) -> &'static str {
    if now < certificate.not_before() {
        "not yet valid"
    } else if now > certificate.not_after() {
        "expired"
    } else {
        "valid"
    }
}

/// A time and its distance from `now`: `2026-11-22T18:00:00Z (in 3d 4h)`.
pub(super) fn with_distance(time: UnixTime, now: UnixTime) -> String {
    if time >= now {
        format!("{time} (in {})", short_duration(time.since(now)))
    } else {
        format!("{time} ({} ago)", short_duration(now.since(time)))
    }
}

/// The two largest units, as in `1d 3h`. `jiff` prints all of them, and rounds to one.
pub(super) fn short_duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    let units = [
        (secs / 86_400, "d"),
        (secs / 3600 % 24, "h"),
        (secs / 60 % 60, "m"),
        (secs % 60, "s"),
    ];
    let shown = units
        .iter()
        .skip_while(|(number, _)| *number == 0)
        .take(2)
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"));
    match joined(shown, " ") {
        none if none.is_empty() => "0s".to_owned(),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_two_units() {
        for (secs, shown) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (86_400, "1d"),
            (86_460, "1d"),
            (90_061, "1d 1h"),
        ] {
            assert_eq!(short_duration(Duration::from_secs(secs)), shown);
        }
    }
}
