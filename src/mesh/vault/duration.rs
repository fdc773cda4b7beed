//! Durations as Go writes them, and Vault's clients: `72h0m0s`, `86400`, `30d`.

use std::time::Duration;

/// Zero for an empty text; `None` when it is malformed, negative or too large.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return Some(Duration::ZERO);
    }
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "ns" => Duration::from_nanos(1),
            "us" | "µs" => Duration::from_micros(1),
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86_400),
            _ => return None,
        };
        let part = match number.parse::<u32>() {
            Ok(count) => unit.checked_mul(count)?,
            Err(_) => {
                let count = number.parse::<f64>().ok()?;
                Duration::try_from_secs_f64(unit.as_secs_f64() * count).ok()?
            }
        };
        sum = sum.checked_add(part)?;
        rest = after;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_durations_are_read() {
        let millis = |text| parse_duration(text).map(|span| span.as_millis());
        for (text, expected) in [
            ("", Some(0)),
            ("0", Some(0)),
            ("60", Some(60_000)),
            ("72h0m0s", Some(72 * 3_600_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5h", Some(5_400_000)),
            ("250ms", Some(250)),
            ("30d", Some(30 * 86_400_000)),
            ("h", None),
            ("1", Some(1000)),
            ("1x", None),
            ("1h2", None),
            ("-1h", None),
            ("1.2.3h", None),
            ("99999999999999999999h", None),
            ("1e300", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }
}
