//! The only code that signs with a key of the HSM.
//!
//! Every leaf, CA certificate and certification request takes the same steps: [`Prepared`], then
//! `Recorded` (the intent is durable), `Signed`, `Checked` (verified in software), and concluded.
//! Only the last step returns what was signed.

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
use super::work_leases::WorkLeases;
use crate::clock::Clock;
use crate::hsm::Permit;
use crate::ledger::{Intent, IntentId, Ledger, LedgerError, Outcome, Record};
use crate::x509::assemble;

/// How much longer than the HSM the caller waits, so that the HSM's more precise error arrives
/// first.
const GRACE: Duration = Duration::from_millis(200);

/// Records intents, signs them and records their outcomes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SigningPipeline {
    ledger: Arc<dyn Ledger>,
    epochs: Arc<EpochManager>,
    leases: WorkLeases,
    deadline: Duration,
}

/// Ready to be recorded, with a reserved slot in the HSM's queue.
pub(super) struct Prepared<T> {
    pub(super) in_flight: InFlight,
    pub(super) intent: Intent,
    pub(super) permit: Permit,
    pub(super) signable: T,
}

enum Admission<T> {
    Sign(Recorded<T>),
    /// A request with the same idempotency key was issued before.
    Stored {
        tbs: Vec<u8>,
        signature: Vec<u8>,
        der: Vec<u8>,
        signable: T,
    },
}

impl SigningPipeline {
    /// Registers `instance` with the ledger. `deadline` bounds the wait for the HSM. Other servers
    /// leave this instance's open records alone for `lease` after its last renewal.
    pub async fn open(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        instance: &str,
        deadline: Duration,
        lease: Duration,
    ) -> Result<Self, LedgerError> {
        let epochs = EpochManager::register(Arc::clone(&ledger), clock, instance, lease).await?;
        let epochs = Arc::new(epochs);
        let leases = WorkLeases::new(Arc::clone(&ledger), Arc::clone(&epochs));
        Ok(Self {
            ledger,
            epochs,
            leases,
            deadline,
        })
    }

    /// Renews the lease and reconciles open intents until `stop`.
    pub async fn maintain(&self, stop: CancellationToken) {
        self.epochs.maintain(stop).await;
    }

    /// Waits at most `bound` for the requests in flight and the queued outcomes. Returns whether
    /// all of them are done.
    pub async fn drain(&self, bound: Duration) -> bool {
        tokio::time::timeout(bound, self.epochs.drain())
            .await
            .is_ok()
    }

    /// The number of outcomes that the ledger has not accepted yet.
    pub fn queued_outcomes(&self) -> usize {
        self.epochs.queued_outcomes()
    }

    /// Whether the ledger failed to record something and has not recovered since.
    pub fn ledger_unavailable(&self) -> bool {
        self.epochs.ledger_unavailable()
    }

    /// The leases on work that one server at a time may do.
    pub fn work_leases(&self) -> &WorkLeases {
        &self.leases
    }

    pub(super) fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// Starts a request in the active epoch.
    pub(super) fn begin(&self) -> InFlight {
        self.epochs.begin()
    }

    /// Takes `prepared` through every step, in a task of its own: a caller that hangs up or stops
    /// waiting does not interrupt it.
    ///
    /// # Errors
    /// That of the step that failed, or [`IssueError::Timeout`] when the caller's wait is over
    /// while the task goes on.
    pub(super) async fn run<T: Signable>(
        &self,
        prepared: Prepared<T>,
        on_end: impl FnOnce(&Result<T::Out, IssueError>) + Send + 'static,
    ) -> Result<T::Out, IssueError> {
        let deadline = Instant::now() + self.deadline;
        let pipeline = self.clone();
        let task = tokio::spawn(async move {
            let Prepared {
                in_flight,
                intent,
                permit,
                signable,
            } = prepared;
            let steps = async {
                match pipeline.record(intent, permit, signable).await? {
                    Admission::Sign(recorded) => {
                        let signed = recorded.sign(deadline).await?;
                        signed.check().await?.conclude().await
                    }
                    Admission::Stored {
                        tbs,
                        signature,
                        der,
                        signable,
                    } => signable.check(&tbs, &signature, der),
                }
            };
            let outcome = steps.await;
            on_end(&outcome);
            drop(in_flight);
            outcome
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
        let key = intent.idempotency_key.clone().unwrap_or_default();
        let tbs: Arc<[u8]> = intent.tbs.as_slice().into();
        let recorded = self.ledger.record(intent).await;
        match self.report_outage(recorded)? {
            Record::New(id) => Ok(Admission::Sign(Recorded {
                open: OpenIntent::new(self.clone(), id),
                tbs,
                algorithm,
                permit,
                signable,
            })),
            Record::Existing {
                id,
                tbs,
                issuer_id,
                algorithm,
                outcome,
                ..
            } => {
                if issuer_id != issuer {
                    // Its chain and its bundle are no longer this authority's.
                    return Err(IssueError::IdempotencyKeyExpired(key));
                }
                match signable.resume(&tbs, algorithm) {
                    Ok(()) => {}
                    Err(ReplayMismatch::DifferentRequest) => {
                        return Err(IssueError::IdempotencyKeyConflict(key));
                    }
                    Err(ReplayMismatch::Expired) => {
                        return Err(IssueError::IdempotencyKeyExpired(key));
                    }
                }
                match outcome {
                    None => Err(IssueError::IdempotencyKeyPending(key)),
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
                        // `failed` says that no signature exists: that ends before the HSM is
                        // called again.
                        let reason = "the same bytes are signed again for a repeated request";
                        let reason = reason.to_owned();
                        self.reopen(id, Outcome::Unknown { reason }).await?;
                        Ok(Admission::Sign(Recorded {
                            open: OpenIntent::reopened(self.clone(), id),
                            tbs: tbs.into(),
                            algorithm,
                            permit,
                            signable,
                        }))
                    }
                }
            }
        }
    }

    async fn reopen(&self, id: IntentId, outcome: Outcome) -> Result<(), IssueError> {
        let reopened = self.ledger.reopen(id, outcome).await;
        Ok(self.report_outage(reopened)?)
    }

    fn report_outage<T>(&self, result: Result<T, LedgerError>) -> Result<T, LedgerError> {
        if result.as_ref().is_err_and(LedgerError::is_outage) {
            self.epochs.report_outage();
        }
        result
    }

    /// Records the outcome, or queues it when the ledger is unavailable.
    async fn conclude(&self, id: IntentId, outcome: Outcome) -> Result<(), IssueError> {
        let Err(error) = self.ledger.conclude(id, outcome.clone()).await else {
            return Ok(());
        };
        if error.is_outage() {
            let outcome = match outcome {
                // The caller gets no certificate, so `issued` would be wrong.
                Outcome::Issued { .. } => Outcome::Unknown {
                    reason: format!("signed, but not answered: {error}"),
                },
                other => other,
            };
            self.epochs.queue_outcome(id, outcome);
        }
        Err(error.into())
    }
}
