//! Authorities, issuers, anchors, bundles, and how they change.

use std::fmt;
use std::str::FromStr;

use super::intent::words;
use crate::clock::UnixTime;
use crate::digest::{hex, sha256};
use crate::x509::TrustDomain;

/// Names an issuer, that is a key: the first 16 bytes of the SHA-256 of its SubjectPublicKeyInfo,
/// in lower hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerId(Box<str>);

impl IssuerId {
    /// The id of the key with this SubjectPublicKeyInfo (DER).
    pub fn of_spki(spki_der: &[u8]) -> Self {
        Self(hex(sha256(spki_der).get(..16).unwrap_or_default()).into())
    }

    /// The id as text.
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

/// The number of a CA certificate's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaCertificateId(i64);

impl CaCertificateId {
    /// The row with this number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for CaCertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a record stands; it only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IssuerState {
    /// Prepared: an issuer signs no leaf yet, an anchor is published so that all learn it.
    Pending,
    /// In use.
    Active,
    /// Never used again.
    Retired,
}
words!(IssuerState, "state", { Pending => "pending", Active => "active", Retired => "retired" });

/// The state of an anchor, with the same words.
pub type AnchorState = IssuerState;
/// The state of a CA certificate, with the same words.
pub type CertificateState = IssuerState;

/// What an issuer's key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Signs CA certificates; `serve` never opens it.
    Root,
    /// Signs leaves.
    Issuing,
}
words!(Role, "role", { Root => "root", Issuing => "issuing" });

/// Whose anchor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnchorOrigin {
    /// A root of this authority.
    Own,
    /// The enterprise's root above this authority.
    Upstream,
    /// Another CA's: published, never accepted for callers.
    Foreign,
}
words!(AnchorOrigin, "origin", { Own => "own", Upstream => "upstream", Foreign => "foreign" });

/// Where a copy of an issuer's key lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLocation {
    /// The token's name in the configuration.
    pub token: String,
    /// The token's own serial number.
    pub token_serial: String,
    /// CKA_ID.
    pub key_id: Vec<u8>,
    /// CKA_LABEL.
    pub label: String,
}

/// A CA certificate of an issuer, with its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificateRecord {
    /// Its row.
    pub id: CaCertificateId,
    /// The certificate.
    pub der: Vec<u8>,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
    /// Where it stands.
    pub state: CertificateState,
    /// The intermediates above it, in order, without the anchor.
    pub path: Vec<Vec<u8>>,
    /// SHA-256 of the anchor that the path ends in.
    pub anchor: [u8; 32],
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity.
    pub not_after: UnixTime,
    /// When it was added.
    pub added_at: UnixTime,
    /// By whom.
    pub added_by: String,
}

/// A key, with where it lies and what was issued to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRecord {
    /// Its id.
    pub id: IssuerId,
    /// What it is for.
    pub role: Role,
    /// Where it stands.
    pub state: IssuerState,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// Where copies of the key lie.
    pub locations: Vec<KeyLocation>,
    /// The pathLenConstraint that was asked for.
    pub path_len: Option<u8>,
    /// Its certificates, oldest first.
    pub certificates: Vec<CaCertificateRecord>,
    /// When it was added.
    pub created_at: UnixTime,
    /// By whom.
    pub created_by: String,
}

/// A trust anchor of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorRecord {
    /// SHA-256 of it.
    pub sha256: [u8; 32],
    /// The certificate.
    pub der: Vec<u8>,
    /// Whose it is.
    pub origin: AnchorOrigin,
    /// Where it came from, in an operator's words.
    pub source: String,
    /// Where it stands.
    pub state: AnchorState,
    /// When a foreign anchor leaves the bundle by itself.
    pub expires_at: Option<UnixTime>,
    /// When it was added.
    pub added_at: UnixTime,
    /// By whom.
    pub added_by: String,
    /// When it was retired.
    pub retired_at: Option<UnixTime>,
}

/// One immutable version of a trust bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRecord {
    /// Counts the trust domain's versions, from 1.
    pub sequence: u64,
    /// [`TrustBundle::digest`](crate::x509::TrustBundle::digest) of the anchors.
    pub digest: [u8; 32],
    /// The anchors (DER) in published order.
    pub anchors: Vec<Vec<u8>>,
    /// When it was made.
    pub created_at: UnixTime,
}

