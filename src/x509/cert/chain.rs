//! A chain or bundle of certificates in PEM.

use super::{CertError, Certificate};
use crate::x509::name::printable;
use crate::x509::pem::{self, PemError};

const MAX_BYTES: usize = 2 << 20;
/// Not fewer than a trust bundle may have.
const MAX_CERTIFICATES: usize = 500;

/// Reads the PEM certificates that a program wrote, in order and with repetitions, and skips text
/// between the blocks (RFC 7468 §2). What people supply is read by `read_certificates`.
///
/// # Errors
/// [`CertError`] when there is none, more than 500, more than 2 MiB, a block of another label (such
/// as a private key), or a certificate that does not parse; it names the certificate.
pub fn parse_pem_chain(pem: &[u8]) -> Result<Vec<Certificate>, CertError> {
    if pem.len() > MAX_BYTES {
        return Err(PemError::TooLarge {
            bytes: pem.len(),
            limit: MAX_BYTES,
        }
        .into());
    }
    let found = pem::blocks(pem, MAX_CERTIFICATES)?.blocks;
    if found.is_empty() {
        return Err(PemError::NoBlock {
            label: "CERTIFICATE",
        }
        .into());
    }
    found
        .into_iter()
        .enumerate()
        .map(|(index, block)| match block.label {
            "CERTIFICATE" | "X509 CERTIFICATE" => {
                Certificate::parse(block.der()?).map_err(|error| error.at(index + 1))
            }
            // Shows the label of a secret, never its contents.
            other => Err(PemError::Label {
                found: printable(other),
                wanted: "CERTIFICATE",
            }
            .into()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::x509::pem::{blocks, to_pem};

    #[test]
    fn says_what_is_wrong() {
        let fault = |pem: &str| parse_pem_chain(pem.as_bytes()).unwrap_err().to_string();
        assert!(fault("").contains("no CERTIFICATE block"));
        assert!(fault("a\n-----BEGIN X").contains("line 2: a PEM block's first line"));
        assert!(fault("-----BEGIN X-----\nAA==\n").contains("END"));
        assert!(fault("-----BEGIN X-----\nAA==\n-----END Y-----\n").contains("END"));
        assert!(
            fault("-----BEGIN CERTIFICATE-----\nA*==\n-----END CERTIFICATE-----\n")
                .contains("base64")
        );
        assert!(
            fault("-----BEGIN CERTIFICATE-----\nAB==\n-----END CERTIFICATE-----\n")
                .contains("base64")
        );
        let key = to_pem("EC PRIVATE KEY", b"secret");
        assert!(
            fault(&key).contains("\"EC PRIVATE KEY\""),
            "{}",
            fault(&key)
        );
        assert!(fault(&to_pem("CERTIFICATE", &[]).repeat(501)).contains("more than 500"));
        assert!(parse_pem_chain(&[0xff]).is_err());
        assert!(parse_pem_chain(&vec![b' '; MAX_BYTES + 1]).is_err());
        assert!(
            blocks(b"x\n-----BEGIN X-----AA==-----END X-----", 1)
                .unwrap()
                .other_text
        );
        assert!(
            blocks(b"-----BEGIN X-----AA==-----END X-----x", 1)
                .unwrap()
                .other_text
        );
    }
}
