//! The check between signing and release: the signed certificate is what was granted. It reads the
//! parsed certificate and shares no code with the encoder.

use super::algorithm::SignatureAlgorithm;
use super::cert::{CertError, Certificate, assemble};
use super::certificate_spec::{CertificateSpec, SubjectSpec};
use super::extension::{BasicConstraints, KeyUsage};
use super::key::{KeyKind, PublicKey};
use super::path::name_ruled_out;

/// Checks a certificate that was parsed again after it was signed: it holds `tbs`, the bytes on
/// record, each field is what `spec` says, and the signature verifies in software.
///
/// # Errors
/// [`IssuedError`] names the first difference. Such a certificate must not be released.
pub fn check_issued(
    certificate: &Certificate,
    tbs: &[u8],
    spec: &CertificateSpec,
) -> Result<(), IssuedError> {
    let issuer = &spec.issuer;
    same(certificate.tbs_der() == tbs, "TBSCertificate")?;
    same(certificate.serial() == &spec.serial, "serialNumber")?;
    same(
        certificate.signature_algorithm() == Some(issuer.algorithm),
        "signatureAlgorithm",
    )?;
    same(certificate.issuer_der() == issuer.name_der, "issuer")?;
    let subject_der = match &spec.subject {
        SubjectSpec::EndEntity(_) => b"\x30\x00",
        SubjectSpec::Ca { name_der, .. } | SubjectSpec::OtherCa { name_der, .. } => {
            name_der.as_slice()
        }
    };
    same(certificate.subject_der() == subject_der, "subject")?;
    same(certificate.not_before() == spec.not_before, "notBefore")?;
    same(certificate.not_after() == spec.not_after, "notAfter")?;
    if issuer
        .not_after
        .is_some_and(|not_after| certificate.not_after() > not_after)
    {
        return Err(IssuedError::OutlivesIssuer);
    }
    same(
        certificate.public_key() == &spec.public_key,
        "subjectPublicKeyInfo",
    )?;
    check_extensions(certificate, spec)?;
    certificate
        .verify_signed_by(&issuer.public_key)
        .map_err(IssuedError::Signature)
}

/// Checks that verifiers accept each name that the signed certificate has below `path`, which ends with
/// its anchor.
///
/// # Errors
/// [`IssuedError::NameRuledOut`].
pub fn check_names<'a>(
    certificate: &Certificate,
    path: impl IntoIterator<Item = &'a Certificate>,
) -> Result<(), IssuedError> {
    let path: Vec<&Certificate> = path.into_iter().collect();
    let ruled_out = certificate.names().iter().find_map(|name| {
        let why = name_ruled_out(name, path.iter().copied())?;
        Some((name.to_string(), why))
    });
    match ruled_out {
        Some((name, why)) => Err(IssuedError::NameRuledOut { name, why }),
        None => Ok(()),
    }
}

fn check_extensions(certificate: &Certificate, spec: &CertificateSpec) -> Result<(), IssuedError> {
    let found = &certificate.extensions;
    same(
        certificate.names() == spec.names && !found.other_names,
        "subjectAltName",
    )?;
    same(
        certificate.subject_key_id() == Some(&spec.subject.key_id(&spec.public_key)),
        "subjectKeyIdentifier",
    )?;
    same(
        certificate.authority_key_id() == Some(&spec.issuer.key_id),
        "authorityKeyIdentifier",
    )?;
    let (basic, key_usage, extended, count) = match spec.subject {
        SubjectSpec::EndEntity(extended) => (
            BasicConstraints {
                ca: false,
                path_len: None,
            },
            match spec.public_key.kind() {
                KeyKind::Rsa { .. } => KeyUsage::DIGITAL_SIGNATURE.with(KeyUsage::KEY_ENCIPHERMENT),
                _ => KeyUsage::DIGITAL_SIGNATURE,
            },
            Some(extended),
            6,
        ),
        SubjectSpec::Ca { path_len, .. } | SubjectSpec::OtherCa { path_len, .. } => (
            BasicConstraints { ca: true, path_len },
            KeyUsage::KEY_CERT_SIGN.with(KeyUsage::CRL_SIGN),
            None,
            4 + usize::from(!spec.names.is_empty()),
        ),
    };
    same(found.basic_constraints == Some(basic), "basicConstraints")?;
    same(found.key_usage == Some(key_usage), "keyUsage")?;
    same(found.extended_key_usage == extended, "extKeyUsage")?;
    // RFC 5280 §4.2.1.6: critical where the subject is empty, and not critical elsewhere.
    let critical = !basic.ca;
    same(
        found.names.is_empty() || found.names_critical == critical,
        "subjectAltName's criticality",
    )?;
    same(found.count == count, "number of extensions")
}

fn same(is_same: bool, field: &'static str) -> Result<(), IssuedError> {
    if is_same {
        Ok(())
    } else {
        Err(IssuedError::Differs { field })
    }
}

/// Checks a certification request for one of the authority's own keys after it was signed: it holds
/// `info`, the bytes on record, and its signature verifies.
pub fn check_request(
    der: &[u8],
    info: &[u8],
    algorithm: SignatureAlgorithm,
    signature: &[u8],
    key: &PublicKey,
) -> Result<(), IssuedError> {
    let assembled = assemble(info, algorithm, signature).map_err(IssuedError::Signature)?;
    same(assembled == der, "CertificationRequestInfo")?;
    key.verify(algorithm, info, signature)
        .map_err(|error| IssuedError::Signature(error.into()))
}

/// Why a signed certificate or request must not be released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuedError {
    #[error("the signed certificate's {field} is not what was granted; it is not released")]
    Differs {
        /// The field, by its name in RFC 5280.
        field: &'static str,
    },
    #[error("the signed certificate outlives its issuer; it is not released")]
    OutlivesIssuer,
    #[error(
        "the signed certificate has {name}, which no verifier accepts: {why}; it is not released"
    )]
    NameRuledOut { name: String, why: String },
    #[error("the token's signature does not verify: {0}; it is not released")]
    Signature(#[source] CertError),
}
