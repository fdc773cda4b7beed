//! What a file holds that should hold certificates, and how to convert it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::element::{self, Element};
use super::pkcs7::SIGNED_DATA;
use crate::x509::pem::Block;

/// A format that is not a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    Empty,
    PrivateKey,
    EncryptedPrivateKey,
    PublicKey,
    Request,
    Crl,
    OcspResponse,
    /// Of a key's algorithm.
    Parameters,
    /// OpenSSL's own, with trust settings after the certificate.
    TrustedCertificate,
    /// PKCS#7 with certificates, which is read.
    SignedData,
    /// PKCS#7 of another kind.
    OtherPkcs7,
    Pkcs12,
    JavaKeystore,
    /// Of Windows (.sst).
    SerializedStore,
    SshPublicKey,
    SshPrivateKey,
    Pgp,
    /// A certificate in base64, without PEM's lines.
    BareBase64,
    /// PEM that is encoded a second time, as in a Secret.
    Base64OfPem,
    /// PEM whose line breaks are written `\n`.
    EscapedPem,
    /// What `openssl x509 -text` prints.
    CertificateAsText,
    Html,
    Json,
    Archive,
    Text,
    Binary,
}

impl Format {
    /// By the label of a PEM block; `None` for those whose contents decide.
    pub(super) fn of_block(block: &Block<'_>) -> Option<Self> {
        Some(match block.label {
            _ if block.is_encrypted() => Self::EncryptedPrivateKey,
            "CERTIFICATE" | "X509 CERTIFICATE" | "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS" => {
                return None;
            }
            "TRUSTED CERTIFICATE" => Self::TrustedCertificate,
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Self::Request,
            "X509 CRL" => Self::Crl,
            "ENCRYPTED PRIVATE KEY" => Self::EncryptedPrivateKey,
            "OPENSSH PRIVATE KEY" => Self::SshPrivateKey,
            "EC PARAMETERS" | "DH PARAMETERS" | "DSA PARAMETERS" => Self::Parameters,
            label if label.starts_with("PGP ") => Self::Pgp,
            label if label.ends_with("PRIVATE KEY") => Self::PrivateKey,
            label if label.ends_with("PUBLIC KEY") => Self::PublicKey,
            _ => Self::Binary,
        })
    }

    /// By the structure of a DER value; `None` for a certificate, and for what may be a damaged one.
    pub(super) fn of_value(value: &[u8]) -> Option<Self> {
        let (outer, _) = element::next(value)?;
        let fields: Vec<Element<'_>> = element::each(outer.contents)
            .map(|(element, _)| element)
            .take(4)
            .collect();
        let tags: Vec<u8> = fields.iter().map(|field| field.tag).collect();
        let first = fields.first().copied();
        let integer = |number: u8| first.is_some_and(|field| field.contents == [number]);
        Some(match tags.as_slice() {
            [0x06, 0xa0, ..] if first.is_some_and(|oid| oid.contents == SIGNED_DATA) => {
                Self::SignedData
            }
            [0x06, 0xa0, ..] => Self::OtherPkcs7,
            [0x02, 0x30, ..] if integer(3) => Self::Pkcs12,
            [0x02, 0x30, 0x04, ..] | [0x02, 0x04, ..] | [0x02, 0x02, 0x02, 0x02] => {
                Self::PrivateKey
            }
            [0x02, 0x02] => Self::PublicKey,
            [0x30, 0x04] => Self::EncryptedPrivateKey,
            [0x30, 0x03] => Self::PublicKey,
            [0x0a, ..] => Self::OcspResponse,
            [0x30, 0x30, 0x03] => return Self::of_signed(first?),
            _ => return None,
        })
    }

    /// By the first fields of what is signed: a certificate has a serial number and an algorithm
    /// before its issuer.
    fn of_signed(to_be_signed: Element<'_>) -> Option<Self> {
        let tags: Vec<u8> = element::each(to_be_signed.contents)
            .map(|(element, _)| element.tag)
            .take(4)
            .collect();
        match tags.as_slice() {
            [0x02, 0x30, 0x30] | [0x02, 0x30, 0x30, 0xa0] => Some(Self::Request),
            [0x02, 0x30, 0x30, 0x17 | 0x18] | [0x30, 0x30, 0x17 | 0x18, ..] => Some(Self::Crl),
            _ => None,
        }
    }

    /// PEM whose line breaks are written as two characters, by the end of its first line.
    pub(super) fn of_escaped(text: &[u8]) -> Option<Self> {
        const BEGIN: &[u8] = b"-----BEGIN ";
        let start = text.windows(BEGIN.len()).position(|part| part == BEGIN)?;
        let label = text.get(start + BEGIN.len()..)?;
        let end = label.iter().position(|octet| *octet == b'-')?;
        let after = label.get(end..)?;
        after.starts_with(b"-----\\n").then_some(Self::EscapedPem)
    }

