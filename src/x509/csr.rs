//! Certification requests (PKCS#10, RFC 2986): bounded, canonical, and with the proof that the
//! sender holds the key. A [`Csr`] that was not verified cannot exist.

use der::{Decode, Encode, Tag, Tagged};
use x509_cert::request::CertReq;

use super::algorithm::{SignatureAlgorithm, UnknownAlgorithm};
use super::dn;
use super::extension::{self, BasicConstraints, Extension, KeyUsage, ListFault};
use super::key::{KeyError, PublicKey};
use super::name::{NameError, shown};
use super::pem::{self, PemError};
use super::read::{self, Der, Malformed};
use super::san::San;

/// The most bytes of a request that are read, in PEM or in DER.
const BYTES: usize = 16 * 1024;
const EXTENSIONS: usize = 8;
const ATTRIBUTES: usize = 8;
const NAMES: usize = 8;

/// The contents of the attributes' object identifiers: extensionRequest (RFC 2985 §5.4.2), and the
/// one that Microsoft's tools used before it.
const EXTENSION_REQUEST: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e";
const MICROSOFT_EXTENSIONS: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x0e";

/// A certification request whose signature was verified with the key that it holds.
#[derive(Clone, Debug)]
pub struct Csr {
    der: Vec<u8>,
    public_key: PublicKey,
    subject: CsrSubject,
    names: Vec<San>,
}

/// What the subject of a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CsrSubject {
    /// Nothing: no RDN, or only empty strings, as in the `O=""` of Istio's Go client.
    Empty,
    /// Something, as RFC 4514 writes it and cut short: for messages, never for a decision on it.
    Named(String),
}

impl Csr {
    /// Parses and verifies a request in DER.
    ///
    /// # Errors
    /// [`CsrError`] says which of the bounds, forms or proofs it fails.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > BYTES {
            return Err(CsrError::TooLarge { bytes: der.len() });
        }
        let mut outer = Der::within(der, Tag::Sequence, "certification request")?;
        let info = outer.raw(Tag::Sequence)?;
        let algorithm = outer.raw(Tag::Sequence)?;
        let signature = outer.octet_bits()?;
        outer.finish()?;

        let mut fields = Der::within(info, Tag::Sequence, "CertificationRequestInfo")?;
        if fields.expect(Tag::Integer)? != [0] {
            return Err(CsrError::Version);
        }
        let subject = subject(fields.expect(Tag::Sequence)?)?;
        let spki = fields.raw(Tag::Sequence)?;
        let attributes = fields.expect(read::context(0, true))?;
        fields.finish()?;
        let names = names_in(attributes)?;
        check_canonical(der)?;

        let public_key = PublicKey::from_spki_der(spki)?;
        let algorithm = SignatureAlgorithm::from_der(algorithm)?;
        public_key
            .verify(algorithm, info, signature)
            .map_err(CsrError::ProofOfPossession)?;
        Ok(Self {
            der: der.to_vec(),
            public_key,
            subject,
            names,
        })
    }

    /// Parses and verifies a request in PEM: exactly one block, labelled `CERTIFICATE REQUEST` (or
    /// `NEW CERTIFICATE REQUEST`), and nothing beside it.
    ///
    /// # Errors
    /// [`CsrError`] says which of the bounds, forms or proofs it fails.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CsrError> {
        const LABEL: &str = "CERTIFICATE REQUEST";
        if pem.len() > BYTES {
            return Err(CsrError::TooLarge { bytes: pem.len() });
        }
        let found = pem::blocks(pem, 1)?;
        let Some(block) = found.blocks.first() else {
            return Err(PemError::NoBlock { label: LABEL }.into());
        };
        if !matches!(block.label, LABEL | "NEW CERTIFICATE REQUEST") {
            return Err(PemError::Label {
                found: shown(block.label),
                wanted: LABEL,
            }
            .into());
        }
        if found.other_text {
            return Err(PemError::OtherText.into());
        }
        Self::from_der(&block.der)
    }

    /// The request in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The key that the sender has proved to hold.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// What the subject says.
    pub fn subject(&self) -> &CsrSubject {
        &self.subject
    }

    /// Every name that the request asks for in its subjectAltName, in order.
    pub fn names(&self) -> &[San] {
        &self.names
    }
}

fn subject(contents: &[u8]) -> Result<CsrSubject, CsrError> {
    if dn::says_nothing(contents)? {
        return Ok(CsrSubject::Empty);
    }
    Ok(CsrSubject::Named(shown(&dn::text(contents)?)))
}

