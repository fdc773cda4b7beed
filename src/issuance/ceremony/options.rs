//! Options and results of ceremonies.

use std::time::Duration;

use super::existing::ExistingKey;
use crate::ledger::{IssuerId, RotationId};
use crate::x509::{Certificate, KeyKind, PublicKey, TrustDomain};

/// The options of `ca init`.
#[derive(Debug, Clone)]
pub struct InitOptions {
    pub trust_domain: TrustDomain,
    /// The token's name in the configuration.
    pub token: String,
    /// Of the keys that are generated.
    pub kind: KeyKind,
    /// Instead of a new root key.
    pub root_key: Option<ExistingKey>,
    /// Instead of a new issuing key.
    pub issuing_key: Option<ExistingKey>,
    pub root_ttl: Duration,
    pub issuing_ttl: Duration,
    /// How many CAs are allowed below the issuing CA.
    pub path_len: u8,
    /// organizationName in both subjects.
    pub organization: Option<String>,
}

/// The result of `ca init`.
#[derive(Debug)]
pub struct InitReport {
    pub trust_domain: TrustDomain,
    /// The trust anchor.
    pub root: Certificate,
    pub issuing: Certificate,
    pub bundle_sequence: Option<u64>,
}

/// The options of `ca request`.
#[derive(Debug, Clone)]
pub struct RequestOptions {
    /// A new authority is created.
    pub trust_domain: TrustDomain,
    /// The token's name in the configuration.
    pub token: String,
    pub kind: KeyKind,
    /// Instead of a new key; `token` and `kind` are then not used.
    pub use_key: Option<ExistingKey>,
    /// How many CAs are allowed below the issuing CA.
    pub path_len: u8,
    /// organizationName in the subject.
    pub organization: Option<String>,
}

/// The result of `ca request`.
#[derive(Debug)]
pub struct RequestReport {
    /// The certification request for the enterprise's CA.
    pub csr_pem: String,
    /// The pending issuer.
    pub issuer: IssuerId,
    pub public_key: PublicKey,
}

/// The result of `ca import`.
#[derive(Debug)]
pub struct ImportReport {
    pub trust_domain: TrustDomain,
    /// The issuer that is active now.
    pub issuer: IssuerId,
    pub certificate: Certificate,
    /// The anchor of its path.
    pub anchor: Certificate,
    /// From the issuing certificate to the anchor.
    pub path: Vec<Certificate>,
    /// What strict verifiers refuse in the certificates above the issuing one.
    pub warnings: Vec<String>,
    /// Certificates of the import that are not in the path.
    pub unused: Vec<Certificate>,
    /// Present when the published bundle changed.
    pub bundle_sequence: Option<u64>,
    /// Present when it does not sign yet: this rotation says when it does.
    pub rotation: Option<RotationId>,
}

impl ImportReport {
    /// The issuer, and whether it signs.
    pub fn state(&self) -> String {
        let issuer = &self.issuer;
        match self.rotation {
            None => format!("{issuer}, active"),
            Some(rotation) => format!(
                "{issuer}, signs when rotation {rotation} activates it: rootbridge rotate explain"
            ),
        }
    }
}