    /// By the first octets of a file that is neither PEM nor DER.
    pub(super) fn of_text(file: &[u8]) -> Self {
        let trimmed = file.trim_ascii();
        let trimmed = trimmed
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(trimmed)
            .trim_ascii();
        let starts = |with: &[u8]| trimmed.starts_with(with);
        let head = trimmed.get(..trimmed.len().min(512)).unwrap_or_default();
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        if trimmed.is_empty() || trimmed.iter().all(|octet| *octet == 0) {
            return Self::Empty;
        }
        if starts(b"\xfe\xed\xfe\xed") || starts(b"\xce\xce\xce\xce") {
            return Self::JavaKeystore;
        }
        if file.starts_with(b"\0\0\0\0CERT") {
            return Self::SerializedStore;
        }
        if starts(b"PK\x03\x04") || starts(b"\x1f\x8b") || starts(b"7z\xbc\xaf") {
            return Self::Archive;
        }
        if head.starts_with('<') {
            return Self::Html;
        }
        if head.starts_with("ssh-") || head.starts_with("ecdsa-sha2-") || head.starts_with("sk-") {
            return Self::SshPublicKey;
        }
        if head.starts_with("---- begin ssh2") {
            return Self::SshPublicKey;
        }
        if head.starts_with("certificate:") {
            return Self::CertificateAsText;
        }
        if head.starts_with('{') || head.starts_with('[') {
            return Self::Json;
        }
        if let Some(found) = Self::of_base64(trimmed) {
            return found;
        }
        let text = std::str::from_utf8(file).is_ok_and(|text| !text.contains('\0'));
        if text { Self::Text } else { Self::Binary }
    }

    fn of_base64(text: &[u8]) -> Option<Self> {
        let packed: Vec<u8> = text
            .iter()
            .copied()
            .filter(|octet| !octet.is_ascii_whitespace())
            .collect();
        let decoded = STANDARD.decode(packed).ok()?;
        if decoded.starts_with(b"-----BEGIN") {
            return Some(Self::Base64OfPem);
        }
        element::sequence(&decoded).map(|_| Self::BareBase64)
    }

    pub(super) fn is_private_key(self) -> bool {
        matches!(self, Self::PrivateKey | Self::EncryptedPrivateKey)
    }

    /// What to do instead. `FILE` stands for the file.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::Empty => "was the command that wrote it successful?",
            Self::PrivateKey => {
                "keep it out of the reach of others, and take the certificates alone: \
                 openssl crl2pkcs7 -nocrl -certfile FILE | openssl pkcs7 -print_certs -out certificates.pem"
            }
            Self::EncryptedPrivateKey => {
                "Rootbridge takes no key with a passphrase: openssl pkey -in FILE -out plain.key"
            }
            Self::PublicKey => "ask the CA for the certificate; a public key has no issuer",
            Self::Request => {
                "this is what the CA receives: send it, and import the certificate that it issues"
            }
            Self::Crl => "a CRL lists revoked certificates; the CA's certificate is another file",
            Self::OcspResponse | Self::Parameters | Self::SignedData => return None,
            Self::TrustedCertificate => {
                "take the certificate alone: openssl x509 -in FILE -out certificate.pem"
            }
            Self::OtherPkcs7 => "export it again as PKCS#7 with the chain (.p7b), not encrypted",
            Self::Pkcs12 => {
                "take its certificates: openssl pkcs12 -in FILE -nokeys -out certificates.pem"
            }
            Self::JavaKeystore => {
                "take a certificate: keytool -exportcert -rfc -keystore FILE -alias ALIAS -file \
                 certificate.pem"
            }
            Self::SerializedStore => {
                "export from certmgr.msc as PKCS#7 (.p7b), or take one: certutil -split -dump FILE"
            }
            Self::SshPublicKey | Self::SshPrivateKey => "SSH keys have no X.509 certificates",
            Self::Pgp => "OpenPGP keys have no X.509 certificates",
            Self::BareBase64 => {
                "decode it: base64 -d FILE > certificate.der, which is read as it is"
            }
            Self::Base64OfPem => "decode it: base64 -d FILE > certificates.pem",
            Self::EscapedPem => "write them out: printf '%b' \"$(cat FILE)\" > certificates.pem",
            Self::CertificateAsText => {
                "the certificate itself is missing: have it exported as PEM (openssl x509 -in … -out …)"
            }
            Self::Html => {
                "is it a login or error page? download the certificate again, and look at what came"
            }
            Self::Json => "take the field with the PEM: jq -r .FIELD FILE > certificates.pem",
            Self::Archive => "unpack it first",
            Self::Text | Self::Binary => {
                "PEM (-----BEGIN CERTIFICATE-----), DER and PKCS#7 (.p7b) are read"
            }
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "nothing",
            Self::PrivateKey => "a private key",
            Self::EncryptedPrivateKey => "an encrypted private key",
            Self::PublicKey => "a public key",
            Self::Request => "a certificate request (CSR)",
            Self::Crl => "a certificate revocation list (CRL)",
            Self::OcspResponse => "an OCSP response",
            Self::Parameters => "parameters of a key",
            Self::TrustedCertificate => "a certificate with OpenSSL's trust settings",
            Self::SignedData => "PKCS#7",
            Self::OtherPkcs7 => "PKCS#7 that is not SignedData",
            Self::Pkcs12 => "PKCS#12 (.p12, .pfx)",
            Self::JavaKeystore => "a Java keystore (JKS)",
            Self::SerializedStore => "a certificate store of Windows (.sst)",
            Self::SshPublicKey => "an SSH public key",
            Self::SshPrivateKey => "an SSH private key",
            Self::Pgp => "OpenPGP data",
            Self::BareBase64 => "base64 without PEM's BEGIN and END lines",
            Self::Base64OfPem => "PEM that is encoded in base64 once more, as in a Secret",
            Self::EscapedPem => "PEM whose line breaks are written as \\n",
            Self::CertificateAsText => "the description of a certificate",
            Self::Html => "HTML or XML",
            Self::Json => "JSON",
            Self::Archive => "an archive",
            Self::Text => "text without a PEM block",
            Self::Binary => "data in a format that is not known",
        })
    }
}
