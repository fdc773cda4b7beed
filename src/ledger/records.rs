//! Authorities, issuers, anchors, bundles, and changes to them.

use std::fmt;
use std::str::FromStr;

use super::high_water::HighWater;
use super::words::words;
use crate::clock::UnixTime;
use crate::digest::{hex, sha256};
use crate::x509::TrustDomain;

/// Identifies an issuer by its key: the first 16 bytes of the SHA-256 of its SubjectPublicKeyInfo, in
/// lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerId(Box<str>);

impl IssuerId {
    pub fn of_spki(spki_der: &[u8]) -> Self {
        Self(hex(sha256(spki_der).get(..16).unwrap_or_default()).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for IssuerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() == 32 && text.chars().all(hex) {
            Ok(Self(text.into()))
        } else {
            Err(format!(
                "{text:?} is no issuer id: 32 digits of lower-case hex"
            ))
        }
    }
}

/// The row number of a CA certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaCertificateId(i64);

impl CaCertificateId {
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for CaCertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The state of a record; it only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IssuerState {
    /// An issuer signs no leaf yet; an anchor is published already.
    Pending,
    Active,
    Retired,
}
words!(IssuerState, "state", { Pending => "pending", Active => "active", Retired => "retired" });

pub type AnchorState = IssuerState;
pub type CertificateState = IssuerState;

/// What an issuer's key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Signs CA certificates; `serve` never opens its key.
    Root,
    /// Signs leaves.
    Issuing,
}
words!(Role, "role", { Root => "root", Issuing => "issuing" });

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnchorOrigin {
    /// A root of this authority.
    Own,
    /// The enterprise's root above this authority.
    Upstream,
    /// Another CA's root: published, never accepted for callers.
    Foreign,
}
words!(AnchorOrigin, "origin", { Own => "own", Upstream => "upstream", Foreign => "foreign" });

/// The location of a copy of an issuer's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLocation {
    /// The token's name in the configuration.
    pub token: String,
    /// The token's serial number (CK_TOKEN_INFO).
    pub token_serial: String,
    pub key_id: Vec<u8>,
    pub label: String,
}

/// A CA certificate issued to an issuer's key, with its certification path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificateRecord {
    pub id: CaCertificateId,
    pub der: Vec<u8>,
    pub sha256: [u8; 32],
    pub state: CertificateState,
    /// The intermediates from its issuer upwards, without the anchor.
    pub path: Vec<Vec<u8>>,
    /// SHA-256 of the anchor at the end of the path.
    pub anchor: [u8; 32],
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    pub added_at: UnixTime,
    pub added_by: String,
}

/// A key, its locations and its certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRecord {
    pub id: IssuerId,
    pub role: Role,
    pub state: IssuerState,
    pub public_key: Vec<u8>,
    pub locations: Vec<KeyLocation>,
    /// The pathLenConstraint to request.
    pub path_len: Option<u8>,
    /// Oldest first.
    pub certificates: Vec<CaCertificateRecord>,
    pub created_at: UnixTime,
    pub created_by: String,
}

/// A trust anchor of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorRecord {
    pub sha256: [u8; 32],
    pub der: Vec<u8>,
    pub origin: AnchorOrigin,
    /// The operator's description of its source.
    pub source: String,
    pub state: AnchorState,
    /// When a foreign anchor leaves the bundle.
    pub expires_at: Option<UnixTime>,
    pub added_at: UnixTime,
    pub added_by: String,
    pub retired_at: Option<UnixTime>,
}

/// One immutable version of a trust bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRecord {
    /// The trust domain's version number, from 1.
    pub sequence: u64,
    /// [`TrustBundle::digest`](crate::x509::TrustBundle::digest) of the anchors.
    pub digest: [u8; 32],
    /// The anchors (DER) in published order.
    pub anchors: Vec<Vec<u8>>,
    pub created_at: UnixTime,
}

/// A trust domain's CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityRecord {
    pub id: i64,
    /// Unique among authorities.
    pub trust_domain: TrustDomain,
    pub created_at: UnixTime,
    pub created_by: String,
    /// Oldest first.
    pub issuers: Vec<IssuerRecord>,
    /// Oldest first.
    pub anchors: Vec<AnchorRecord>,
    /// The newest version; `None` before the first anchor.
    pub bundle: Option<BundleRecord>,
}

/// A consistent view of all records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub revision: u64,
    /// Oldest first.
    pub authorities: Vec<AuthorityRecord>,
}

