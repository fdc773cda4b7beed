//! Certificates to be issued, and the request for a CA certificate: their fields and DER encoding.

use std::sync::Arc;

use super::algorithm::SignatureAlgorithm;
use super::cert::Certificate;
use super::extension::{
    AUTHORITY_KEY_ID, BASIC_CONSTRAINTS, BasicConstraints, ExtendedKeyUsage, KEY_USAGE, KeyUsage,
    SUBJECT_ALT_NAME, write_extension,
};
use super::key::{KeyKind, PublicKey};
use super::name::NameError;
use super::san::{San, general_names};
use super::serial::Serial;
use super::write::{self, SEQUENCE, element, tlv};
use super::{dn, read};
use crate::clock::UnixTime;

/// `[0] EXPLICIT INTEGER 2`: version 3.
const VERSION_3: &[u8] = b"\xa0\x03\x02\x01\x02";
const EMPTY_NAME: &[u8] = b"\x30\x00";
/// keyUsage, critical: digitalSignature, and with keyEncipherment.
const SIGNING: &[u8] = b"\x30\x0e\x06\x03\x55\x1d\x0f\x01\x01\xff\x04\x04\x03\x02\x07\x80";
const SIGNING_AND_ENCIPHERMENT: &[u8] =
    b"\x30\x0e\x06\x03\x55\x1d\x0f\x01\x01\xff\x04\x04\x03\x02\x05\xa0";
/// basicConstraints, critical: CA:FALSE.
const NOT_A_CA: &[u8] = b"\x30\x0c\x06\x03\x55\x1d\x13\x01\x01\xff\x04\x02\x30\x00";
/// extKeyUsage: serverAuth and clientAuth, and each alone.
const SERVER_AND_CLIENT: &[u8] = b"\x30\x1d\x06\x03\x55\x1d\x25\x04\x16\x30\x14\
    \x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
const SERVER: &[u8] =
    b"\x30\x13\x06\x03\x55\x1d\x25\x04\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
const CLIENT: &[u8] =
    b"\x30\x13\x06\x03\x55\x1d\x25\x04\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
/// The start of subjectKeyIdentifier; 20 octets follow.
const SUBJECT_KEY_ID_HEAD: &[u8] = b"\x30\x1d\x06\x03\x55\x1d\x0e\x04\x16\x04\x14";
/// extensionRequest (RFC 2985 §5.4.2).
const EXTENSION_REQUEST: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e";

/// The CA that signs a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerIdentity {
    /// The subject Name of the CA's certificate, in DER.
    pub name_der: Vec<u8>,
    /// The subject key identifier of the CA's certificate.
    pub key_id: Vec<u8>,
    pub public_key: PublicKey,
    pub algorithm: SignatureAlgorithm,
    /// No certificate may be valid after this; `None` for a root that signs its own certificate.
    pub not_after: Option<UnixTime>,
}

impl IssuerIdentity {
    /// The subject of a CA certificate; `None` when no token signs with its kind of key.
    pub fn of(certificate: &Certificate) -> Option<Self> {
        let key = certificate.public_key();
        let key_id = certificate
            .subject_key_id()
            .map_or_else(|| key.key_id().to_vec(), <[u8]>::to_vec);
        Some(Self {
            name_der: certificate.subject_der().to_vec(),
            key_id,
            public_key: key.clone(),
            algorithm: key.kind().ca_algorithm()?,
            not_after: Some(certificate.not_after()),
        })
    }

    /// A root that signs its own certificate.
    pub fn root(name_der: Vec<u8>, key: &PublicKey, algorithm: SignatureAlgorithm) -> Self {
        Self {
            name_der,
            key_id: key.key_id().to_vec(),
            public_key: key.clone(),
            algorithm,
            not_after: None,
        }
    }
}

/// A certificate to be issued: [`to_tbs`](Self::to_tbs) encodes it, and
/// [`check_issued`](super::check_issued) compares the signed certificate with it.
#[derive(Clone, Debug)]
pub struct CertificateSpec {
    pub serial: Serial,
    pub issuer: Arc<IssuerIdentity>,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    /// The subjectAltName; an end entity has at least one, a CA usually none.
    pub names: Vec<San>,
    pub public_key: PublicKey,
    pub subject: SubjectSpec,
}

/// The parts in which an end entity and a CA differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectSpec {
    /// An end entity, whose subject Name is empty.
    EndEntity(ExtendedKeyUsage),
    Ca {
        /// The subject Name in DER, from [`super::ca_name`] or a request.
        name_der: Vec<u8>,
        path_len: Option<u8>,
    },
    /// A CA whose key is someone else's. It computes the identifier of its key as most programs do, and
    /// SPIRE finds its own CA by that after a restart.
    OtherCa {
        name_der: Vec<u8>,
        path_len: Option<u8>,
    },
}