/// A trust domain's CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityRecord {
    /// Its row.
    pub id: i64,
    /// Its trust domain, which no other authority has.
    pub trust_domain: TrustDomain,
    /// When it was made.
    pub created_at: UnixTime,
    /// By whom.
    pub created_by: String,
    /// Its keys, oldest first.
    pub issuers: Vec<IssuerRecord>,
    /// Its anchors, oldest first.
    pub anchors: Vec<AnchorRecord>,
    /// The newest bundle; `None` before the first anchor.
    pub bundle: Option<BundleRecord>,
}

/// All records at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision they stand at.
    pub revision: u64,
    /// All authorities, oldest first.
    pub authorities: Vec<AuthorityRecord>,
}

impl Snapshot {
    /// The authority of a trust domain.
    pub fn authority(&self, trust_domain: &TrustDomain) -> Option<&AuthorityRecord> {
        self.authorities
            .iter()
            .find(|authority| authority.trust_domain == *trust_domain)
    }

    /// An issuer and its authority.
    pub fn issuer(&self, id: &IssuerId) -> Option<(&AuthorityRecord, &IssuerRecord)> {
        self.authorities.iter().find_map(|authority| {
            let issuer = authority.issuers.iter().find(|issuer| issuer.id == *id)?;
            Some((authority, issuer))
        })
    }
}

/// Who changes the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The operating system's user, or the operator.
    pub name: String,
    /// By what way: `cli`, `admin`, `server`.
    pub via: String,
}

/// One change of the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new authority, without keys yet.
    CreateAuthority {
        /// Its trust domain.
        trust_domain: TrustDomain,
    },
    /// A new key, pending.
    AddIssuer {
        /// The authority.
        trust_domain: TrustDomain,
        /// What the key is for.
        role: Role,
        /// SubjectPublicKeyInfo, DER.
        public_key: Vec<u8>,
        /// Where the key lies.
        location: KeyLocation,
        /// The pathLenConstraint to ask for.
        path_len: Option<u8>,
    },
    /// Another copy of a key, or a new place for the copy on the same token.
    AddLocation {
        /// The issuer.
        issuer: IssuerId,
        /// Where the copy lies.
        location: KeyLocation,
    },
    /// A certificate that was issued to a key, with the path above it and its anchor.
    AddCaCertificate {
        /// The issuer, whose key the certificate must hold.
        issuer: IssuerId,
        /// The certificate.
        der: Vec<u8>,
        /// The intermediates above it, in order, without the anchor.
        path: Vec<Vec<u8>>,
        /// The anchor (DER); added to the authority when it is new there.
        anchor: Vec<u8>,
        /// Whose anchor it is.
        origin: AnchorOrigin,
        /// Where it came from, in an operator's words.
        source: String,
        /// Put certificate, anchor and issuer to use now; otherwise they are pending until
        /// [`SetIssuerState`](Change::SetIssuerState).
        activate: bool,
        /// Retire the authority's other active issuers with the same role.
        retire: bool,
    },
    /// A CA certificate that is no longer answered with.
    RetireCaCertificate {
        /// Its row.
        certificate: CaCertificateId,
    },
    /// Moves an issuer forward; to active, its pending certificates and their anchors move along.
    SetIssuerState {
        /// The issuer.
        issuer: IssuerId,
        /// Where to.
        state: IssuerState,
    },
    /// A foreign anchor: published, never accepted for callers.
    AddAnchor {
        /// The authority whose bundle shows it.
        trust_domain: TrustDomain,
        /// The certificate.
        der: Vec<u8>,
        /// Where it came from, in an operator's words.
        source: String,
        /// When it leaves the bundle; at the latest when the certificate expires.
        expires_at: Option<UnixTime>,
    },
    /// An anchor leaves the bundle for good.
    RetireAnchor {
        /// The authority.
        trust_domain: TrustDomain,
        /// SHA-256 of the anchor.
        sha256: [u8; 32],
    },
    /// Foreign anchors that have expired leave the bundles. Where that changes nothing, nothing is
    /// written.
    RefreshBundles {
        /// The moment to judge by.
        now: UnixTime,
    },
}

/// A bundle version that a change has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleVersion {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Its new sequence number.
    pub sequence: u64,
}

/// What a change has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The revision of the records after it.
    pub revision: u64,
    /// The bundle versions it made.
    pub bundles: Vec<BundleVersion>,
    /// The CA certificate's row, when one was added.
    pub certificate: Option<CaCertificateId>,
}