impl Snapshot {
    pub fn authority(&self, trust_domain: &TrustDomain) -> Option<&AuthorityRecord> {
        self.authorities
            .iter()
            .find(|authority| authority.trust_domain == *trust_domain)
    }

    pub fn issuer(&self, id: &IssuerId) -> Option<(&AuthorityRecord, &IssuerRecord)> {
        self.authorities.iter().find_map(|authority| {
            let issuer = authority.issuers.iter().find(|issuer| issuer.id == *id)?;
            Some((authority, issuer))
        })
    }
}

/// The author of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The operating system's user, or the operator.
    pub name: String,
    /// `cli`, `admin` or `server`.
    pub via: String,
}

/// A change of the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Creates an authority without keys.
    CreateAuthority { trust_domain: TrustDomain },
    /// Adds a key as a pending issuer.
    AddIssuer {
        trust_domain: TrustDomain,
        role: Role,
        public_key: Vec<u8>,
        location: KeyLocation,
        /// The pathLenConstraint to request.
        path_len: Option<u8>,
    },
    /// Adds a copy of a key, or moves the copy on the same token.
    AddLocation {
        issuer: IssuerId,
        location: KeyLocation,
    },
    /// Adds a certificate issued to a key, with its path and anchor.
    AddCaCertificate {
        /// The issuer whose key the certificate must contain.
        issuer: IssuerId,
        der: Vec<u8>,
        /// The intermediates from its issuer upwards, without the anchor.
        path: Vec<Vec<u8>>,
        /// The anchor (DER), which the authority gets if it is new there.
        anchor: Vec<u8>,
        origin: AnchorOrigin,
        /// The operator's description of its source.
        source: String,
        /// Makes certificate, anchor and issuer active; otherwise they are pending until
        /// [`SetIssuerState`](Change::SetIssuerState).
        activate: bool,
        /// Retires the authority's other active issuers of the same role.
        retire: bool,
    },
    /// Retires a CA certificate: it is no longer returned with leaves.
    RetireCaCertificate { certificate: CaCertificateId },
    /// Moves an issuer forward. An issuer that becomes active takes its pending certificates and their
    /// anchors along.
    SetIssuerState {
        issuer: IssuerId,
        state: IssuerState,
    },
    /// Adds foreign anchors: published, never accepted for callers. Those that are published already
    /// stay as they are; if one cannot be added, none is.
    AddAnchors {
        trust_domain: TrustDomain,
        ders: Vec<Vec<u8>>,
        /// The operator's description of its source.
        source: String,
        /// When they leave the bundle, each at the latest at its notAfter.
        expires_at: Option<UnixTime>,
    },
    /// Removes an anchor from the bundle.
    RetireAnchor {
        trust_domain: TrustDomain,
        sha256: [u8; 32],
    },
    /// Removes expired foreign anchors from the bundles. If none has expired, nothing is written.
    RefreshBundles { now: UnixTime },
    /// Goes on with this ledger although a server's mark is ahead of it. New bundle versions are above
    /// the mark's.
    AcceptOlderLedger {
        instance: String,
        mark: HighWater,
        /// The operator's.
        reason: String,
    },
    /// Makes every change, in this order, or none.
    All(Vec<Change>),
}

/// A bundle version that a change created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleVersion {
    pub trust_domain: TrustDomain,
    pub sequence: u64,
}

/// The result of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub revision: u64,
    pub bundles: Vec<BundleVersion>,
    /// The row of an added CA certificate.
    pub certificate: Option<CaCertificateId>,
    /// SHA-256 of the foreign anchors that were not published before.
    pub added_anchors: Vec<[u8; 32]>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_issuers_id_is_32_lower_case_digits() {
        let id = IssuerId::of_spki(b"key");
        assert_eq!(id.to_string().len(), 32);
        assert_eq!(id.as_str().parse::<IssuerId>(), Ok(id.clone()));
        assert_eq!(format!("{:>34}", id), format!("  {id}"));
        let text = id.to_string();
        let short = text.get(1..).unwrap();
        for wrong in [
            String::new(),
            short.to_owned(),
            format!("{text}0"),
            format!("{short}g"),
            format!("{short}A"),
            format!("{short}-"),
        ] {
            let error = wrong.parse::<IssuerId>().unwrap_err();
            assert!(error.contains("is no issuer id"), "{error}");
        }
        assert_eq!(CaCertificateId::new(7).to_string(), "7");
    }
}
