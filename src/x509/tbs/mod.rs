//! What is to be signed: TBSCertificates, and the request for a CA certificate.

mod error;

use super::algorithm::SignatureAlgorithm;
use super::cert::Certificate;
use super::extension::{
    AUTHORITY_KEY_ID, BASIC_CONSTRAINTS, BasicConstraints, KEY_USAGE, KeyUsage, SUBJECT_ALT_NAME,
    write_extension,
};
use super::key::{KeyKind, PublicKey};
use super::name::NameError;
use super::san::{San, general_names};
use super::serial::Serial;
use super::write::{self, SEQUENCE, element, tlv};
use crate::clock::UnixTime;

pub use error::TbsError;

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
const BOTH_PURPOSES: &[u8] = b"\x30\x1d\x06\x03\x55\x1d\x25\x04\x16\x30\x14\
    \x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
const SERVER_PURPOSE: &[u8] =
    b"\x30\x13\x06\x03\x55\x1d\x25\x04\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
const CLIENT_PURPOSE: &[u8] =
    b"\x30\x13\x06\x03\x55\x1d\x25\x04\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
/// Everything of subjectKeyIdentifier before its 20 octets.
const SUBJECT_KEY_ID_HEAD: &[u8] = b"\x30\x1d\x06\x03\x55\x1d\x0e\x04\x16\x04\x14";
/// extensionRequest (RFC 2985 §5.4.2).
const EXTENSION_REQUEST: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e";

/// What certificates say about the one who signs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerIdentity {
    /// The subject Name of the issuer's certificate, in DER.
    pub name_der: Vec<u8>,
    /// The subject key identifier of the issuer's certificate.
    pub key_id: Vec<u8>,
    /// What the issuer's key signs with.
    pub algorithm: SignatureAlgorithm,
}

impl IssuerIdentity {
    /// The identity of the holder of a CA certificate; `None` when its key is of a kind that no
    /// token signs with here.
    pub fn of(certificate: &Certificate) -> Option<Self> {
        let key = certificate.public_key();
        let key_id = certificate
            .subject_key_id()
            .map_or_else(|| key.key_id().to_vec(), <[u8]>::to_vec);
        Some(Self {
            name_der: certificate.subject_der().to_vec(),
            key_id,
            algorithm: SignatureAlgorithm::for_ca_key(key.kind())?,
        })
    }
}

/// What a leaf may be used for in TLS (RFC 5280 §4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedKeyUsage {
    /// As a server.
    pub server_auth: bool,
    /// As a client.
    pub client_auth: bool,
}

/// An end entity's certificate, to be.
#[derive(Clone, Copy, Debug)]
pub struct LeafTemplate<'a> {
    /// Its serial number.
    pub serial: &'a Serial,
    /// Who will sign it.
    pub issuer: &'a IssuerIdentity,
    /// The first second of its validity.
    pub not_before: UnixTime,
    /// The last second of its validity.
    pub not_after: UnixTime,
    /// Its names, of which there is at least one; the subject is empty.
    pub names: &'a [San],
    /// The certified key.
    pub public_key: &'a PublicKey,
    /// What it may be used for.
    pub usage: ExtendedKeyUsage,
}

impl LeafTemplate<'_> {
    /// The TBSCertificate in DER: empty subject and so a critical subjectAltName (RFC 5280
    /// §4.2.1.6); keyUsage digitalSignature, and keyEncipherment for RSA only (RFC 8813 §3); CA:FALSE.
    ///
    /// # Errors
    /// [`TbsError`] when it has no name, no usage, a name that is only a trust domain, or a validity
    /// that ends before it begins or cannot be written.
    pub fn to_tbs(&self) -> Result<Vec<u8>, TbsError> {
        if self.names.is_empty() {
            return Err(TbsError::NoNames);
        }
        for name in self.names {
            if let San::Spiffe(id) = name
                && id.path().is_empty()
            {
                return Err(NameError::NoPath {
                    name: id.to_string(),
                }
                .into());
            }
        }
        let purposes = match (self.usage.server_auth, self.usage.client_auth) {
            (true, true) => BOTH_PURPOSES,
            (true, false) => SERVER_PURPOSE,
            (false, true) => CLIENT_PURPOSE,
            (false, false) => return Err(TbsError::NoUsage),
        };
        let key_usage = match self.public_key.kind() {
            KeyKind::Rsa { .. } => SIGNING_AND_ENCIPHERMENT,
            _ => SIGNING,
        };

        let mut list = Vec::with_capacity(320);
        list.extend_from_slice(key_usage);
        list.extend_from_slice(purposes);
        list.extend_from_slice(NOT_A_CA);
        write_key_ids(&mut list, self.public_key, self.issuer);
        let mut names = Vec::with_capacity(160);
        general_names(&mut names, self.names);
        write_extension(&mut list, SUBJECT_ALT_NAME, true, &names);

        Common {
            serial: self.serial,
            issuer: self.issuer,
            not_before: self.not_before,
            not_after: self.not_after,
            subject_der: EMPTY_NAME,
            public_key: self.public_key,
        }
        .to_tbs(&list)
    }
}

