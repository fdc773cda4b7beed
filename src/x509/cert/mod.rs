//! Certificates, parsed or assembled.

mod chain;
mod error;
mod extensions;

use std::ops::Range;

use der::Tag;

use super::algorithm::{SignatureAlgorithm, UnknownAlgorithm};
use super::dn;
use super::extension::KeyUsage;
use super::key::PublicKey;
use super::pem;
use super::read::{self, DerReader, Malformed, range_of};
use super::san::San;
use super::serial::Serial;
use super::write;
use crate::clock::UnixTime;
use crate::digest::sha256;

pub use chain::parse_pem_chain;
pub use error::CertError;
pub(super) use extensions::Extensions;

const WHAT: &str = "certificate";
/// The most extensions and names of a certificate.
const MAX_EXTENSIONS: usize = 64;
const MAX_NAMES: usize = 256;

/// A version 3 certificate (RFC 5280 §4.1), parsed, with its bytes.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Range<usize>,
    issuer: Range<usize>,
    subject: Range<usize>,
    signature: Range<usize>,
    serial: Serial,
    algorithm: Result<SignatureAlgorithm, UnknownAlgorithm>,
    not_before: UnixTime,
    not_after: UnixTime,
    public_key: PublicKey,
    pub(super) extensions: Extensions,
}

impl Certificate {
    /// Parses one certificate in DER, with nothing after it.
    ///
    /// # Errors
    /// [`CertError`] when it is not well-formed DER, not version 3, or has an unusable public key,
    /// serial number or extension. An unsupported signature algorithm is an error of
    /// [`Certificate::verify_signed_by`] only, because a trust anchor's own signature does not
    /// matter.
    pub fn parse(der: impl Into<Vec<u8>>) -> Result<Self, CertError> {
        Self::parse_with_key(der, None)
    }

