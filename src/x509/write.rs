//! Writing of DER.

use std::time::Duration;

use der::DateTime;

use crate::clock::UnixTime;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// Appends an element whose contents are the concatenated `parts`.
pub(super) fn tlv(out: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum();
    header(out, tag, length);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 + parts.iter().map(|part| part.len()).sum::<usize>());
    tlv(&mut out, tag, parts);
    out
}

/// Appends a tag and the shortest form of a length (X.690 §10.1).
pub(super) fn header(out: &mut Vec<u8>, tag: u8, length: usize) {
    out.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let octets = length.to_be_bytes();
            let zeros = octets.iter().take_while(|octet| **octet == 0).count();
            // At most eight octets: the count fits beside the marker bit.
            out.push(0x80 | u8::try_from(octets.len() - zeros).unwrap_or(0));
            out.extend(octets.iter().skip(zeros));
        }
    }
}

/// Appends a non-negative INTEGER, given without leading zeros.
pub(super) fn unsigned(out: &mut Vec<u8>, octets: &[u8]) {
    let pad: &[u8] = match octets.first() {
        Some(first) if *first < 0x80 => &[],
        _ => &[0],
    };
    tlv(out, INTEGER, &[pad, octets]);
}

/// Appends a BIT STRING of whole octets.
pub(super) fn bit_string(out: &mut Vec<u8>, octets: &[u8]) {
    tlv(out, BIT_STRING, &[&[0], octets]);
}

/// Appends a Time: UTCTime through 2049, GeneralizedTime from 2050 (RFC 5280 §4.1.2.5). Before 1970
/// or after 9999 it appends nothing and returns `None`.
pub(super) fn time(out: &mut Vec<u8>, at: UnixTime) -> Option<()> {
    let since = Duration::from_secs(u64::try_from(at.secs()).ok()?);
    let date = DateTime::from_unix_duration(since).ok()?;
    let utc = date.year() < 2050;
    let year = if utc { date.year() % 100 } else { date.year() };
    let (tag, digits) = if utc {
        (UTC_TIME, 2)
    } else {
        (GENERALIZED_TIME, 4)
    };
    header(out, tag, digits + 11);
    decimal(out, year, digits);
    for field in [
        date.month(),
        date.day(),
        date.hour(),
        date.minutes(),
        date.seconds(),
    ] {
        decimal(out, u16::from(field), 2);
    }
    out.push(b'Z');
    Some(())
}

fn decimal(out: &mut Vec<u8>, number: u16, digits: usize) {
    for divisor in [1000u16, 100, 10, 1].iter().skip(4 - digits) {
        // A digit fits in an octet.
        out.push(b'0' + u8::try_from(number / divisor % 10).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )]
    use super::*;

    #[test]
    fn lengths_take_their_shortest_form() {
        for (length, head) in [
            (0, &[0x04, 0x00][..]),
            (127, &[0x04, 0x7f]),
            (128, &[0x04, 0x81, 0x80]),
            (255, &[0x04, 0x81, 0xff]),
            (256, &[0x04, 0x82, 0x01, 0x00]),
            (65536, &[0x04, 0x83, 0x01, 0x00, 0x00]),
        ] {
            let out = element(OCTET_STRING, &[&vec![0; length]]);
            assert!(
                out.starts_with(head) && out.len() == head.len() + length,
                "{length}"
            );
        }
    }

    #[test]
    fn times_change_form_in_2050() {
        let text = |secs| {
            let mut out = Vec::new();
            time(&mut out, UnixTime::from_secs(secs)).map(|()| {
                (
                    out[0],
                    usize::from(out[1]),
                    String::from_utf8(out[2..].to_vec()).unwrap(),
                )
            })
        };
        assert_eq!(text(0), Some((UTC_TIME, 13, "700101000000Z".into())));
        assert_eq!(
            text(1_790_000_000),
            Some((UTC_TIME, 13, "260921141320Z".into()))
        );
        assert_eq!(
            text(2_524_607_999),
            Some((UTC_TIME, 13, "491231235959Z".into()))
        );
        assert_eq!(
            text(2_524_608_000),
            Some((GENERALIZED_TIME, 15, "20500101000000Z".into()))
        );
        assert_eq!(
            text(253_402_300_799),
            Some((GENERALIZED_TIME, 15, "99991231235959Z".into()))
        );
        assert_eq!(text(253_402_300_800), None);
        assert_eq!(text(-1), None);
    }

    #[test]
    fn integers_stay_positive() {
        let mut out = Vec::new();
        unsigned(&mut out, &[0x80]);
        unsigned(&mut out, &[0x7f]);
        assert_eq!(out, [2, 2, 0, 0x80, 2, 1, 0x7f]);
    }
}