/// Walks the attributes: each once, extensionRequest with exactly one value.
fn names_in(contents: &[u8]) -> Result<Vec<San>, CsrError> {
    const WHAT: &str = "request's attributes";
    if !read::is_sorted_set(contents, WHAT)? {
        return Err(CsrError::NotCanonical);
    }
    let mut attributes = Der::new(contents, WHAT)?;
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut names = Vec::new();
    while !attributes.is_empty() {
        if seen.len() == ATTRIBUTES {
            return Err(CsrError::TooManyAttributes);
        }
        let mut attribute = Der::new(attributes.expect(Tag::Sequence)?, WHAT)?;
        let oid = attribute.expect(Tag::ObjectIdentifier)?;
        let values = attribute.expect(Tag::Set)?;
        attribute.finish()?;
        if values.is_empty() || !read::is_sorted_set(values, WHAT)? {
            return Err(
                Malformed::new(WHAT, "an attribute's values are empty or not sorted").into(),
            );
        }
        if seen.contains(&oid) {
            return Err(CsrError::DuplicateAttribute {
                oid: extension::oid_text(oid),
            });
        }
        seen.push(oid);
        match oid {
            EXTENSION_REQUEST => {
                names = names_in_extensions(read::whole(values, Tag::Sequence, WHAT)?)?;
            }
            // It would hide names and constraints from the checks below.
            MICROSOFT_EXTENSIONS => {
                return Err(CsrError::AttributeNotAllowed {
                    oid: extension::oid_text(oid),
                });
            }
            // A challengePassword, an unstructuredName: they ask for nothing.
            _ => {}
        }
    }
    Ok(names)
}

fn names_in_extensions(contents: &[u8]) -> Result<Vec<San>, CsrError> {
    let list = extension::list(contents, EXTENSIONS)?;
    let mut again = Vec::with_capacity(contents.len());
    for one in &list {
        extension::write_extension(&mut again, one.oid, one.critical, one.value);
    }
    if again != contents {
        return Err(CsrError::NotCanonical);
    }
    let mut names = Vec::new();
    for one in list {
        check_extension(one, &mut names)?;
    }
    Ok(names)
}

/// The extensions that may be asked for. All but the names come from the profile, so the others are
/// only checked to ask for nothing that no leaf gets.
fn check_extension(one: Extension<'_>, names: &mut Vec<San>) -> Result<(), CsrError> {
    match one.oid {
        extension::SUBJECT_ALT_NAME => read_names(one.value, names)?,
        extension::KEY_USAGE => {
            let usage = KeyUsage::from_der(one.value)?;
            if usage.contains(KeyUsage::KEY_CERT_SIGN) || usage.contains(KeyUsage::CRL_SIGN) {
                return Err(CsrError::CaRequested {
                    how: "keyUsage keyCertSign or cRLSign",
                });
            }
            canonical(usage.to_der() == one.value)?;
        }
        extension::BASIC_CONSTRAINTS => {
            let basic = BasicConstraints::from_der(one.value)?;
            if basic.ca {
                return Err(CsrError::CaRequested {
                    how: "basicConstraints CA:TRUE",
                });
            }
            canonical(basic.to_der() == one.value)?;
        }
        extension::EXTENDED_KEY_USAGE => {
            extension::key_purposes(one.value)?;
        }
        extension::SUBJECT_KEY_ID => {
            read::whole(
                one.value,
                Tag::OctetString,
                "subjectKeyIdentifier extension",
            )?;
        }
        other => {
            return Err(CsrError::ExtensionNotAllowed {
                oid: extension::oid_text(other),
            });
        }
    }
    Ok(())
}

fn read_names(value: &[u8], names: &mut Vec<San>) -> Result<(), CsrError> {
    const WHAT: &str = "subjectAltName extension";
    let mut list = Der::within(value, Tag::Sequence, WHAT)?;
    while !list.is_empty() {
        if names.len() == NAMES {
            return Err(CsrError::TooManyNames);
        }
        let name = list.any()?;
        match San::from_general_name(name) {
            Some(Ok(San::Spiffe(id))) if id.path().is_empty() => {
                return Err(NameError::NoPath {
                    name: id.to_string(),
                }
                .into());
            }
            Some(name) => names.push(name?),
            None => {
                return Err(CsrError::NameKind {
                    kind: kind_of(name.tag()),
                });
            }
        }
    }
    if names.is_empty() {
        return Err(Malformed::new(WHAT, "it is empty").into());
    }
    Ok(())
}

