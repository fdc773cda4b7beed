//! Durable records: intents and their outcomes, authorities, issuers, anchors and bundles.
//!
//! [`Ledger`] is the contract; `tests/ledger` is its suite, for every implementation. An [`Intent`]
//! says what a key is about to sign, its [`Outcome`] what happened; both are append-only. Authorities,
//! issuers and anchors have a state that only moves forward (pending, active, retired). Every
//! [`Change`] of them names its author, and creates an immutable bundle version where it changes the
//! published anchors.

mod ca_request;
mod error;
mod filter;
mod high_water;
mod intent;
mod issuer_key;
mod planned_key;
pub mod postgres;
mod presence;
mod records;
mod replication;
mod rollout;
mod rotation;
mod row;
mod sql;
pub mod sqlite;
mod store;
mod words;
mod work_lease;

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use ca_request::{CaRequestChange, CaRequestId, CaRequestRecord, CaRequestState};
pub use error::LedgerError;
pub use filter::Filter;
pub use high_water::HighWater;
pub use intent::{
    CallerMethod, CallerRecord, Epoch, Intent, IntentId, Kind, Outcome, Record, State,
};
pub use issuer_key::{IssuerId, KeyLocation, Role};
pub use planned_key::{PlannedKey, PlannedKeyChange};
pub use postgres::{PasswordSource, Postgres, PostgresConfig};
pub use presence::{COMMAND, GoneCluster, LiveServer, PresenceChange, ServerReport, WatcherReport};
pub use records::{
    Actor, AnchorOrigin, AnchorRecord, AnchorState, Applied, AuthorityRecord, BundleRecord,
    BundleVersion, CaCertificateId, CaCertificateRecord, CertificateState, Change, IssuerRecord,
    IssuerState, Snapshot,
};
pub use replication::{Assurance, Replication, Standby};
pub use rollout::BundleRollout;
pub use rotation::{
    Live, LiveCertificates, LiveFilter, LiveHolder, RotationChange, RotationId, RotationKind,
    RotationParts, RotationPhase, RotationRecord, RotationStep,
};
pub use row::{CertificateRow, CheckReport};
pub use sqlite::{OpenMode, Sqlite};
pub use store::LedgerStore;
pub use work_lease::{Claim, ClaimFrom, WorkLease, WorkLeaseRecord};

use crate::clock::UnixTime;
use crate::x509::{Serial, TrustDomain};

/// The result of a ledger's method.
pub type LedgerFuture<'a, T> = BoxFuture<'a, Result<T, LedgerError>>;

/// Why a wait for changed records has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// The store said that they may have changed.
    Told,
    /// It says nothing of changes, or may have failed to.
    Due,
}

