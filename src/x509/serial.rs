//! Serial numbers (RFC 5280 §4.1.2.2).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand;

use crate::clock::UnixTime;

/// The longest serial number (RFC 5280 §4.1.2.2).
const MAX_OCTETS: usize = 20;
/// 2020-01-01T00:00:00Z.
const EPOCH: i64 = 1_577_836_800;

/// A serial number: not negative, at most 20 octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial {
    // First, so that the derived order is the numbers' order.
    length: u8,
    octets: [u8; MAX_OCTETS],
}

impl Serial {
    /// A new serial number: four octets of seconds since 2020, then sixteen random octets.
    ///
    /// The time comes first so that the ledger's unique index grows at its end. The CA/Browser
    /// Forum requires half as many random bits.
    pub fn new(now: UnixTime) -> Self {
        let mut octets = [0u8; MAX_OCTETS];
        let since = u32::try_from(now.secs().saturating_sub(EPOCH).max(0)).unwrap_or(u32::MAX);
        // The top bit is clear, so the INTEGER is positive and has exactly 20 octets.
        let time = (since & 0x7fff_ffff).to_be_bytes();
        let (first, random) = octets.split_at_mut(4);
        first.copy_from_slice(&time);
        // aws-lc's generator ends the process rather than fail. A predictable serial number would
        // be worse than a panic.
        #[allow(clippy::expect_used)]
        rand::fill(random).expect("aws-lc's random generator does not fail");
        Self::left_aligned(octets, MAX_OCTETS)
    }

    /// From the octets of a non-negative number, most significant first.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SerialError> {
        if bytes.is_empty() {
            return Err(SerialError::Empty);
        }
        let start = bytes
            .iter()
            .position(|byte| *byte != 0)
            .unwrap_or(bytes.len() - 1);
        let significant = bytes.get(start..).unwrap_or_default();
        let mut octets = [0u8; MAX_OCTETS];
        let Some(target) = octets.get_mut(..significant.len()) else {
            return Err(SerialError::TooLong {
                octets: significant.len(),
            });
        };
        target.copy_from_slice(significant);
        Ok(Self::left_aligned(octets, significant.len()))
    }

    /// Most significant first, without leading zeros; zero is one octet.
    pub fn as_bytes(&self) -> &[u8] {
        self.octets
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// From the contents of a DER INTEGER.
    pub(super) fn from_integer(contents: &[u8]) -> Result<Self, SerialError> {
        match contents {
            [first, ..] if *first >= 0x80 => Err(SerialError::Negative),
            [0, second, ..] if *second < 0x80 => Err(SerialError::LeadingZero),
            _ => Self::from_bytes(contents),
        }
    }

    /// Left-aligns the first `length` of `octets`, without leading zeros.
    fn left_aligned(octets: [u8; MAX_OCTETS], length: usize) -> Self {
        let zeros = octets
            .iter()
            .take(length.saturating_sub(1))
            .take_while(|o| **o == 0)
            .count();
        let mut aligned = [0u8; MAX_OCTETS];
        for (to, from) in aligned
            .iter_mut()
            .zip(octets.iter().take(length).skip(zeros))
        {
            *to = *from;
        }
        // MAX_OCTETS is 20: it fits.
        Self {
            length: u8::try_from(length - zeros).unwrap_or(0),
            octets: aligned,
        }
    }
}

impl fmt::Display for Serial {
    /// Lower-case hex without separators, two digits for each octet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    /// Reads hex of either case and skips colons, which openssl prints.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
            .ok_or(SerialError::NotHex)?;
        // With an odd number of digits, the first is half an octet.
        let (head, pairs) = digits.split_at(digits.len() % 2);
        let octets: Vec<u8> = head
            .iter()
            .copied()
            .chain(
                pairs
                    .chunks_exact(2)
                    .map(|pair| pair.iter().fold(0, |o, d| o << 4 | d)),
            )
            .collect();
        Self::from_bytes(&octets)
    }
}

/// Why a serial number is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    #[error("the serial number is empty")]
    Empty,
    #[error("the serial number is negative (RFC 5280 §4.1.2.2)")]
    Negative,
    #[error("the serial number's INTEGER has a redundant leading zero (X.690 §8.3.2)")]
    LeadingZero,
    #[error("the serial number has {octets} octets; RFC 5280 allows 20")]
    TooLong { octets: usize },
    #[error("a serial number is written in hexadecimal digits, with or without colons")]
    NotHex,
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
    fn a_new_serial_is_positive_and_ordered_by_time() {
        let at = |secs| Serial::new(UnixTime::from_secs(secs));
        let (early, late) = (at(1_790_000_000), at(1_790_000_001));
        assert_eq!(early.as_bytes().len(), 20);
        assert!(early < late);
        assert_ne!(at(1_790_000_000), early);
        // A clock before 2020 or after 2088 still gives a positive number.
        for secs in [
            i64::MIN,
            0,
            EPOCH,
            EPOCH + 0x7fff_ffff,
            EPOCH + 0x8000_0001,
            i64::MAX,
        ] {
            let serial = at(secs);
            assert!(serial.as_bytes()[0] < 0x80 || serial.as_bytes().len() < 20);
            assert_ne!(serial.as_bytes()[0], 0);
        }
    }

    #[test]
    fn text_and_octets_agree() {
        let serial: Serial = "0A:bc:01".parse().unwrap();
        assert_eq!(serial.to_string(), "0abc01");
        assert_eq!(serial, Serial::from_bytes(&[0, 0, 0x0a, 0xbc, 1]).unwrap());
        assert_eq!("abc".parse::<Serial>().unwrap().to_string(), "0abc");
        assert_eq!("0".parse::<Serial>().unwrap().as_bytes(), [0]);
        assert!(Serial::from_bytes(&[0xff]).unwrap() < Serial::from_bytes(&[1, 0]).unwrap());
        for text in ["", ":", "xyz", "0x10", "-1", &"f".repeat(42)] {
            assert!(text.parse::<Serial>().is_err(), "{text}");
        }
        assert_eq!(Serial::from_integer(&[0x80]), Err(SerialError::Negative));
        assert!(Serial::from_integer(&[[0].as_slice(), &[0xff; 20]].concat()).is_ok());
    }
}
