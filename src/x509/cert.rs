//! Certificates: parsed from outside or from what was just signed, and put together.

use std::ops::Range;

use der::Tag;

use super::algorithm::{SignatureAlgorithm, UnknownAlgorithm};
use super::dn;
use super::extension::{self, BasicConstraints, Extension, KeyUsage, ListFault};
use super::key::{KeyError, PublicKey, sha256};
use super::name::NameError;
use super::pem::{self, PemError};
use super::read::{self, Der, Malformed, range_of};
use super::san::San;
use super::serial::{Serial, SerialError};
use super::write;
use crate::clock::UnixTime;

const WHAT: &str = "certificate";
/// The most extensions and names of a foreign certificate that are read.
const EXTENSIONS: usize = 64;
const NAMES: usize = 256;

/// A version 3 certificate (RFC 5280 §4.1), parsed and kept with its bytes.
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

/// What the extensions said.
#[derive(Clone, Debug, Default)]
pub(super) struct Extensions {
    pub(super) names: Vec<San>,
    pub(super) names_critical: bool,
    pub(super) other_names: bool,
    pub(super) basic: Option<BasicConstraints>,
    pub(super) key_usage: Option<KeyUsage>,
    /// serverAuth, clientAuth, and whether there are purposes besides.
    pub(super) purposes: Option<Purposes>,
    subject_key_id: Option<Range<usize>>,
    authority_key_id: Option<Range<usize>>,
    pub(super) constrains_uris: bool,
    /// The first critical extension that is not understood here.
    pub(super) unhandled_critical: Option<String>,
    /// How many there are in all.
    pub(super) count: usize,
}

/// Key purposes, as far as they matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Purposes {
    pub(super) server_auth: bool,
    pub(super) client_auth: bool,
    pub(super) any: bool,
    pub(super) other: bool,
}

impl Certificate {
    /// Parses one certificate in DER, with nothing after it.
    ///
    /// # Errors
    /// [`CertError`] when it is not well-formed DER, not version 3, or holds a public key, a serial
    /// number or an extension that cannot be used. A signature algorithm that is not supported is an
    /// error of [`Certificate::verify_signed_by`] only: a trust anchor's own signature says nothing.
    pub fn parse(der: impl Into<Vec<u8>>) -> Result<Self, CertError> {
        Self::parse_knowing(der, None)
    }

    /// [`Certificate::parse`], for a certificate that should hold the key `known`: if it does, the
    /// key is not parsed again.
    ///
    /// # Errors
    /// As [`Certificate::parse`].
    pub fn parse_knowing(
        der: impl Into<Vec<u8>>,
        known: Option<&PublicKey>,
    ) -> Result<Self, CertError> {
        let der: Vec<u8> = der.into();
        let bytes = der.as_slice();
        let mut outer = Der::within(bytes, Tag::Sequence, WHAT)?;
        let tbs = outer.raw(Tag::Sequence)?;
        let algorithm = outer.raw(Tag::Sequence)?;
        let signature = outer.octet_bits()?;
        outer.finish()?;

        let mut fields = Der::within(tbs, Tag::Sequence, "TBSCertificate")?;
        let version = match fields.optional(read::context(0, true))? {
            Some(explicit) => read::whole(explicit, Tag::Integer, WHAT)?,
            None => &[0],
        };
        let serial = Serial::from_integer(fields.expect(Tag::Integer)?)?;
        if fields.raw(Tag::Sequence)? != algorithm {
            return Err(CertError::AlgorithmsDiffer);
        }
        let issuer = fields.raw(Tag::Sequence)?;
        dn::says_nothing(read::whole(issuer, Tag::Sequence, "issuer")?)?;
        let mut validity = Der::new(fields.expect(Tag::Sequence)?, "validity")?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        validity.finish()?;
        let subject = fields.raw(Tag::Sequence)?;
        dn::says_nothing(read::whole(subject, Tag::Sequence, "subject")?)?;
        let spki = fields.raw(Tag::Sequence)?;
        let public_key = match known {
            Some(known) if known.spki_der() == spki => known.clone(),
            _ => PublicKey::from_spki_der(spki)?,
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

    /// The whole certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The TBSCertificate, which is what was signed.
    pub fn tbs_der(&self) -> &[u8] {
        self.part(&self.tbs)
    }

    /// The signature's octets: an ECDSA-Sig-Value in DER, or as PKCS#1 or RFC 8410 has it.
    pub fn signature(&self) -> &[u8] {
        self.part(&self.signature)
    }

    /// The signature algorithm; `None` when it is not one that is verified here.
    pub fn signature_algorithm(&self) -> Option<SignatureAlgorithm> {
        self.algorithm.clone().ok()
    }

    /// The serial number.
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

    /// The issuer as RFC 4514 writes it.
    pub fn issuer(&self) -> String {
        shown_name(self.issuer_der())
    }

    /// The subject as RFC 4514 writes it; empty for a mesh's leaf.
    pub fn subject(&self) -> String {
        shown_name(self.subject_der())
    }

    /// The first second at which it is valid.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// The last second at which it is valid.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The certified key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The SPIFFE IDs, DNS names and IP addresses of its subjectAltName, in order.
    pub fn names(&self) -> &[San] {
        &self.extensions.names
    }

    /// Whether its subjectAltName holds names besides [`Certificate::names`]: of another kind, or not
    /// well formed (a wildcard, a URI that is no SPIFFE ID).
    pub fn has_other_names(&self) -> bool {
        self.extensions.other_names
    }

    /// Whether basicConstraints say CA:TRUE.
    pub fn is_ca(&self) -> bool {
        self.extensions.basic.is_some_and(|basic| basic.ca)
    }

    /// How many intermediate CAs may stand below it; `None` when that is not limited.
    pub fn path_len(&self) -> Option<u8> {
        self.extensions.basic.and_then(|basic| basic.path_len)
    }

    /// keyUsage, when it has the extension.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.extensions.key_usage
    }

    /// The subject key identifier.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.extensions
            .subject_key_id
            .as_ref()
            .map(|range| self.part(range))
    }

