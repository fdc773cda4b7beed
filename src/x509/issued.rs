//! The last look at what was signed: what came back is what was granted, and its signature holds.

use super::algorithm::SignatureAlgorithm;
use super::cert::Purposes;
use super::cert::{CertError, Certificate, assemble};
use super::extension::{BasicConstraints, KeyUsage};
use super::key::{KeyError, KeyKind, PublicKey};
use super::san::San;
use super::serial::Serial;
use super::tbs::{CaTemplate, ExtendedKeyUsage, IssuerIdentity, LeafTemplate};
use crate::clock::UnixTime;

/// What was granted, to be compared with what was made.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The serial number.
    pub serial: &'a Serial,
    /// Who signed.
    pub issuer: &'a IssuerIdentity,
    /// The subject's Name in DER.
    pub subject_der: &'a [u8],
    /// The names, in order.
    pub names: &'a [San],
    /// The certified key.
    pub public_key: &'a PublicKey,
    /// The first second of its validity.
    pub not_before: UnixTime,
    /// The last second of its validity.
    pub not_after: UnixTime,
    /// When the issuer's own certificate ends; `None` for a root, which has no issuer above it.
    pub issuer_not_after: Option<UnixTime>,
    /// What sort of certificate it is.
    pub role: ExpectedRole,
}

/// An end entity or a CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedRole {
    /// An end entity, for servers, clients or both.
    Leaf(ExtendedKeyUsage),
    /// A CA.
    Ca {
        /// How many CAs may stand below it.
        path_len: Option<u8>,
    },
}

impl<'a> Expected<'a> {
    /// What a leaf made from `template` must say.
    pub fn leaf(template: &LeafTemplate<'a>, issuer_not_after: UnixTime) -> Self {
        Self {
            serial: template.serial,
            issuer: template.issuer,
            subject_der: b"\x30\x00",
            names: template.names,
            public_key: template.public_key,
            not_before: template.not_before,
            not_after: template.not_after,
            issuer_not_after: Some(issuer_not_after),
            role: ExpectedRole::Leaf(template.usage),
        }
    }

    /// What a CA certificate made from `template` must say.
    pub fn ca(template: &CaTemplate<'a>, issuer_not_after: Option<UnixTime>) -> Self {
        Self {
            serial: template.serial,
            issuer: template.issuer,
            subject_der: template.subject_der,
            names: template.names,
            public_key: template.public_key,
            not_before: template.not_before,
            not_after: template.not_after,
            issuer_not_after,
            role: ExpectedRole::Ca {
                path_len: template.path_len,
            },
        }
    }
}

/// Checks a certificate that was parsed again after it was signed: it holds `tbs`, which is on
/// record, byte for byte; each of its fields is what was granted; the signature verifies in software.
///
/// # Errors
/// [`IssuedError`] names the first thing that differs. Such a certificate must not leave.
pub fn check_issued(
    certificate: &Certificate,
    tbs: &[u8],
    issuer_key: &PublicKey,
    expected: &Expected<'_>,
) -> Result<(), IssuedError> {
    let same = |is: bool, field: &'static str| {
        if is {
            Ok(())
        } else {
            Err(IssuedError::Differs { field })
        }
    };
    same(certificate.tbs_der() == tbs, "TBSCertificate")?;
    same(certificate.serial() == expected.serial, "serialNumber")?;
    let algorithm = Some(expected.issuer.algorithm);
    same(
        certificate.signature_algorithm() == algorithm,
        "signatureAlgorithm",
    )?;
    same(
        certificate.issuer_der() == expected.issuer.name_der,
        "issuer",
    )?;
    same(certificate.subject_der() == expected.subject_der, "subject")?;
    same(certificate.not_before() == expected.not_before, "notBefore")?;
    same(certificate.not_after() == expected.not_after, "notAfter")?;
    if expected
        .issuer_not_after
        .is_some_and(|end| certificate.not_after() > end)
    {
        return Err(IssuedError::OutlivesIssuer);
    }
    same(
        certificate.public_key() == expected.public_key,
        "subjectPublicKeyInfo",
    )?;
    check_extensions(certificate, expected)?;
    certificate
        .verify_signed_by(issuer_key)
        .map_err(IssuedError::Signature)
}

fn check_extensions(certificate: &Certificate, expected: &Expected<'_>) -> Result<(), IssuedError> {
    let same = |is: bool, field: &'static str| {
        if is {
            Ok(())
        } else {
            Err(IssuedError::Differs { field })
        }
    };
    let found = &certificate.extensions;
    same(
        certificate.names() == expected.names && !found.other_names,
        "subjectAltName",
    )?;
    let subject_key_id = expected.public_key.key_id();
    same(
        certificate.subject_key_id() == Some(&subject_key_id),
        "subjectKeyIdentifier",
    )?;
    let authority_key_id = Some(expected.issuer.key_id.as_slice());
    same(
        certificate.authority_key_id() == authority_key_id,
        "authorityKeyIdentifier",
    )?;
    // RFC 5280 §4.2.1.6: critical where the subject is empty, as a leaf's is, and else not.
    let (basic, usage, purposes, count, critical) = match expected.role {
        ExpectedRole::Leaf(usage) => (
            BasicConstraints {
                ca: false,
                path_len: None,
            },
            match expected.public_key.kind() {
                KeyKind::Rsa { .. } => KeyUsage::DIGITAL_SIGNATURE.with(KeyUsage::KEY_ENCIPHERMENT),
                _ => KeyUsage::DIGITAL_SIGNATURE,
            },
            Some(Purposes {
                server_auth: usage.server_auth,
                client_auth: usage.client_auth,
                any: false,
                other: false,
            }),
            6,
            true,
        ),
        ExpectedRole::Ca { path_len } => (
            BasicConstraints { ca: true, path_len },
            KeyUsage::KEY_CERT_SIGN.with(KeyUsage::CRL_SIGN),
            None,
            4 + usize::from(!expected.names.is_empty()),
            false,
        ),
    };
    same(found.basic == Some(basic), "basicConstraints")?;
    same(found.key_usage == Some(usage), "keyUsage")?;
    same(found.purposes == purposes, "extKeyUsage")?;
    same(
        found.names.is_empty() || found.names_critical == critical,
        "subjectAltName's criticality",
    )?;
    same(found.count == count, "number of extensions")
}

/// Checks a certification request of our own that was just signed: it holds `info`, which is on
/// record, byte for byte, and its signature verifies.
///
/// # Errors
/// [`IssuedError`] when it does not.
pub fn check_request(
    der: &[u8],
    info: &[u8],
    algorithm: SignatureAlgorithm,
    signature: &[u8],
    key: &PublicKey,
) -> Result<(), IssuedError> {
    if assemble(info, algorithm, signature).map_err(IssuedError::Signature)? != der {
        return Err(IssuedError::Differs {
            field: "CertificationRequestInfo",
        });
    }
    key.verify(algorithm, info, signature)
        .map_err(|e: KeyError| IssuedError::Signature(e.into()))
}

/// Why something that was signed must not leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuedError {
    /// A field is not what was granted.
    #[error("the signed certificate's {field} is not what was granted; it is not released")]
    Differs {
        /// The field, by its name in RFC 5280.
        field: &'static str,
    },
    /// It would be valid for longer than its issuer.
    #[error("the signed certificate outlives its issuer; it is not released")]
    OutlivesIssuer,
    /// The signature does not hold.
    #[error("what came back from the token does not verify: {0}; it is not released")]
    Signature(#[source] CertError),
}
