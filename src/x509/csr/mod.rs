//! Certification requests (PKCS#10, RFC 2986): bounded, canonical, with proof of possession. Every
//! [`Csr`] is verified.

mod attributes;
mod error;

use der::{Decode, Encode, Tag};
use x509_cert::request::CertReq;

use super::algorithm::SignatureAlgorithm;
use super::dn;
use super::key::{KeyKind, PublicKey};
use super::name::printable;
use super::pem::{self, PemError};
use super::read::{self, DerReader, Malformed};
use super::san::San;

pub use error::CsrError;

/// In PEM or DER.
const MAX_BYTES: usize = 16 * 1024;
/// The most extensions, attributes and names of a request.
const MAX_EXTENSIONS: usize = 8;
const MAX_ATTRIBUTES: usize = 8;
const MAX_NAMES: usize = 8;

/// A certification request whose signature verified with its own key.
#[derive(Clone, Debug)]
pub struct Csr {
    der: Vec<u8>,
    public_key: PublicKey,
    subject: CsrSubject,
    common_names: Vec<Option<String>>,
    names: Vec<San>,
}

/// A parsed request, before its signature is verified: that costs the most, so who wants to do less for
/// strangers first decides by [`UnverifiedCsr::names`] and the caller's credential.
#[derive(Debug)]
pub struct UnverifiedCsr {
    csr: Csr,
    info: Vec<u8>,
    algorithm: SignatureAlgorithm,
    signature: Vec<u8>,
}

/// What a request may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    EndEntity,
    /// Also CA:TRUE, a CA's key usages, and the SPIFFE ID of a trust domain.
    Ca,
}

/// The subject of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CsrSubject {
    /// No RDN, or only empty strings, as in the `O=""` of Istio's Go client.
    Empty,
    /// The subject in RFC 4514 form, truncated: for messages, never for decisions.
    Named(String),
}

impl Csr {
    /// Parses and verifies a request in DER.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        UnverifiedCsr::from_der(der)?.verify()
    }

    /// A request that is only a key and a signature over `message`, which the requester of the
    /// signature chose: the older form of Kubernetes' pod certificates. ECDSA with SHA-256, or
    /// Ed25519. [`Csr::der`] is empty.
    pub fn from_key(spki: &[u8], message: &[u8], signature: &[u8]) -> Result<Self, CsrError> {
        let public_key = PublicKey::from_spki_der(spki)?;
        let algorithm = match public_key.kind() {
            KeyKind::Ed25519 => SignatureAlgorithm::Ed25519,
            _ => SignatureAlgorithm::EcdsaSha256,
        };
        public_key
            .verify(algorithm, message, signature)
            .map_err(CsrError::ProofOfPossession)?;
        Ok(Self {
            der: Vec::new(),
            public_key,
            subject: CsrSubject::Empty,
            common_names: Vec::new(),
            names: Vec::new(),
        })
    }

    /// Parses and verifies a request in PEM: exactly one block, labelled `CERTIFICATE REQUEST` or
    /// `NEW CERTIFICATE REQUEST`, and nothing beside it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CsrError> {
        Self::from_pem_for(pem, Purpose::EndEntity)
    }

    /// The same for a CA's request: it may ask for CA:TRUE and the key usages of a CA, and name its
    /// trust domain.
    pub fn ca_from_pem(pem: &[u8]) -> Result<Self, CsrError> {
        Self::from_pem_for(pem, Purpose::Ca)
    }

    fn from_pem_for(pem: &[u8], purpose: Purpose) -> Result<Self, CsrError> {
        const LABEL: &str = "CERTIFICATE REQUEST";
        if pem.len() > MAX_BYTES {
            return Err(CsrError::TooLarge { bytes: pem.len() });
        }
        let found = pem::blocks(pem, 1)?;
        let Some(block) = found.blocks.first() else {
            return Err(PemError::NoBlock { label: LABEL }.into());
        };
        if !matches!(block.label, LABEL | "NEW CERTIFICATE REQUEST") {
            return Err(PemError::Label {
                found: printable(block.label),
                wanted: LABEL,
            }
            .into());
        }
        if found.other_text {
            return Err(PemError::OtherText.into());
        }
        UnverifiedCsr::read(&block.der()?, purpose)?.verify()
    }

    /// The request in DER; empty for [`Csr::from_key`].
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    pub fn subject(&self) -> &CsrSubject {
        &self.subject
    }

    /// The only commonName, if there is exactly one that is text.
    pub fn common_name(&self) -> Option<&str> {
        match self.common_names.as_slice() {
            [Some(only)] if !only.is_empty() => Some(only),
            _ => None,
        }
    }

    /// Whether every commonName is empty or `name`.
    pub fn has_no_other_common_name(&self, name: &str) -> bool {
        let is_allowed =
            |each: &Option<String>| matches!(each, Some(cn) if cn.is_empty() || cn == name);
        self.common_names.iter().all(is_allowed)
    }

    /// The names in the requested subjectAltName, in order.
    pub fn names(&self) -> &[San] {
        &self.names
    }
}