    /// The key identifier of its issuer.
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

    /// Verifies its signature under `key`.
    ///
    /// # Errors
    /// [`CertError::Algorithm`] when the algorithm is not supported (SHA-1, say), [`CertError::Key`]
    /// when the signature does not verify.
    pub fn verify_signed_by(&self, key: &PublicKey) -> Result<(), CertError> {
        let algorithm = self.algorithm.clone()?;
        Ok(key.verify(algorithm, self.tbs_der(), self.signature())?)
    }

    /// The certificate as one PEM block.
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

/// Puts what was signed together with its signature: a certificate, or a certification request.
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

impl Extensions {
    fn read(contents: &[u8], whole: &[u8]) -> Result<Self, CertError> {
        let mut found = Self::default();
        for one in extension::list(contents, EXTENSIONS)? {
            found.count += 1;
            found.read_one(one, whole)?;
        }
        Ok(found)
    }

    fn read_one(&mut self, one: Extension<'_>, whole: &[u8]) -> Result<(), CertError> {
        match one.oid {
            extension::SUBJECT_ALT_NAME => {
                self.names_critical = one.critical;
                self.read_names(one.value)?;
            }
            extension::BASIC_CONSTRAINTS => {
                self.basic = Some(BasicConstraints::from_der(one.value)?);
            }
            extension::KEY_USAGE => self.key_usage = Some(KeyUsage::from_der(one.value)?),
            extension::EXTENDED_KEY_USAGE => {
                let mut purposes = Purposes::default();
                for oid in extension::key_purposes(one.value)? {
                    match oid {
                        extension::SERVER_AUTH => purposes.server_auth = true,
                        extension::CLIENT_AUTH => purposes.client_auth = true,
                        extension::ANY_PURPOSE => purposes.any = true,
                        _ => purposes.other = true,
                    }
                }
                self.purposes = Some(purposes);
            }
            extension::SUBJECT_KEY_ID => {
                let id = read::whole(
                    one.value,
                    Tag::OctetString,
                    "subjectKeyIdentifier extension",
                )?;
                self.subject_key_id = Some(range_of(whole, id));
            }
            extension::AUTHORITY_KEY_ID => {
                self.authority_key_id =
                    extension::authority_key_id(one.value)?.map(|id| range_of(whole, id));
            }
            extension::NAME_CONSTRAINTS => {
                self.constrains_uris = extension::constrains_uris(one.value)?;
            }
            // Certificate policies, their mappings and constraints bind no verifier of a mesh.
            [0x55, 0x1d, 0x20 | 0x21 | 0x24 | 0x36] => {}
            other if one.critical && self.unhandled_critical.is_none() => {
                self.unhandled_critical = Some(extension::oid_text(other));
            }
            _ => {}
        }
        Ok(())
    }

    fn read_names(&mut self, value: &[u8]) -> Result<(), CertError> {
        let mut names = Der::within(value, Tag::Sequence, "subjectAltName extension")?;
        while !names.is_empty() {
            let name = names.any()?;
            match San::from_general_name(name) {
                Some(Ok(_)) if self.names.len() == NAMES => return Err(CertError::TooManyNames),
                Some(Ok(name)) => self.names.push(name),
                Some(Err(_)) | None => self.other_names = true,
            }
        }
        Ok(())
    }
}

fn shown_name(der: &[u8]) -> String {
    // Both names were walked when the certificate was parsed, so neither step fails.
    read::whole(der, Tag::Sequence, WHAT)
        .and_then(dn::text)
        .unwrap_or_default()
}

/// Why a certificate cannot be read, or its signature not be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// Not DER.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Not PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A key that cannot be used, or a signature that does not verify.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A serial number that breaks RFC 5280.
    #[error(transparent)]
    Serial(#[from] SerialError),
    /// A name that is not well formed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A signature algorithm that is not verified here.
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
    /// The signed and the unsigned copy of the algorithm differ.
    #[error("the certificate names one signature algorithm inside and another outside")]
    AlgorithmsDiffer,
    /// A version that there is not, or extensions in a version that has none.
    #[error("the certificate is not version 3 (RFC 5280 §4.1.2.1)")]
    Version,
    /// The same extension twice.
    #[error("the certificate has extension {oid} twice (RFC 5280 §4.2)")]
    DuplicateExtension {
        /// Which.
        oid: String,
    },
    /// Too many extensions.
    #[error("the certificate has more than {EXTENSIONS} extensions")]
    TooManyExtensions,
    /// Too many names.
    #[error("the certificate has more than {NAMES} subject alternative names")]
    TooManyNames,
    /// One certificate of several.
    #[error("certificate {index} of the chain: {cause}")]
    At {
        /// Its place, counted from one.
        index: usize,
        /// What is wrong with it.
        cause: Box<CertError>,
    },
}

impl CertError {
    pub(super) fn at(self, index: usize) -> Self {
        Self::At {
            index,
            cause: Box::new(self),
        }
    }
}

impl From<ListFault> for CertError {
    fn from(fault: ListFault) -> Self {
        match fault {
            ListFault::Malformed(malformed) => Self::Malformed(malformed),
            ListFault::TooMany => Self::TooManyExtensions,
            ListFault::Duplicate(oid) => Self::DuplicateExtension { oid },
        }
    }
}