impl SubjectSpec {
    /// The subject key identifier.
    pub(super) fn key_id(&self, key: &PublicKey) -> [u8; 20] {
        match self {
            Self::OtherCa { .. } => key.sha1_key_id(),
            Self::EndEntity(_) | Self::Ca { .. } => key.key_id(),
        }
    }
}

impl CertificateSpec {
    /// The TBSCertificate in DER.
    ///
    /// An end entity gets an empty subject and so a critical subjectAltName (RFC 5280 §4.2.1.6),
    /// keyUsage digitalSignature, keyEncipherment for RSA only (RFC 8813 §3), and CA:FALSE. A CA gets
    /// keyUsage keyCertSign and cRLSign and CA:TRUE, and no name constraints: rustls refuses every
    /// path with a constraint on URIs.
    pub fn to_tbs(&self) -> Result<Vec<u8>, TbsError> {
        let mut extensions = Vec::with_capacity(320);
        let (subject_der, names_are_critical) = match &self.subject {
            SubjectSpec::EndEntity(usage) => {
                self.check_end_entity_names()?;
                extensions.extend_from_slice(match self.public_key.kind() {
                    KeyKind::Rsa { .. } => SIGNING_AND_ENCIPHERMENT,
                    _ => SIGNING,
                });
                extensions.extend_from_slice(extended_key_usage(*usage)?);
                extensions.extend_from_slice(NOT_A_CA);
                (EMPTY_NAME, true)
            }
            SubjectSpec::Ca { name_der, path_len }
            | SubjectSpec::OtherCa { name_der, path_len } => {
                check_ca_name(name_der)?;
                write_ca_extensions(&mut extensions, *path_len);
                (name_der.as_slice(), false)
            }
        };
        let key_id = self.subject.key_id(&self.public_key);
        write_key_ids(&mut extensions, key_id, &self.issuer);
        if !self.names.is_empty() {
            let mut names = Vec::with_capacity(160);
            general_names(&mut names, &self.names);
            write_extension(
                &mut extensions,
                SUBJECT_ALT_NAME,
                names_are_critical,
                &names,
            );
        }
        self.write_tbs(subject_der, &extensions)
    }

    fn check_end_entity_names(&self) -> Result<(), TbsError> {
        if self.names.is_empty() {
            return Err(TbsError::NoNames);
        }
        let ids = self
            .names
            .iter()
            .filter(|name| matches!(name, San::Spiffe(_)));
        if ids.count() > 1 {
            return Err(TbsError::SeveralIds);
        }
        for name in &self.names {
            if let San::Spiffe(id) = name
                && id.path().is_empty()
            {
                let name = id.to_string();
                return Err(NameError::NoPath { name }.into());
            }
        }
        Ok(())
    }

    fn write_tbs(&self, subject_der: &[u8], extensions: &[u8]) -> Result<Vec<u8>, TbsError> {
        if self.not_after <= self.not_before {
            return Err(TbsError::Validity {
                not_before: self.not_before,
                not_after: self.not_after,
            });
        }
        let mut fields = Vec::with_capacity(
            extensions.len()
                + self.issuer.name_der.len()
                + subject_der.len()
                + self.public_key.spki_der().len()
                + 96,
        );
        fields.extend_from_slice(VERSION_3);
        write::unsigned(&mut fields, self.serial.as_bytes());
        fields.extend_from_slice(self.issuer.algorithm.der());
        fields.extend_from_slice(&self.issuer.name_der);
        let mut validity = Vec::with_capacity(34);
        for at in [self.not_before, self.not_after] {
            write::time(&mut validity, at).ok_or(TbsError::Time { at })?;
        }
        tlv(&mut fields, SEQUENCE, &[&validity]);
        fields.extend_from_slice(subject_der);
        fields.extend_from_slice(self.public_key.spki_der());
        let mut list_head = Vec::with_capacity(4);
        write::header(&mut list_head, SEQUENCE, extensions.len());
        tlv(&mut fields, 0xa3, &[&list_head, extensions]);
        Ok(element(SEQUENCE, &[&fields]))
    }
}