/// The store of everything that must survive a restart.
///
/// A call may take effect even if its future is dropped: callers run calls that must be concluded in
/// a task of their own.
#[warn(missing_docs)]
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Records what is about to be signed; durable when it returns.
    ///
    /// It checks the issuer's state in the same transaction: a leaf needs an active issuer, a CA
    /// certificate or a request a pending or active one. An idempotency key that is on record gives
    /// [`Record::Existing`], whatever the issuer's state is now.
    ///
    /// # Errors
    /// [`LedgerError::IssuerNotActive`], [`LedgerError::UnknownIssuer`],
    /// [`LedgerError::DuplicateSerial`], [`LedgerError::UnknownEpoch`], [`LedgerError::LeaseLost`],
    /// [`LedgerError::Unavailable`]: nothing may be signed.
    fn record(&self, intent: Intent) -> LedgerFuture<'_, Record>;

    /// Records the outcome of an intent; durable when it returns. Repeating the same outcome is no
    /// error, so a caller may retry after [`LedgerError::Unavailable`].
    ///
    /// # Errors
    /// [`LedgerError::AlreadyConcluded`] when another outcome is on record: nothing may be released.
    fn conclude(&self, intent: IntentId, outcome: Outcome) -> LedgerFuture<'_, ()>;

    /// Changes the outcome of an intent whose bytes are signed again for a repeated idempotency key:
    /// before the HSM signs, failed becomes [`Outcome::Unknown`], because `failed` says that no
    /// signature exists; afterwards it becomes [`Outcome::Issued`]. No other change is possible.
    ///
    /// # Errors
    /// [`LedgerError::AlreadyConcluded`] when another signature is on record,
    /// [`LedgerError::Refused`] when the intent is not concluded, or for any other outcome.
    fn reopen(&self, intent: IntentId, outcome: Outcome) -> LedgerFuture<'_, ()>;

    /// The intents that match the filter, newest first.
    fn certificates(&self, filter: Filter) -> LedgerFuture<'_, Vec<CertificateRow>>;

    /// The certificate with this serial; without an issuer, the newest one.
    fn certificate<'a>(
        &'a self,
        issuer: Option<IssuerId>,
        serial: &'a Serial,
    ) -> LedgerFuture<'a, Option<CertificateRow>>;

    /// A consistent view of all records.
    fn snapshot(&self) -> LedgerFuture<'_, Snapshot>;

    /// The records of one trust domain's authority, at a cost that does not grow with the others'.
    fn authority<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
    ) -> LedgerFuture<'a, Option<AuthorityRecord>>;

    /// A number that grows with every change of the records; cheap to read.
    fn revision(&self) -> LedgerFuture<'_, u64>;

    /// Waits until the records may have changed, for as long as a poll of the [`revision`](Self::revision)
    /// may wait.
    fn wait_for_change(&self) -> BoxFuture<'_, Wakeup>;

    /// A bundle version of a trust domain, without `sequence` the newest one.
    fn bundle<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
        sequence: Option<u64>,
    ) -> LedgerFuture<'a, Option<BundleRecord>>;

    /// Changes the records, and creates a bundle version where the published anchors change, in one
    /// transaction.
    ///
    /// # Errors
    /// [`LedgerError::Refused`], the `Unknown…` errors, and [`LedgerError::LeaseLost`] when the actor's
    /// lease has changed hands: nothing was changed.
    fn apply<'a>(&'a self, change: Change, by: &'a Actor) -> LedgerFuture<'a, Applied>;

    /// Records that every object of a target contains a bundle version, and returns since when. It
    /// stores the newest version of each cluster and target, and the first time of each version.
    ///
    /// # Errors
    /// [`LedgerError::UnknownAuthority`], [`LedgerError::Refused`] for a version that does not exist, and
    /// [`LedgerError::LeaseLost`].
    fn record_rollout<'a>(
        &'a self,
        rollout: BundleRollout,
        lease: Option<&'a WorkLease>,
    ) -> LedgerFuture<'a, UnixTime>;

    /// The newest rollout of every target in every cluster, ordered by their names.
    fn rollouts(&self) -> LedgerFuture<'_, Vec<BundleRollout>>;

    /// Records what a server has of an authority, in place of what it had.
    ///
    /// # Errors
    /// [`LedgerError::UnknownAuthority`], [`LedgerError::UnknownEpoch`] of a server that never registered.
    fn report_server(&self, report: ServerReport) -> LedgerFuture<'_, ()>;

    /// The servers whose lease ends after `now`, with what the newest epoch of each has reported.
    fn live_servers(&self, now: UnixTime) -> LedgerFuture<'_, Vec<LiveServer>>;

    /// Records what watchers have applied, each in place of what it had.
    ///
    /// # Errors
    /// [`LedgerError::UnknownAuthority`]: none is recorded.
    fn report_watchers(&self, reports: Vec<WatcherReport>) -> LedgerFuture<'_, ()>;

    /// Every watcher that has ever reported and was not forgotten.
    fn watchers(&self) -> LedgerFuture<'_, Vec<WatcherReport>>;

    /// The clusters that operators have declared gone, those that came back among them.
    fn gone_clusters(&self) -> LedgerFuture<'_, Vec<GoneCluster>>;

    /// The newest rotations of all authorities with their moves, oldest first; every open one is among
    /// them.
    fn rotations(&self) -> LedgerFuture<'_, Vec<RotationRecord>>;

    /// The certificates of a trust domain that may be valid, by who holds them. What is recorded and not
    /// concluded counts.
    ///
    /// # Errors
    /// [`LedgerError::UnknownAuthority`].
    fn live_certificates(&self, filter: LiveFilter) -> LedgerFuture<'_, LiveCertificates>;

    /// Starts a new epoch of `instance`. Other instances may conclude its intents once `lease` has
    /// passed without a [`renew`](Ledger::renew). A short-lived process needs a unique name: all
    /// earlier epochs of an instance count as ended.
    fn register<'a>(
        &'a self,
        instance: &'a str,
        lease: Duration,
        now: UnixTime,
    ) -> LedgerFuture<'a, Epoch>;

    /// Extends the lease of an epoch by its whole length from `now`.
    ///
    /// # Errors
    /// [`LedgerError::UnknownEpoch`] when the instance has registered again since.
    fn renew<'a>(&'a self, epoch: &'a Epoch, now: UnixTime) -> LedgerFuture<'a, ()>;

    /// Concludes as unknown the open intents of the instance's earlier epochs and of instances whose
    /// lease has expired, and returns how many there were.
    fn reconcile<'a>(&'a self, epoch: &'a Epoch, now: UnixTime) -> LedgerFuture<'a, u64>;

    /// Claims the lease on `work` for an epoch. A lease is valid as long as its holder's own one, which
    /// [`renew`](Self::renew) extends; one that is held already is returned again.
    ///
    /// # Errors
    /// [`LedgerError::UnknownEpoch`], and [`LedgerError::Refused`] when the epoch's own lease has expired.
    fn claim<'a>(
        &'a self,
        work: &'a str,
        from: ClaimFrom,
        epoch: &'a Epoch,
        now: UnixTime,
    ) -> LedgerFuture<'a, Claim>;

    /// Gives a lease up, so that the next holder need not wait. One that is lost already is no error.
    fn give_up<'a>(&'a self, lease: &'a WorkLease) -> LedgerFuture<'a, ()>;

    /// Whether a lease still has its holder, for what is written outside of the ledger.
    ///
    /// # Errors
    /// [`LedgerError::LeaseLost`].
    fn require<'a>(&'a self, lease: &'a WorkLease) -> LedgerFuture<'a, ()>;

    /// All leases on work, by name.
    fn work_leases(&self) -> LedgerFuture<'_, Vec<WorkLeaseRecord>>;

    /// What tells this ledger from every other one, its copies excepted; `None` before its first key.
    fn identity(&self) -> LedgerFuture<'_, Option<String>>;

    /// How far the ledger has come, all of it durable.
    fn high_water(&self) -> LedgerFuture<'_, HighWater>;

    /// What this ledger lacks of an earlier [`high_water`](Self::high_water), or holds otherwise, as a
    /// clause; `None` when it holds all of it.
    fn behind<'a>(&'a self, mark: &'a HighWater) -> LedgerFuture<'a, Option<String>>;

    /// The clock of a store that several servers share: their leases are compared with each other, so
    /// their clocks must agree with it. `None` for a store on the server's own machine.
    fn time(&self) -> LedgerFuture<'_, Option<UnixTime>>;

    /// Checks the store: its integrity, its schema, and the invariants that are cheap to check.
    fn check(&self) -> LedgerFuture<'_, CheckReport>;

    /// Finishes all queued calls, then closes the store and releases its lock; later calls fail with
    /// [`LedgerError::Unavailable`].
    fn close(&self) -> BoxFuture<'_, ()>;
}
