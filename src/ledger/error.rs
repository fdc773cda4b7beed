//! Why the ledger did not do what it was asked.

use std::path::PathBuf;

use super::{IntentId, IssuerId, IssuerState, State};
use crate::x509::{Serial, TrustDomain};

/// A refusal or a failure of the ledger. Only [`Unavailable`](LedgerError::Unavailable) may pass by
/// itself; all others are answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The store cannot be used now; nothing was promised, so nothing may be signed or released.
    #[error("the ledger is unavailable: {reason}")]
    Unavailable {
        /// What failed, where, and what to do where that is known.
        reason: String,
    },
    /// Another server has the store open.
    #[error(
        "the ledger {} belongs to another server ({holder}): stop it, or give this server a file of its own",
        path.display()
    )]
    Locked {
        /// The database file.
        path: PathBuf,
        /// Who holds the lock, as it wrote there.
        holder: String,
    },
    /// A newer version of Rootbridge has written the store.
    #[error(
        "the ledger {} has schema version {found}, this rootbridge knows {supported}: run the newer rootbridge again, or restore a backup",
        path.display()
    )]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// The version of the store.
        found: u64,
        /// The newest version that this binary knows.
        supported: u64,
    },
    /// The store waits for an upgrade that only the server may make.
    #[error(
        "the ledger {} has schema version {found}, this rootbridge needs {supported}: restart the server with this version first",
        path.display()
    )]
    OlderSchema {
        /// The database file.
        path: PathBuf,
        /// The version of the store.
        found: u64,
        /// The version that this binary needs.
        supported: u64,
    },
    /// The file is something else.
    #[error("{} is not a Rootbridge ledger ({reason}): correct the path, or restore a backup", path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
        /// What was seen.
        reason: String,
    },
    /// The issuer may not sign this now.
    #[error("issuer {issuer} is {state}")]
    IssuerNotActive {
        /// The issuer asked for.
        issuer: IssuerId,
        /// The state it is in.
        state: IssuerState,
    },
    /// No such issuer.
    #[error("issuer {0} is not on record")]
    UnknownIssuer(IssuerId),
    /// The issuer has used this serial before (invariant I2).
    #[error("serial {serial} was already used by issuer {issuer}")]
    DuplicateSerial {
        /// The issuer.
        issuer: IssuerId,
        /// The serial number.
        serial: Serial,
    },
    /// Someone else concluded the intent.
    #[error("intent {intent} is already concluded as {state}")]
    AlreadyConcluded {
        /// The intent.
        intent: IntentId,
        /// The conclusion on record.
        state: State,
    },
    /// No such intent.
    #[error("intent {0} is not on record")]
    UnknownIntent(IntentId),
    /// The epoch was never registered, or its instance has registered again since.
    #[error(
        "epoch {boot} of instance {instance} is not the instance's current one: register again"
    )]
    UnknownEpoch {
        /// The instance's name.
        instance: String,
        /// Which start of it.
        boot: u64,
    },
    /// No authority for the trust domain.
    #[error("no authority for trust domain {0} is on record: `rootbridge ca init` makes one")]
    UnknownAuthority(TrustDomain),
    /// No such anchor, or it is retired.
    #[error("trust domain {trust_domain} has no anchor sha256:{sha256} in use")]
    UnknownAnchor {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// Fingerprint in lower hex.
        sha256: String,
    },
    /// The change or call goes against a rule; nothing was done.
    #[error("{0}")]
    Refused(String),
    /// The store holds what it cannot hold.
    #[error("the ledger is damaged: {0}; stop the server and restore a backup")]
    Damaged(String),
}

impl LedgerError {
    /// Whether the failure may have left a record behind, or a conclusion undone.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::UnknownEpoch { .. })
    }

    /// An [`Unavailable`](LedgerError::Unavailable) for this reason.
    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
        }
    }
}