/// The CertificationRequestInfo (RFC 2986 §4.1) for a CA key: basicConstraints CA:TRUE and keyUsage
/// keyCertSign and cRLSign in an extensionRequest.
///
/// # Errors
/// [`TbsError::CaSubject`].
pub fn request_info(
    subject_der: &[u8],
    public_key: &PublicKey,
    path_len: Option<u8>,
) -> Result<Vec<u8>, TbsError> {
    check_ca_name(subject_der)?;
    let mut extensions = Vec::with_capacity(64);
    write_ca_extensions(&mut extensions, path_len);
    let values = element(write::SET, &[&element(SEQUENCE, &[&extensions])]);
    let attribute = element(SEQUENCE, &[EXTENSION_REQUEST, &values]);
    let attributes = element(0xa0, &[&attribute]);
    let version = b"\x02\x01\x00";
    let fields: [&[u8]; 4] = [version, subject_der, public_key.spki_der(), &attributes];
    Ok(element(SEQUENCE, &fields))
}

fn extended_key_usage(usage: ExtendedKeyUsage) -> Result<&'static [u8], TbsError> {
    match usage {
        ExtendedKeyUsage::SERVER_AND_CLIENT => Ok(SERVER_AND_CLIENT),
        ExtendedKeyUsage::SERVER_AUTH => Ok(SERVER),
        ExtendedKeyUsage::CLIENT_AUTH => Ok(CLIENT),
        _ => Err(TbsError::NoUsage),
    }
}

fn write_key_ids(out: &mut Vec<u8>, key_id: [u8; 20], issuer: &IssuerIdentity) {
    out.extend_from_slice(SUBJECT_KEY_ID_HEAD);
    out.extend_from_slice(&key_id);
    let mut id = Vec::with_capacity(issuer.key_id.len() + 4);
    tlv(&mut id, 0x80, &[&issuer.key_id]);
    write_extension(out, AUTHORITY_KEY_ID, false, &element(SEQUENCE, &[&id]));
}

fn write_ca_extensions(out: &mut Vec<u8>, path_len: Option<u8>) {
    let usage = KeyUsage::KEY_CERT_SIGN.with(KeyUsage::CRL_SIGN);
    write_extension(out, KEY_USAGE, true, &usage.to_der());
    let basic = BasicConstraints { ca: true, path_len };
    write_extension(out, BASIC_CONSTRAINTS, true, &basic.to_der());
}

/// A CA's subject must not be empty (RFC 5280 §4.1.2.6).
fn check_ca_name(der: &[u8]) -> Result<(), TbsError> {
    match read::whole(der, der::Tag::Sequence, "CA's subject").and_then(dn::is_empty) {
        Ok(false) => Ok(()),
        _ => Err(TbsError::CaSubject),
    }
}

/// Why a certificate cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TbsError {
    #[error("an end entity's certificate needs at least one name")]
    NoNames,
    #[error("a certificate has one SPIFFE ID at most (X509-SVID section 2)")]
    SeveralIds,
    #[error("an end entity's certificate must be for servers, for clients or for both")]
    NoUsage,
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the validity from {not_before} to {not_after} is empty")]
    Validity {
        not_before: UnixTime,
        not_after: UnixTime,
    },
    #[error("X.509 cannot express {at} (1970 to 9999); check the clock and the lifetime")]
    Time { at: UnixTime },
    #[error("a CA's subject must be a distinguished name that is not empty")]
    CaSubject,
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )]
    use super::super::extension;
    use super::*;

    #[test]
    fn constants_equal_the_general_encoding() {
        let made = |oid, critical, value: &[u8]| {
            let mut out = Vec::new();
            write_extension(&mut out, oid, critical, value);
            out
        };
        let signing = KeyUsage::DIGITAL_SIGNATURE;
        assert_eq!(made(KEY_USAGE, true, &signing.to_der()), SIGNING);
        let both = signing.with(KeyUsage::KEY_ENCIPHERMENT);
        assert_eq!(
            made(KEY_USAGE, true, &both.to_der()),
            SIGNING_AND_ENCIPHERMENT
        );
        let leaf = BasicConstraints {
            ca: false,
            path_len: None,
        };
        assert_eq!(made(BASIC_CONSTRAINTS, true, &leaf.to_der()), NOT_A_CA);
        let server = element(write::OID, &[extension::SERVER_AUTH]);
        let client = element(write::OID, &[extension::CLIENT_AUTH]);
        for (constant, purposes) in [
            (SERVER_AND_CLIENT, &[server.as_slice(), &client][..]),
            (SERVER, &[&server]),
            (CLIENT, &[&client]),
        ] {
            let value = element(SEQUENCE, purposes);
            assert_eq!(made(extension::EXTENDED_KEY_USAGE, false, &value), constant);
        }
        let id = made(
            extension::SUBJECT_KEY_ID,
            false,
            &element(write::OCTET_STRING, &[&[7; 20]]),
        );
        assert_eq!(id, [SUBJECT_KEY_ID_HEAD, &[7; 20]].concat());
    }
}
