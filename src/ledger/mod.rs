//! All that is durable: intents and conclusions, authorities, issuers, anchors and bundles.
//!
//! [`Ledger`] is the contract and `tests/ledger` its suite, run against whatever implements it.
//! Two kinds of fact live here. An [`Intent`] says what a key is about to sign and its [`Outcome`]
//! what came of it: both are only ever added. Authorities, issuers and anchors are records with a
//! state that moves one way (pending, active, retired), and every [`Change`] of them names who made
//! it and leaves an immutable bundle version where the published anchors differ.

// A contract that others implement: each of its items says what it promises.
#![warn(missing_docs)]

mod error;
mod filter;
mod intent;
mod records;
mod rollout;
mod row;
pub mod sqlite;

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use error::LedgerError;
pub use filter::Filter;
pub use intent::{
    CallerMethod, CallerRecord, Epoch, Intent, IntentId, Kind, Outcome, Record, State,
};
pub use records::{
    Actor, AnchorOrigin, AnchorRecord, AnchorState, Applied, AuthorityRecord, BundleRecord,
    BundleVersion, CaCertificateId, CaCertificateRecord, CertificateState, Change, IssuerId,
    IssuerRecord, IssuerState, KeyLocation, Role, Snapshot,
};
pub use rollout::BundleRollout;
pub use row::{CertificateRow, CheckReport};
pub use sqlite::{OpenMode, Sqlite};

use crate::clock::UnixTime;
use crate::x509::{Serial, TrustDomain};

/// What a ledger's method answers, some time later.
pub type LedgerFuture<'a, T> = BoxFuture<'a, Result<T, LedgerError>>;

/// The durable memory of the house.
///
/// A call whose future is dropped may still take effect: the caller runs what must be concluded in
/// a task of its own.
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Writes down what is about to be signed; durable when it returns.
    ///
    /// The issuer's state is checked in the same transaction: a leaf needs an active issuer, a CA
    /// certificate or a request a pending or active one. An `origin` seen before answers
    /// [`Record::Existing`], whatever became of the issuer since.
    ///
    /// # Errors
    /// [`LedgerError::IssuerNotActive`], [`LedgerError::UnknownIssuer`],
    /// [`LedgerError::DuplicateSerial`], [`LedgerError::UnknownEpoch`], [`LedgerError::Unavailable`]:
    /// then nothing may be signed.
    fn record(&self, intent: Intent) -> LedgerFuture<'_, Record>;

    /// Writes down what became of an intent; durable when it returns. Saying the same again is no
    /// error, so that a caller may repeat it after [`LedgerError::Unavailable`].
    ///
    /// # Errors
    /// [`LedgerError::AlreadyConcluded`] when a reconciler was first: then nothing may be released.
    fn conclude(&self, intent: IntentId, outcome: Outcome) -> LedgerFuture<'_, ()>;

    /// For a repeated origin whose bytes are signed again. Before the HSM is asked, a failed intent
    /// becomes [`Outcome::Unknown`], because `failed` says that no signature exists; afterwards it
    /// becomes [`Outcome::Issued`]. Nothing else is a way back.
    ///
    /// # Errors
    /// [`LedgerError::AlreadyConcluded`] when another signature is already on record,
    /// [`LedgerError::Refused`] when the intent has no conclusion yet (conclude it), or for any
    /// other outcome.
    fn reopen(&self, intent: IntentId, outcome: Outcome) -> LedgerFuture<'_, ()>;

    /// What was recorded, newest first.
    fn certificates(&self, filter: Filter) -> LedgerFuture<'_, Vec<CertificateRow>>;

    /// The one certificate with this serial; without an issuer, the newest with it.
    fn certificate<'a>(
        &'a self,
        issuer: Option<IssuerId>,
        serial: &'a Serial,
    ) -> LedgerFuture<'a, Option<CertificateRow>>;

    /// All records at one moment.
    fn snapshot(&self) -> LedgerFuture<'_, Snapshot>;

    /// Grows with every change of the records; cheap to ask.
    fn revision(&self) -> LedgerFuture<'_, u64>;

    /// One bundle version of a trust domain, the newest when no `sequence` is given.
    fn bundle<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
        sequence: Option<u64>,
    ) -> LedgerFuture<'a, Option<BundleRecord>>;

    /// Changes the records: the change, who made it, and a new bundle version where the published
    /// anchors differ, in one transaction.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] and the `Unknown…` errors say why nothing was changed.
    fn apply<'a>(&'a self, change: Change, by: &'a Actor) -> LedgerFuture<'a, Applied>;

    /// Writes down that a bundle version stands in every place of a target, and answers since when.
    /// The newest of each cluster and target is kept; said again, the first moment stays.
    ///
    /// # Errors
    /// [`LedgerError::UnknownAuthority`], and [`LedgerError::Refused`] for a version that was never
    /// made.
    fn record_rollout(&self, rollout: BundleRollout) -> LedgerFuture<'_, UnixTime>;

    /// The newest delivery of every target in every cluster, by their names.
    fn rollouts(&self) -> LedgerFuture<'_, Vec<BundleRollout>>;

    /// Begins a new epoch of `instance`, which others may judge when `lease` has run out without a
    /// [`renew`](Ledger::renew). Names of short-lived processes must be unique: an instance's
    /// earlier epochs are taken for dead.
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

    /// Concludes as unknown what `epoch`'s instance left open in earlier epochs and what instances
    /// left open whose lease has run out; answers how many intents that were.
    fn reconcile<'a>(&'a self, epoch: &'a Epoch, now: UnixTime) -> LedgerFuture<'a, u64>;

    /// Examines the store: its own integrity, its schema, the invariants that are cheap to see.
    fn check(&self) -> LedgerFuture<'_, CheckReport>;

    /// Finishes what was asked, then closes the store and gives up its lock; later calls answer
    /// [`LedgerError::Unavailable`].
    fn close(&self) -> BoxFuture<'_, ()>;
}
