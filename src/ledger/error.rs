//! The ledger's errors.

use std::path::PathBuf;

use super::{
    CaRequestId, CaRequestState, IntentId, IssuerId, IssuerState, RotationId, RotationPhase, State,
};
use crate::x509::{Serial, TrustDomain};

/// A refusal or a failure of the ledger. Only [`Unavailable`](LedgerError::Unavailable) is worth a
/// retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The store cannot be used now. Nothing was recorded for certain, so nothing may be signed or
    /// released.
    #[error("the ledger is unavailable: {reason}")]
    Unavailable { reason: String },
    #[error(
        "the ledger {} belongs to another server ({holder}): stop it, or give this server a file of its own",
        path.display()
    )]
    Locked {
        path: PathBuf,
        /// The contents of the lock file.
        holder: String,
    },
    #[error(
        "the ledger {} has schema version {found}, this rootbridge supports up to {supported}: run the newer rootbridge again, or restore a backup",
        path.display()
    )]
    NewerSchema {
        path: PathBuf,
        found: u64,
        supported: u64,
    },
    /// The store needs an upgrade, which only a server may do.
    #[error(
        "the ledger {} has schema version {found}, this rootbridge needs {supported}: restart the server with this version first",
        path.display()
    )]
    OlderSchema {
        path: PathBuf,
        found: u64,
        supported: u64,
    },
    #[error("{} is not a Rootbridge ledger ({reason}): correct the path, or restore a backup", path.display())]
    NotALedger { path: PathBuf, reason: String },
    /// A server's mark outside of the ledger is ahead of it.
    #[error(
        "the ledger {} is not the newest: {difference}, and this server's mark in {mark} is at {reached}. It is an older copy, or another ledger", path.display()
    )]
    Older {
        path: PathBuf,
        /// Where the mark is.
        mark: String,
        /// What the mark says.
        reached: String,
        /// What the ledger lacks, or holds otherwise.
        difference: String,
    },
    #[error("issuer {issuer} is {state}")]
    IssuerNotActive {
        issuer: IssuerId,
        state: IssuerState,
    },
    #[error("issuer {0} is not on record")]
    UnknownIssuer(IssuerId),
    /// The issuer has used this serial before.
    #[error("serial {serial} was already used by issuer {issuer}")]
    DuplicateSerial { issuer: IssuerId, serial: Serial },
    #[error("intent {intent} is already concluded as {state}")]
    AlreadyConcluded { intent: IntentId, state: State },
    #[error("intent {0} is not on record")]
    UnknownIntent(IntentId),
    /// The epoch was never registered, or its instance has registered again since.
    #[error(
        "epoch {boot} of instance {instance} is not the instance's current epoch: register again"
    )]
    UnknownEpoch { instance: String, boot: u64 },
    #[error("no authority for trust domain {0} is on record: create it with `rootbridge ca init`")]
    UnknownAuthority(TrustDomain),
    /// The anchor is not on record, or is retired.
    #[error("trust domain {trust_domain} has no active or pending anchor sha256:{sha256}")]
    UnknownAnchor {
        trust_domain: TrustDomain,
        /// Fingerprint in lower hex.
        sha256: String,
    },
    /// Another request of the authority has not ended.
    #[error("a request of {0} to its upstream CA is in flight already: see `rootbridge ca list`")]
    RequestInFlight(TrustDomain),
    /// Another process has changed the request.
    #[error("request {request} to the upstream CA is {state} already")]
    RequestMoved {
        request: CaRequestId,
        state: CaRequestState,
    },
    /// Another rotation of the authority has not ended.
    #[error("a rotation of {0} is open already: see `rootbridge rotate status`")]
    RotationOpen(TrustDomain),
    /// It was moved by another process or operator.
    #[error("rotation {rotation} is in phase {phase} now: see `rootbridge rotate status`")]
    RotationMoved {
        rotation: RotationId,
        phase: RotationPhase,
    },
    /// Another server does this work now.
    #[error("the lease on {work} has changed hands: {holder} holds it")]
    LeaseLost {
        work: String,
        /// The instance that holds it.
        holder: String,
    },
    /// The change or call violates a rule; nothing was done.
    #[error("{0}")]
    Refused(String),
    /// The store has invalid contents.
    #[error("the ledger is damaged: {0}; stop the server and restore a backup")]
    Damaged(String),
}

impl LedgerError {
    /// Whether a record may have been left behind, or a conclusion is missing.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::UnknownEpoch { .. })
    }

    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After the first two, an intent may be on record that nobody waits for.
    #[test]
    fn an_outage_is_what_may_have_left_a_record() {
        let epoch = LedgerError::UnknownEpoch {
            instance: "a".to_owned(),
            boot: 1,
        };
        for (error, is_outage) in [
            (LedgerError::unavailable("the disk is full"), true),
            (epoch, true),
            (LedgerError::Refused("no".to_owned()), false),
            (LedgerError::Damaged("no".to_owned()), false),
            (LedgerError::UnknownIssuer(IssuerId::of_spki(b"k")), false),
        ] {
            assert_eq!(error.is_outage(), is_outage, "{error}");
        }
    }
}
