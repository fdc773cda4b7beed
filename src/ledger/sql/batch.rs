//! Batches: what waits at the same time shares one transaction, each with its own result.

use tokio::sync::oneshot;

use crate::ledger::{Intent, IntentId, LedgerError, Outcome, Record};

pub(in crate::ledger) type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

/// The results of a batch's requests, in their order.
pub(in crate::ledger) struct BatchResults {
    pub(in crate::ledger) records: Vec<Result<Record, LedgerError>>,
    pub(in crate::ledger) conclusions: Vec<Result<(), LedgerError>>,
}

/// Why a whole batch failed.
#[derive(Debug)]
pub(in crate::ledger) enum BatchError {
    /// One of the rows, not known which, violates a constraint; nothing was written.
    Constraint(LedgerError),
    /// The store failed.
    Connection(LedgerError),
}

/// Writes a batch in one transaction; durable when it returns results.
pub(in crate::ledger) trait BatchStore: Send {
    fn attempt(
        &mut self,
        batch: &Batch,
    ) -> impl Future<Output = Result<BatchResults, BatchError>> + Send;
}

/// The requests of one transaction, and their callers.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Batch {
    pub(in crate::ledger) intents: Vec<Intent>,
    recorded: Vec<Reply<Record>>,
    pub(in crate::ledger) conclusions: Vec<(IntentId, Outcome)>,
    concluded: Vec<Reply<()>>,
}

impl Batch {
    pub(in crate::ledger) fn len(&self) -> usize {
        self.intents.len() + self.conclusions.len()
    }

    pub(in crate::ledger) fn record(&mut self, intent: Intent, reply: Reply<Record>) {
        self.intents.push(intent);
        self.recorded.push(reply);
    }

    pub(in crate::ledger) fn conclude(
        &mut self,
        intent: IntentId,
        outcome: Outcome,
        reply: Reply<()>,
    ) {
        self.conclusions.push((intent, outcome));
        self.concluded.push(reply);
    }

    /// One batch per request.
    fn split(self) -> impl Iterator<Item = Self> + Send {
        let records = self
            .intents
            .into_iter()
            .zip(self.recorded)
            .map(|(intent, reply)| Self {
                intents: vec![intent],
                recorded: vec![reply],
                ..Self::default()
            });
        let conclusions = self
            .conclusions
            .into_iter()
            .zip(self.concluded)
            .map(|(item, reply)| Self {
                conclusions: vec![item],
                concluded: vec![reply],
                ..Self::default()
            });
        records.chain(conclusions)
    }

    fn answer(self, results: BatchResults) {
        // A caller may be gone.
        for (reply, result) in self.recorded.into_iter().zip(results.records) {
            let _ = reply.send(result);
        }
        for (reply, result) in self.concluded.into_iter().zip(results.conclusions) {
            let _ = reply.send(result);
        }
    }

    fn fail(self, error: &LedgerError) {
        for reply in self.recorded {
            let _ = reply.send(Err(error.clone()));
        }
        for reply in self.concluded {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

/// Writes the batch, and answers each of its callers.
pub(in crate::ledger) async fn write_batch(store: &mut impl BatchStore, batch: Batch) {
    if batch.len() == 0 {
        return;
    }
    match store.attempt(&batch).await {
        Ok(results) => batch.answer(results),
        Err(BatchError::Constraint(error)) if batch.len() == 1 => batch.fail(&error),
        // A row that no check caught must not fail the other rows.
        Err(BatchError::Constraint(_)) => {
            for single in batch.split() {
                match store.attempt(&single).await {
                    Ok(results) => single.answer(results),
                    Err(BatchError::Constraint(error) | BatchError::Connection(error)) => {
                        single.fail(&error)
                    }
                }
            }
        }
        Err(BatchError::Connection(error)) => batch.fail(&error),
    }
}