    /// [`Certificate::parse`], for a certificate that is expected to contain the key `known`, which
    /// it then does not parse again.
    pub fn parse_with_key(
        der: impl Into<Vec<u8>>,
        known: Option<&PublicKey>,
    ) -> Result<Self, CertError> {
        let der: Vec<u8> = der.into();
        let bytes = der.as_slice();
        let mut outer = DerReader::within(bytes, Tag::Sequence, WHAT)?;
        let tbs = outer.field("tbsCertificate", |all| all.raw(Tag::Sequence))?;
        let algorithm = outer.field("signatureAlgorithm", |all| all.raw(Tag::Sequence))?;
        let signature = outer.field("signatureValue", DerReader::bit_string_octets)?;
        outer.finish()?;

        let mut fields = DerReader::within(tbs, Tag::Sequence, "TBSCertificate")?;
        let version = match fields.optional(read::context(0, true))? {
            Some(explicit) => read::whole(explicit, Tag::Integer, WHAT)?,
            None => &[0],
        };
        let serial = fields.field("serialNumber", |all| all.expect(Tag::Integer))?;
        let serial = Serial::from_integer(serial)?;
        if fields.field("signature", |all| all.raw(Tag::Sequence))? != algorithm {
            return Err(CertError::AlgorithmsDiffer);
        }
        let issuer = fields.field("issuer", |all| all.raw(Tag::Sequence))?;
        dn::is_empty(read::whole(issuer, Tag::Sequence, "issuer")?)?;
        let validity = fields.field("validity", |all| all.expect(Tag::Sequence))?;
        let mut validity = DerReader::new(validity, "validity")?;
        let not_before = validity.field("notBefore", DerReader::time)?;
        let not_after = validity.field("notAfter", DerReader::time)?;
        validity.finish()?;
        let subject = fields.field("subject", |all| all.raw(Tag::Sequence))?;
        dn::is_empty(read::whole(subject, Tag::Sequence, "subject")?)?;
        let spki = fields.field("subjectPublicKeyInfo", |all| all.raw(Tag::Sequence))?;
        let public_key = match known {
            Some(known) if known.spki_der() == spki => known.clone(),
            _ => PublicKey::from_certificate(spki)?,
        };
        for unique_id in [1, 2] {
            fields.optional(read::context(unique_id, false))?;
        }
        let extensions = match fields.optional(read::context(3, true))? {
            Some(list) => Extensions::read(read::whole(list, Tag::Sequence, "extensions")?, bytes)?,
            None => Extensions::default(),
        };
        fields.finish()?;
        match version {
            [2] => {}
            [0 | 1] if extensions.count == 0 => {}
            _ => return Err(CertError::Version),
        }

        Ok(Self {
            tbs: range_of(bytes, tbs),
            issuer: range_of(bytes, issuer),
            subject: range_of(bytes, subject),
            signature: range_of(bytes, signature),
            serial,
            algorithm: SignatureAlgorithm::from_der(algorithm),
            not_before,
            not_after,
            public_key,
            extensions,
            der,
        })
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub fn tbs_der(&self) -> &[u8] {
        self.part(&self.tbs)
    }

    /// An ECDSA-Sig-Value in DER, or as PKCS#1 or RFC 8410 defines it.
    pub fn signature(&self) -> &[u8] {
        self.part(&self.signature)
    }

    /// `None` for an unsupported algorithm.
    pub fn signature_algorithm(&self) -> Option<SignatureAlgorithm> {
        self.algorithm.clone().ok()
    }

    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// The issuer's Name in DER.
    pub fn issuer_der(&self) -> &[u8] {
        self.part(&self.issuer)
    }

    /// The subject's Name in DER.
    pub fn subject_der(&self) -> &[u8] {
        self.part(&self.subject)
    }

    /// The issuer in RFC 4514 form.
    pub fn issuer(&self) -> String {
        name_text(self.issuer_der())
    }

    /// The subject in RFC 4514 form; empty for a mesh's leaf.
    pub fn subject(&self) -> String {
        name_text(self.subject_der())
    }

    /// The first second of its validity.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// The last second of its validity.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The SPIFFE IDs, DNS names and IP addresses of its subjectAltName, in order.
    pub fn names(&self) -> &[San] {
        &self.extensions.names
    }

    /// Whether its subjectAltName has names beside [`Certificate::names`]: of another kind, or
    /// invalid (a wildcard, a URI that is no SPIFFE ID).
    pub fn has_other_names(&self) -> bool {
        self.extensions.other_names
    }

    pub fn is_ca(&self) -> bool {
        self.extensions
            .basic_constraints
            .is_some_and(|basic| basic.ca)
    }

    /// pathLenConstraint.
    pub fn path_len(&self) -> Option<u8> {
        self.extensions
            .basic_constraints
            .and_then(|basic| basic.path_len)
    }

    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.extensions.key_usage
    }

    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.extensions
            .subject_key_id
            .as_ref()
            .map(|range| self.part(range))
    }

    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.extensions
            .authority_key_id
            .as_ref()
            .map(|range| self.part(range))
    }

    /// SHA-256 of the whole certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.der)
    }

    /// Whether issuer and subject are the same Name, as in a root.
    pub fn is_self_issued(&self) -> bool {
        self.issuer_der() == self.subject_der()
    }

    /// # Errors
    /// [`CertError::Algorithm`] when the algorithm is not supported (such as SHA-1),
    /// [`CertError::Key`] when the signature does not verify.
    pub fn verify_signed_by(&self, key: &PublicKey) -> Result<(), CertError> {
        let algorithm = self.algorithm.clone()?;
        Ok(key.verify(algorithm, self.tbs_der(), self.signature())?)
    }

    pub fn to_pem(&self) -> String {
        pem::to_pem("CERTIFICATE", &self.der)
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.der.get(range.clone()).unwrap_or_default()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

/// Assembles a certificate or a certification request from the signed bytes and the signature.
///
/// # Errors
/// [`CertError::Malformed`] when `tbs` is not one SEQUENCE or the signature is empty.
pub fn assemble(
    tbs: &[u8],
    algorithm: SignatureAlgorithm,
    signature: &[u8],
) -> Result<Vec<u8>, CertError> {
    read::whole(tbs, Tag::Sequence, "structure to be signed")?;
    if signature.is_empty() {
        return Err(Malformed::new("signature", "it is empty").into());
    }
    let mut bits = Vec::with_capacity(signature.len() + 5);
    write::bit_string(&mut bits, signature);
    Ok(write::element(
        write::SEQUENCE,
        &[tbs, algorithm.der(), &bits],
    ))
}

fn name_text(der: &[u8]) -> String {
    // Both names parsed with the certificate, so neither step fails.
    read::whole(der, Tag::Sequence, WHAT)
        .and_then(dn::text)
        .unwrap_or_default()
}