/// A CA's certificate, to be. It is self-signed when the subject is the issuer's Name.
#[derive(Clone, Copy, Debug)]
pub struct CaTemplate<'a> {
    /// Its serial number.
    pub serial: &'a Serial,
    /// Who will sign it.
    pub issuer: &'a IssuerIdentity,
    /// Its Name in DER, from [`super::ca_name`] or a request.
    pub subject_der: &'a [u8],
    /// The first second of its validity.
    pub not_before: UnixTime,
    /// The last second of its validity.
    pub not_after: UnixTime,
    /// The certified key.
    pub public_key: &'a PublicKey,
    /// How many CAs may stand below it; `None` does not limit that.
    pub path_len: Option<u8>,
    /// Names beside its subject: most CAs have none.
    pub names: &'a [San],
}

impl CaTemplate<'_> {
    /// The TBSCertificate in DER: keyUsage keyCertSign and cRLSign, CA:TRUE, both critical; names in a
    /// subjectAltName that is not, because the subject says something (RFC 5280 §4.2.1.6). There are no name constraints: rustls refuses every chain with one on URIs.
    ///
    /// # Errors
    /// [`TbsError`] when the validity ends before it begins or cannot be written, or the subject is
    /// empty or no Name.
    pub fn to_tbs(&self) -> Result<Vec<u8>, TbsError> {
        check_ca_subject(self.subject_der)?;
        let mut list = Vec::with_capacity(128);
        write_ca_extensions(&mut list, self.path_len);
        write_key_ids(&mut list, self.public_key, self.issuer);
        if !self.names.is_empty() {
            let mut names = Vec::with_capacity(64);
            general_names(&mut names, self.names);
            write_extension(&mut list, SUBJECT_ALT_NAME, false, &names);
        }
        Common {
            serial: self.serial,
            issuer: self.issuer,
            not_before: self.not_before,
            not_after: self.not_after,
            subject_der: self.subject_der,
            public_key: self.public_key,
        }
        .to_tbs(&list)
    }
}

/// The CertificationRequestInfo (RFC 2986 §4.1) with which a CA asks another to certify its key:
/// basicConstraints CA:TRUE and keyUsage keyCertSign and cRLSign in an extensionRequest.
///
/// # Errors
/// [`TbsError`] when the subject is empty or no Name.
pub fn request_info(
    subject_der: &[u8],
    public_key: &PublicKey,
    path_len: Option<u8>,
) -> Result<Vec<u8>, TbsError> {
    check_ca_subject(subject_der)?;
    let mut list = Vec::with_capacity(64);
    write_ca_extensions(&mut list, path_len);
    let values = element(write::SET, &[&element(SEQUENCE, &[&list])]);
    let attribute = element(SEQUENCE, &[EXTENSION_REQUEST, &values]);
    let attributes = element(0xa0, &[&attribute]);
    Ok(element(
        SEQUENCE,
        &[
            b"\x02\x01\x00",
            subject_der,
            public_key.spki_der(),
            &attributes,
        ],
    ))
}

/// What leaf and CA have in common.
struct Common<'a> {
    serial: &'a Serial,
    issuer: &'a IssuerIdentity,
    not_before: UnixTime,
    not_after: UnixTime,
    subject_der: &'a [u8],
    public_key: &'a PublicKey,
}

impl Common<'_> {
    fn to_tbs(&self, extensions: &[u8]) -> Result<Vec<u8>, TbsError> {
        if self.not_after <= self.not_before {
            return Err(TbsError::Validity {
                from: self.not_before,
                to: self.not_after,
            });
        }
        let mut fields = Vec::with_capacity(
            extensions.len()
                + self.issuer.name_der.len()
                + self.subject_der.len()
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
        fields.extend_from_slice(self.subject_der);
        fields.extend_from_slice(self.public_key.spki_der());
        let mut list_head = Vec::with_capacity(4);
        write::header(&mut list_head, SEQUENCE, extensions.len());
        tlv(&mut fields, 0xa3, &[&list_head, extensions]);
        Ok(element(SEQUENCE, &[&fields]))
    }
}

fn write_key_ids(out: &mut Vec<u8>, public_key: &PublicKey, issuer: &IssuerIdentity) {
    out.extend_from_slice(SUBJECT_KEY_ID_HEAD);
    out.extend_from_slice(&public_key.key_id());
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

/// A CA's subject must say something (RFC 5280 §4.1.2.6).
fn check_ca_subject(der: &[u8]) -> Result<(), TbsError> {
    let nothing = super::read::whole(der, der::Tag::Sequence, "CA's subject")
        .and_then(super::dn::is_empty_name)
        .map_err(|_| TbsError::CaSubject)?;
    if nothing {
        Err(TbsError::CaSubject)
    } else {
        Ok(())
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
    use super::super::extension;
    use super::*;

    /// The constants are what the general writer makes.
    #[test]
    fn constants_are_what_they_say() {
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
            (BOTH_PURPOSES, &[server.as_slice(), &client][..]),
            (SERVER_PURPOSE, &[&server]),
            (CLIENT_PURPOSE, &[&client]),
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
