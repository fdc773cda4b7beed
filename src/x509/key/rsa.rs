//! The size and exponent of RSA keys.

use der::Tag;

use super::error::KeyError;
use crate::x509::read::{self, DerReader};

/// What RSA keys may be.
#[derive(Clone, Copy)]
pub(super) struct RsaLimits {
    max_bits: u16,
    min_exponent: u64,
    max_exponent: u64,
}

impl RsaLimits {
    pub(super) const CERTIFIED: Self = Self {
        max_bits: 4096,
        min_exponent: 65537,
        max_exponent: u32::MAX as u64,
    };
    /// What Go, BoringSSL, rustls and OpenSSL all verify with.
    pub(super) const FOREIGN: Self = Self {
        max_bits: 8192,
        min_exponent: 3,
        max_exponent: i32::MAX as u64,
    };
}

/// Checks an RSAPublicKey (RFC 8017 §A.1.1) and returns the size of its modulus.
pub(super) fn bits(key: &[u8], limits: RsaLimits) -> Result<u16, KeyError> {
    const STRUCTURE: &str = "RSAPublicKey";
    let mut fields = DerReader::within(key, Tag::Sequence, STRUCTURE)?;
    let modulus = read::unsigned(fields.expect(Tag::Integer)?, STRUCTURE)?;
    let exponent = read::unsigned(fields.expect(Tag::Integer)?, STRUCTURE)?;
    fields.finish()?;
    let first_octet = modulus.first().copied().unwrap_or_default();
    let bits = (modulus.len() * 8)
        .saturating_sub(usize::try_from(first_octet.leading_zeros()).unwrap_or(0));
    let bits = u16::try_from(bits)
        .ok()
        .filter(|bits| (2048..=limits.max_bits).contains(bits))
        .ok_or(KeyError::RsaSize {
            bits,
            max: limits.max_bits,
        })?;
    if modulus.last().is_none_or(|low| low % 2 == 0) {
        return Err(KeyError::RsaModulusEven);
    }
    // aws-lc accepts exponents of up to 33 bits; larger ones only slow down verification.
    let value = match exponent.len() {
        0..=4 => exponent
            .iter()
            .fold(0u64, |value, octet| value << 8 | u64::from(*octet)),
        _ => {
            return Err(KeyError::RsaExponent {
                exponent: "more than 32 bits".into(),
                min: limits.min_exponent,
                max: limits.max_exponent,
            });
        }
    };
    if value < limits.min_exponent || value > limits.max_exponent || value % 2 == 0 {
        return Err(KeyError::RsaExponent {
            exponent: value.to_string(),
            min: limits.min_exponent,
            max: limits.max_exponent,
        });
    }
    Ok(bits)
}
