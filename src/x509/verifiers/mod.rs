//! What the verifiers of a mesh refuse in a CA certificate, known before it is published: one root
//! that Go cannot parse makes Istio ignore every root of its file.
//!
//! Only what [`Certificate::parse`] accepts is examined here; the rest every verifier refuses.

mod extensions;
mod strict;

use std::fmt;

use der::Tag;

use super::cert::Certificate;
use super::dn;
use super::read::{DerReader, Malformed, context};

/// Larger certificates are refused by rustls-webpki.
const MAX_BYTES: usize = 65_535;

/// An implementation of certification path validation, with what uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verifier {
    /// crypto/x509: istiod, Istio's agent, Linkerd's controllers, SPIRE.
    Go,
    /// Envoy.
    BoringSsl,
    /// rustls-webpki: Linkerd's proxies, ztunnel, this program.
    Rustls,
    /// OpenSSL with `-x509_strict`, as Python verifies since 3.13.
    OpensslStrict,
}

/// Why a verifier refuses a certificate, or every certificate below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    pub verifier: Verifier,
    pub why: String,
}

/// The position of a certificate in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The trust anchor: its own signature and authorityKeyIdentifier do not matter.
    Anchor,
    /// Below the anchor.
    Intermediate,
}

impl Verifier {
    /// Whether verifiers of a mesh's own proxies and controllers refuse it, not only strict ones.
    pub fn is_of_meshes(self) -> bool {
        self != Self::OpensslStrict
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Go => "Go (istiod, Istio's agent, Linkerd's controllers)",
            Self::BoringSsl => "BoringSSL (Envoy)",
            Self::Rustls => "rustls (Linkerd's proxies, ztunnel)",
            Self::OpensslStrict => "OpenSSL with -x509_strict (Python 3.13)",
        })
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refuses it: {}", self.verifier, self.why)
    }
}

impl Certificate {
    /// What verifiers refuse in this CA certificate. It names neither expiry nor a path length: those
    /// depend on the time and the path.
    pub fn objections(&self, position: Position) -> Vec<Objection> {
        let mut found = Objections::default();
        for (field, name) in [
            ("issuer", self.issuer_der()),
            ("subject", self.subject_der()),
        ] {
            if field == "issuer" && self.is_self_issued() {
                continue;
            }
            if let Some(problem) = dn::string_problem(name) {
                let why = format!("{field}: {}", problem.why);
                if problem.boringssl {
                    found.add(Verifier::BoringSsl, why.clone());
                }
                if problem.openssl {
                    found.add(Verifier::OpensslStrict, why.clone());
                }
                found.add(Verifier::Go, why);
            }
        }
        if self.der().len() > MAX_BYTES {
            found.add(
                Verifier::Rustls,
                format!("it has more than {MAX_BYTES} bytes"),
            );
        }
        // The certificate was parsed, so that this cannot fail.
        if let Ok(fields) = OptionalFields::read(self.tbs_der()) {
            if fields.unique_ids {
                let why = "it has an issuerUniqueID or subjectUniqueID";
                found.add(Verifier::Rustls, why);
            }
            extensions::examine(fields.extensions, self, position, &mut found);
            strict::examine(fields.extensions, self, position, &mut found);
        }
        found.0
    }
}

#[derive(Default)]
struct Objections(Vec<Objection>);

impl Objections {
    fn add(&mut self, verifier: Verifier, why: impl Into<String>) {
        let why = why.into();
        self.0.push(Objection { verifier, why });
    }
}

/// The fields of a TBSCertificate after the subjectPublicKeyInfo.
struct OptionalFields<'a> {
    unique_ids: bool,
    /// The contents of Extensions; empty without.
    extensions: &'a [u8],
}

impl<'a> OptionalFields<'a> {
    fn read(tbs: &'a [u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "TBSCertificate";
        let mut found = Self {
            unique_ids: false,
            extensions: &[],
        };
        let mut fields = DerReader::within(tbs, Tag::Sequence, WHAT)?;
        while !fields.is_empty() {
            let field = fields.any()?;
            match der::Tagged::tag(&field) {
                tag if tag == context(1, false) || tag == context(2, false) => {
                    found.unique_ids = true;
                }
                tag if tag == context(3, true) => {
                    found.extensions = super::read::whole(field.value(), Tag::Sequence, WHAT)?;
                }
                _ => {}
            }
        }
        Ok(found)
    }
}
