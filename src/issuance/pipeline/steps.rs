//! The steps after the record. Each consumes the result of the previous one.

use std::sync::Arc;
use std::time::Instant;

use super::open_intent::OpenIntent;
use crate::hsm::{Permit, SignError};
use crate::issuance::error::IssueError;
use crate::issuance::signable::Signable;
use crate::ledger::Outcome;
use crate::x509::{SignatureAlgorithm, assemble};

/// The intent is durable: it may be signed.
pub(super) struct Recorded<T> {
    pub(super) open: OpenIntent,
    pub(super) tbs: Arc<[u8]>,
    pub(super) algorithm: SignatureAlgorithm,
    pub(super) permit: Permit,
    pub(super) signable: T,
}

/// Signed, not yet checked.
pub(super) struct Signed<T> {
    open: OpenIntent,
    tbs: Arc<[u8]>,
    signature: Vec<u8>,
    der: Vec<u8>,
    signable: T,
}

/// Checked, but its outcome is not recorded: the certificate in it cannot be reached.
pub(super) struct Checked<O> {
    open: OpenIntent,
    signature: Vec<u8>,
    out: O,
}

impl<T: Signable> Recorded<T> {
    pub(super) async fn sign(self, deadline: Instant) -> Result<Signed<T>, IssueError> {
        let signed = self.permit.sign(Arc::clone(&self.tbs), deadline).await;
        let (outcome, error): (Outcome, IssueError) = match signed {
            Ok(signature) => match assemble(&self.tbs, self.algorithm, &signature) {
                Ok(der) => {
                    return Ok(Signed {
                        open: self.open,
                        tbs: self.tbs,
                        signature,
                        der,
                        signable: self.signable,
                    });
                }
                Err(error) => (unknown(&error), error.into()),
            },
            // The only error after which a signature may exist.
            Err(error @ SignError::Unknown(_)) => (unknown(&error), error.into()),
            Err(error) => {
                let reason = error.to_string();
                (Outcome::Failed { reason }, error.into())
            }
        };
        self.open.failed(outcome).await?;
        Err(error)
    }
}

impl<T: Signable> Signed<T> {
    /// Parses the certificate and verifies its signature in software. A failure is recorded as
    /// `unknown`, because signed bytes exist.
    pub(super) async fn check(self) -> Result<Checked<T::Out>, IssueError> {
        match self.signable.check(&self.tbs, &self.signature, self.der) {
            Ok(out) => Ok(Checked {
                open: self.open,
                signature: self.signature,
                out,
            }),
            Err(error) => {
                let intent = self.open.id();
                tracing::error!(%error, %intent, "the HSM's signature failed its check");
                self.open.failed(unknown(&error)).await?;
                Err(error)
            }
        }
    }
}

impl<O> Checked<O> {
    /// Makes the outcome durable, then returns what was signed.
    pub(super) async fn conclude(self) -> Result<O, IssueError> {
        self.open.issued(self.signature).await?;
        Ok(self.out)
    }
}

fn unknown(error: &dyn std::error::Error) -> Outcome {
    let reason = error.to_string();
    Outcome::Unknown { reason }
}