impl UnverifiedCsr {
    /// Parses a request in DER.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        Self::read(der, Purpose::EndEntity)
    }

    fn read(der: &[u8], purpose: Purpose) -> Result<Self, CsrError> {
        if der.len() > MAX_BYTES {
            return Err(CsrError::TooLarge { bytes: der.len() });
        }
        let mut outer = DerReader::within(der, Tag::Sequence, "certification request")?;
        let info = outer.field("certificationRequestInfo", |all| all.raw(Tag::Sequence))?;
        let algorithm = outer.field("signatureAlgorithm", |all| all.raw(Tag::Sequence))?;
        let signature = outer.field("signature", DerReader::bit_string_octets)?;
        outer.finish()?;

        let mut fields = DerReader::within(info, Tag::Sequence, "CertificationRequestInfo")?;
        if fields.field("version", |all| all.expect(Tag::Integer))? != [0] {
            return Err(CsrError::Version);
        }
        let rdns = fields.field("subject", |all| all.expect(Tag::Sequence))?;
        let subject = subject(rdns)?;
        let common_names = dn::common_names(rdns)?;
        let spki = fields.field("subjectPKInfo", |all| all.raw(Tag::Sequence))?;
        let attributes = fields.field("attributes", |all| all.expect(read::context(0, true)))?;
        fields.finish()?;
        let names = attributes::names_in(attributes, purpose)?;
        check_canonical(der)?;

        let public_key = PublicKey::from_spki_der(spki)?;
        let algorithm = SignatureAlgorithm::from_der(algorithm)?;
        Ok(Self {
            csr: Csr {
                der: der.to_vec(),
                public_key,
                subject,
                common_names,
                names,
            },
            info: info.to_vec(),
            algorithm,
            signature: signature.to_vec(),
        })
    }

    /// The request, if its signature is that of its own key.
    pub fn verify(self) -> Result<Csr, CsrError> {
        self.csr
            .public_key
            .verify(self.algorithm, &self.info, &self.signature)
            .map_err(CsrError::ProofOfPossession)?;
        Ok(self.csr)
    }

    /// As [`Csr::names`].
    pub fn names(&self) -> &[San] {
        self.csr.names()
    }

    /// As [`Csr::has_no_other_common_name`].
    pub fn has_no_other_common_name(&self, name: &str) -> bool {
        self.csr.has_no_other_common_name(name)
    }
}

fn subject(contents: &[u8]) -> Result<CsrSubject, CsrError> {
    canonical(dn::is_sorted(contents)?)?;
    if dn::is_empty(contents)? {
        return Ok(CsrSubject::Empty);
    }
    Ok(CsrSubject::Named(printable(&dn::text(contents)?)))
}

/// Another parser must decode the request and encode it to the same bytes, so that no two parsers
/// can read it differently.
fn check_canonical(der: &[u8]) -> Result<(), CsrError> {
    let request = CertReq::from_der(der)
        .map_err(|error| Malformed::new("certification request", error.to_string()))?;
    let reencoded = request
        .to_der()
        .map_err(|error| Malformed::new("certification request", error.to_string()))?;
    canonical(reencoded == der)
}

fn canonical(is_canonical: bool) -> Result<(), CsrError> {
    if is_canonical {
        Ok(())
    } else {
        Err(CsrError::NotCanonical)
    }
}
