//! Serial numbers (RFC 5280 §4.1.2.2).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand;

use crate::clock::UnixTime;

/// The most octets of a serial number that are taken from a foreign certificate.
const MAX_OCTETS: usize = 20;
/// 2020-01-01T00:00:00Z.
const EPOCH: i64 = 1_577_836_800;

/// A serial number: not negative, at most 20 octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial {
    // Length first, so that the derived order is the order of the numbers.
    length: u8,
    octets: [u8; MAX_OCTETS],
}

impl Serial {
    /// A fresh serial number: four octets of seconds since 2020, then sixteen random octets.
    ///
    /// Time comes first so that the ledger's unique index is appended to, not scattered over; the
    /// 128 random bits are twice what the CA/Browser Forum asks.
    pub fn new(now: UnixTime) -> Self {
        let mut octets = [0u8; MAX_OCTETS];
        let since = u32::try_from(now.secs().saturating_sub(EPOCH).max(0)).unwrap_or(u32::MAX);
        // The top bit stays clear, so that the INTEGER is positive in exactly 20 octets.
        let time = (since & 0x7fff_ffff).to_be_bytes();
        let (first, random) = octets.split_at_mut(4);
        first.copy_from_slice(&time);
        // aws-lc's generator ends the process itself rather than give bad bytes, so this never fires;
        // going on with a serial that can be guessed would be worse than stopping.
        #[allow(clippy::expect_used)]
        rand::fill(random).expect("aws-lc's random generator does not fail");
        Self::minimal(octets, MAX_OCTETS)
    }

    /// From the octets of a non-negative number, most significant first.
    ///
    /// # Errors
    /// [`SerialError`] when there are none, or more than 20 after leading zeros.
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
        let Some(room) = octets.get_mut(..significant.len()) else {
            return Err(SerialError::TooLong {
                octets: significant.len(),
            });
        };
        room.copy_from_slice(significant);
        Ok(Self::minimal(octets, significant.len()))
    }

    /// The number's octets, most significant first, without leading zeros (zero itself is one octet).
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

    /// Left-aligns `octets`, of which the first `length` count, without leading zeros.
    fn minimal(octets: [u8; MAX_OCTETS], length: usize) -> Self {
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
    /// Lower-case hexadecimal without separators, two digits for each octet.
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

    /// Reads hexadecimal of either case; colons, as openssl prints them, are skipped.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
            .ok_or(SerialError::NotHex)?;
        // An odd number of digits has half an octet in front.
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

/// Why octets or digits are not a serial number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// Nothing there.
    #[error("the serial number is empty")]
    Empty,
    /// Below zero.
    #[error("the serial number is negative (RFC 5280 §4.1.2.2)")]
    Negative,
    /// A longer encoding than needed.
    #[error("the serial number's INTEGER has a needless leading zero (X.690 §8.3.2)")]
    LeadingZero,
    /// More than 20 octets.
    #[error("the serial number has {octets} octets; RFC 5280 allows 20")]
    TooLong {
        /// How many.
        octets: usize,
    },
    /// Another character than a digit or a colon.
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
        // A clock before 2020, or past 2088, still gives a positive number.
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
