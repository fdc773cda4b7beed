//! Leases on work that one server at a time may do.

use crate::clock::UnixTime;

/// The right to do some work, until another server claims it. What its holder does to the records, it
/// does with the fence: the ledger refuses it in the same transaction once the lease has changed hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkLease {
    /// The name of the work.
    pub work: String,
    /// Grows each time that the lease changes hands.
    pub fence: u64,
}

/// From whom a lease may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimFrom {
    /// From an instance whose own lease has expired, or whose epoch has ended.
    TheDead,
    /// From its holder, dead or alive: something else has elected the claimant.
    Anyone,
}

/// The result of [`Ledger::claim`](super::Ledger::claim).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    Held(WorkLease),
    /// This instance has it.
    HeldBy(String),
}

/// A lease, as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkLeaseRecord {
    pub lease: WorkLease,
    /// The instance; `None` when it was given up.
    pub holder: Option<String>,
    pub since: UnixTime,
}
