//! The only door to a key of the HSM: what passes through it has been recorded.
//!
//! Leaf, CA certificate or CSR: [`SigningPipeline::record`] makes the intent durable and only its result can
//! be signed; `Signed::check` verifies in software what came back; and only a concluded record
//! gives up the signature.

mod open_intent;
mod steps;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use open_intent::OpenIntent;
use steps::Recorded;

use super::epoch::{EpochManager, InFlight};
use super::error::IssueError;
use super::signable::{ReplayMismatch, Signable};
use crate::clock::Clock;
use crate::hsm::Permit;
use crate::ledger::{Intent, IntentId, Ledger, LedgerError, Outcome, Record};
use crate::x509::assemble;

/// A little more than the HSM's own deadline, so that its clearer answer comes first.
const GRACE: Duration = Duration::from_millis(200);

/// Records, signs and concludes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SigningPipeline {
    ledger: Arc<dyn Ledger>,
    epochs: Arc<EpochManager>,
    deadline: Duration,
}

/// Ready to be recorded, with a place in its epoch and one in the HSM's queue.
pub(super) struct Prepared<T> {
    pub(super) in_flight: InFlight,
    pub(super) intent: Intent,
    pub(super) permit: Permit,
    pub(super) signable: T,
}

/// What [`SigningPipeline::record`] found.
enum Admission<T> {
    /// To be signed now.
    Sign(Recorded<T>),
    /// The same origin was issued before: the stored certificate.
    Stored {
        tbs: Vec<u8>,
        signature: Vec<u8>,
        der: Vec<u8>,
        signable: T,
    },
}

impl SigningPipeline {
    /// Opens the door for `instance`: registers it with the ledger. `deadline` bounds the wait
    /// for the HSM, `lease` says how long this instance's open records are its own.
    ///
    /// # Errors
    /// When the ledger does not take the registration.
    pub async fn open(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        instance: &str,
        deadline: Duration,
        lease: Duration,
    ) -> Result<Self, LedgerError> {
        let epochs = EpochManager::register(Arc::clone(&ledger), clock, instance, lease).await?;
        Ok(Self {
            ledger,
            epochs: Arc::new(epochs),
            deadline,
        })
    }

    /// Keeps the lease and reconciles, until `stop`.
    pub async fn keep(&self, stop: CancellationToken) {
        self.epochs.keep(stop).await;
    }

    /// Waits for every walk between record and conclusion, and for what is owed, at most `bound`.
    /// True when all of it came to its end.
    pub async fn drain(&self, bound: Duration) -> bool {
        tokio::time::timeout(bound, self.epochs.drain())
            .await
            .is_ok()
    }

    /// Conclusions that the ledger has yet to take.
    pub fn queued_outcomes(&self) -> usize {
        self.epochs.queued_outcomes()
    }

    /// Whether the ledger failed to take a record and has not recovered since.
    pub fn ledger_unavailable(&self) -> bool {
        self.epochs.ledger_unavailable()
    }

    /// The ledger behind the pipeline.
    pub(super) fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// A place for a walk that begins now.
    pub(super) fn begin(&self) -> InFlight {
        self.epochs.begin()
    }

    /// The whole walk from record to conclusion, in a task of its own: a caller that hangs up, or
    /// whose patience ends, does not stop it.
    ///
    /// # Errors
    /// The cause of whichever step failed, or [`IssueError::Timeout`] when the caller's wait is
    /// over while the walk goes on.
    pub(super) async fn run<T: Signable>(
        &self,
        prepared: Prepared<T>,
    ) -> Result<T::Out, IssueError> {
        let until = Instant::now() + self.deadline;
        let pipeline = self.clone();
        let task = tokio::spawn(async move {
            let Prepared {
                in_flight,
                intent,
                permit,
                signable,
            } = prepared;
            let walked = match pipeline.record(intent, permit, signable).await? {
                Admission::Sign(recorded) => {
                    recorded.sign(until).await?.check().await?.conclude().await
                }
                Admission::Stored {
                    tbs,
                    signature,
                    der,
                    signable,
                } => signable.check(&tbs, &signature, der),
            };
            drop(in_flight);
            walked
        });
        match tokio::time::timeout(self.deadline + GRACE, task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(IssueError::TaskFailed),
            Err(_) => Err(IssueError::Timeout(self.deadline)),
        }
    }

