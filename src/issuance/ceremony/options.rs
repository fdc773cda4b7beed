//! What ceremonies are asked for, and what they answer.

use std::time::Duration;

use crate::ledger::IssuerId;
use crate::x509::{Certificate, KeyKind, PublicKey, TrustDomain};

/// What `ca init` makes.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The trust domain of the new authority.
    pub trust_domain: TrustDomain,
    /// The token's name in the configuration.
    pub token: String,
    /// Kind of both keys.
    pub kind: KeyKind,
    /// Life of the root certificate.
    pub root_ttl: Duration,
    /// Life of the issuing certificate.
    pub issuing_ttl: Duration,
    /// How many CAs may stand below the issuing CA.
    pub path_len: u8,
    /// organizationName in both subjects.
    pub organization: Option<String>,
}

/// What `ca init` made.
#[derive(Debug)]
pub struct InitReport {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The root certificate, which is the trust anchor.
    pub root: Certificate,
    /// The issuing certificate.
    pub issuing: Certificate,
    /// The published bundle's sequence.
    pub bundle_sequence: Option<u64>,
}

/// What `ca request` makes.
#[derive(Debug, Clone)]
pub struct RequestOptions {
    /// The trust domain of the authority; it is created when it is new.
    pub trust_domain: TrustDomain,
    /// The token's name in the configuration.
    pub token: String,
    /// Kind of the key.
    pub kind: KeyKind,
    /// How many CAs may stand below the issuing CA.
    pub path_len: u8,
    /// organizationName in the subject.
    pub organization: Option<String>,
}

/// What `ca request` made.
#[derive(Debug)]
pub struct RequestReport {
    /// The certification request for the enterprise's CA.
    pub csr_pem: String,
    /// The pending issuer.
    pub issuer: IssuerId,
    /// Its key.
    pub public_key: PublicKey,
}

/// What `ca import` put in use.
#[derive(Debug)]
pub struct ImportReport {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The issuer that is active now.
    pub issuer: IssuerId,
    /// Its certificate.
    pub certificate: Certificate,
    /// The anchor that its path ends in.
    pub anchor: Certificate,
    /// The published bundle's sequence, when it changed.
    pub bundle_sequence: Option<u64>,
}