/// The names of GeneralName's alternatives (RFC 5280 §4.2.1.6).
fn kind_of(tag: Tag) -> &'static str {
    let Tag::ContextSpecific { number, .. } = tag else {
        return "a name of no known kind";
    };
    match number.value() {
        0 => "otherName",
        1 => "rfc822Name (an e-mail address)",
        3 => "x400Address",
        4 => "directoryName",
        5 => "ediPartyName",
        8 => "registeredID",
        _ => "a name of no known kind",
    }
}

/// The whole request, decoded by another parser and encoded again, must be the same bytes: what two
/// parsers could read differently is refused.
fn check_canonical(der: &[u8]) -> Result<(), CsrError> {
    let request = CertReq::from_der(der)
        .map_err(|error| Malformed::new("certification request", error.to_string()))?;
    let again = request
        .to_der()
        .map_err(|error| Malformed::new("certification request", error.to_string()))?;
    canonical(again == der)
}

fn canonical(is: bool) -> Result<(), CsrError> {
    if is {
        Ok(())
    } else {
        Err(CsrError::NotCanonical)
    }
}

/// Why a certification request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Too many bytes.
    #[error("CSR: {bytes} bytes; at most {BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not PEM, or not one block.
    #[error("CSR: {0}")]
    Pem(#[from] PemError),
    /// Not DER.
    #[error("CSR: {0}")]
    Malformed(#[from] Malformed),
    /// DER that another encoder would write differently.
    #[error(
        "CSR: its encoding is not canonical DER (X.690): encoded again it gives other bytes, as with \
         an explicit default value or an unsorted SET"
    )]
    NotCanonical,
    /// Another version than 0.
    #[error("CSR: the version is not 0, which is PKCS#10's only one (RFC 2986 §4.1)")]
    Version,
    /// A key that is not certified.
    #[error("CSR: {0}")]
    Key(#[from] KeyError),
    /// A signature algorithm that is not accepted.
    #[error("CSR: {0}")]
    Algorithm(#[from] UnknownAlgorithm),
    /// The signature is not by the key in the request.
    #[error("CSR: proof of possession failed: {0}; sign the request with the key it asks for")]
    ProofOfPossession(#[source] KeyError),
    /// The same attribute twice.
    #[error("CSR: attribute {oid} stands there twice")]
    DuplicateAttribute {
        /// Which.
        oid: String,
    },
    /// Too many attributes.
    #[error("CSR: more than {ATTRIBUTES} attributes")]
    TooManyAttributes,
    /// An attribute that would ask for extensions by another way.
    #[error(
        "CSR: attribute {oid} is not allowed; ask with extensionRequest (1.2.840.113549.1.9.14)"
    )]
    AttributeNotAllowed {
        /// Which.
        oid: String,
    },
    /// Too many extensions.
    #[error("CSR: more than {EXTENSIONS} extensions are asked for")]
    TooManyExtensions,
    /// The same extension twice.
    #[error("CSR: extension {oid} is asked for twice")]
    DuplicateExtension {
        /// Which.
        oid: String,
    },
    /// An extension that no leaf gets by asking.
    #[error(
        "CSR: extension {oid} is not allowed; ask for subjectAltName, keyUsage, extKeyUsage, \
         basicConstraints CA:FALSE or subjectKeyIdentifier only"
    )]
    ExtensionNotAllowed {
        /// Which.
        oid: String,
    },
    /// A CA certificate is asked for.
    #[error("CSR: it asks for a CA certificate ({how}); only end entities are certified here")]
    CaRequested {
        /// By which extension.
        how: &'static str,
    },
    /// Too many names.
    #[error("CSR: more than {NAMES} subject alternative names")]
    TooManyNames,
    /// A name of another kind.
    #[error("CSR: subject alternative name: {kind} is not certified; use a SPIFFE ID, DNS or IP")]
    NameKind {
        /// Which.
        kind: &'static str,
    },
    /// A name that is not well formed.
    #[error("CSR: subject alternative name: {0}")]
    Name(#[from] NameError),
}

impl From<ListFault> for CsrError {
    fn from(fault: ListFault) -> Self {
        match fault {
            ListFault::Malformed(malformed) => Self::Malformed(malformed),
            ListFault::TooMany => Self::TooManyExtensions,
            ListFault::Duplicate(oid) => Self::DuplicateExtension { oid },
        }
    }
}