    async fn record<T: Signable>(
        &self,
        intent: Intent,
        permit: Permit,
        mut signable: T,
    ) -> Result<Admission<T>, IssueError> {
        let (issuer, algorithm) = (intent.issuer.clone(), intent.algorithm);
        let origin = intent.idempotency_key.clone().unwrap_or_default();
        let tbs: Arc<[u8]> = intent.tbs.as_slice().into();
        let pipeline = self.clone();
        match self.ledger.record(intent).await {
            Ok(Record::New(id)) => Ok(Admission::Sign(Recorded {
                open: OpenIntent::new(pipeline, id),
                tbs,
                algorithm,
                permit,
                signable,
            })),
            Ok(Record::Existing {
                id,
                tbs,
                issuer_id,
                algorithm,
                outcome,
                ..
            }) => {
                if issuer_id != issuer {
                    // Its chain and its bundle are not this authority's any more.
                    return Err(IssueError::IdempotencyKeyExpired(origin));
                }
                match signable.resume(&tbs, algorithm) {
                    Ok(()) => {}
                    Err(ReplayMismatch::DifferentRequest) => {
                        return Err(IssueError::IdempotencyKeyConflict(origin));
                    }
                    Err(ReplayMismatch::Expired) => {
                        return Err(IssueError::IdempotencyKeyExpired(origin));
                    }
                }
                match outcome {
                    None => Err(IssueError::IdempotencyKeyPending(origin)),
                    Some(Outcome::Issued { signature }) => {
                        let der = assemble(&tbs, algorithm, &signature)?;
                        Ok(Admission::Stored {
                            tbs,
                            signature,
                            der,
                            signable,
                        })
                    }
                    Some(Outcome::Failed { .. } | Outcome::Unknown { .. }) => {
                        // `failed` says that no signature exists: that ends here, before the HSM
                        // is asked.
                        self.reopen(id, signing_again()).await?;
                        Ok(Admission::Sign(Recorded {
                            open: OpenIntent::again(pipeline, id),
                            tbs: tbs.into(),
                            algorithm,
                            permit,
                            signable,
                        }))
                    }
                }
            }
            Err(error) => {
                if error.is_outage() {
                    self.epochs.outage();
                }
                Err(error.into())
            }
        }
    }

    async fn reopen(&self, id: IntentId, outcome: Outcome) -> Result<(), IssueError> {
        let reopened = self.ledger.reopen(id, outcome).await;
        if reopened.as_ref().is_err_and(LedgerError::is_outage) {
            self.epochs.outage();
        }
        Ok(reopened?)
    }

    /// Concludes, or remembers that the ledger has yet to be told.
    async fn conclude(&self, id: IntentId, outcome: Outcome) -> Result<(), IssueError> {
        match self.ledger.conclude(id, outcome.clone()).await {
            Ok(()) => Ok(()),
            Err(error) => {
                if error.is_outage() {
                    // Nobody was answered, so `issued` would claim a release that never was.
                    let owed = match outcome {
                        Outcome::Issued { .. } => Outcome::Unknown {
                            reason: format!("signed, but not answered: {error}"),
                        },
                        other => other,
                    };
                    self.epochs.queue_outcome(id, owed);
                }
                Err(error.into())
            }
        }
    }
}

fn signing_again() -> Outcome {
    let reason = "the same bytes are signed again for a repeated request".to_owned();
    Outcome::Unknown { reason }
}
