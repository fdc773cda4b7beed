//! Authorities, issuers, anchors, bundles, and changes to them.

use std::fmt;
use std::str::FromStr;

use super::ca_request::{CaRequestChange, CaRequestId, CaRequestRecord};
use super::high_water::HighWater;
use super::issuer_key::{IssuerId, KeyLocation, Role};
use super::planned_key::{PlannedKey, PlannedKeyChange};
use super::presence::PresenceChange;
use super::rotation::RotationChange;
use super::words::words;
use super::work_lease::WorkLease;
use crate::clock::UnixTime;
use crate::x509::TrustDomain;

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
    /// The newest requests to an upstream CA, oldest first: at most one, the last, is in flight.
    pub requests: Vec<CaRequestRecord>,
    /// Keys that a ceremony was about to record, oldest first; some may not be in the token.
    pub planned_keys: Vec<PlannedKey>,
}

impl AuthorityRecord {
    /// The request to an upstream CA that has not ended.
    pub fn open_request(&self) -> Option<&CaRequestRecord> {
        self.requests.iter().find(|each| each.state.is_open())
    }
}

/// A consistent view of all records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub revision: u64,
    /// Oldest first.
    pub authorities: Vec<AuthorityRecord>,
    /// Those that an operator has removed, oldest first: they have never issued.
    pub removed: Vec<AuthorityRecord>,
}

impl Snapshot {
    pub fn authority(&self, trust_domain: &TrustDomain) -> Option<&AuthorityRecord> {
        self.authorities
            .iter()
            .find(|authority| authority.trust_domain == *trust_domain)
    }

    /// Of a removed authority as well: its key stays that of an issuer.
    pub fn issuer(&self, id: &IssuerId) -> Option<(&AuthorityRecord, &IssuerRecord)> {
        let mut authorities = self.authorities.iter().chain(&self.removed);
        authorities.find_map(|authority| {
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
    /// Its changes are made only while it holds this lease.
    pub lease: Option<WorkLease>,
}

impl Actor {
    /// The server itself, as the author of what it does without being asked.
    pub fn server(lease: Option<WorkLease>) -> Self {
        Self {
            name: "rootbridge".to_owned(),
            via: "server".to_owned(),
            lease,
        }
    }
}

/// A change of the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Creates an authority without keys; one that was removed is there again, and continues the
    /// sequence of its bundles.
    CreateAuthority { trust_domain: TrustDomain },
    /// Removes an authority that has never issued, with all that it has: issuers and anchors are retired,
    /// planned keys dropped, and its request to an upstream CA is cancelled.
    RemoveAuthority {
        trust_domain: TrustDomain,
        /// The operator's.
        reason: String,
    },
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
    /// Replaces the path of a CA certificate that is not retired, which ends in the same anchor.
    SetPath {
        certificate: CaCertificateId,
        /// The intermediates from its issuer upwards, without the anchor.
        path: Vec<Vec<u8>>,
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
    /// Publishes the root of an upstream CA, which an operator has approved. Certificates below it can
    /// be used from then on; callers are accepted through it once one is.
    ApproveAnchor {
        trust_domain: TrustDomain,
        der: Vec<u8>,
        /// The operator's description of its source.
        source: String,
    },
    /// Changes a request to an upstream CA.
    Request(CaRequestChange),
    /// Changes a key that a ceremony generates.
    PlannedKey(PlannedKeyChange),
    /// Starts or moves a rotation.
    Rotation(RotationChange),
    /// Changes what is known about clusters and watchers.
    Presence(PresenceChange),
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
    /// The row of a request to an upstream CA that was begun.
    pub request: Option<CaRequestId>,
}
