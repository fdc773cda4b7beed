//! The records' revision, read once for all calls that wait for it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;

use crate::authn::LookupError;
use crate::ledger::Ledger;

type Answer = BoxFuture<'static, Result<u64, LookupError>>;
type Next = Mutex<Option<Shared<Answer>>>;

/// Each call gets a revision from a read that began after the call: what changed before is seen. While one
/// read runs, the calls that come share the next.
pub(super) struct SharedRevision {
    revision: Arc<dyn Fn() -> Answer + Send + Sync>,
    /// Not begun yet.
    next: Arc<Next>,
    /// One read at a time.
    turn: Arc<Semaphore>,
}

impl SharedRevision {
    pub(super) fn of(ledger: Arc<dyn Ledger>) -> Self {
        Self::new(move || {
            let ledger = Arc::clone(&ledger);
            let read = async move {
                let revision = ledger.revision().await;
                revision.map_err(|error| LookupError(error.to_string()))
            };
            read.boxed()
        })
    }

    fn new(revision: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        Self {
            revision: Arc::new(revision),
            next: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    pub(super) async fn read(&self) -> Result<u64, LookupError> {
        let read = lock(&self.next)
            .get_or_insert_with(|| self.prepare())
            .clone();
        read.await
    }

    /// Whoever waits for it drives it, so that it goes on when the others give up.
    fn prepare(&self) -> Shared<Answer> {
        let (revision, turn) = (Arc::clone(&self.revision), Arc::clone(&self.turn));
        let next = Arc::downgrade(&self.next);
        async move {
            let _turn = turn.acquire().await;
            // Who comes from here on needs a later one.
            if let Some(next) = next.upgrade() {
                lock(&next).take();
            }
            revision().await
        }
        .boxed()
        .shared()
    }
}

impl fmt::Debug for SharedRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRevision").finish_non_exhaustive()
    }
}

fn lock(next: &Next) -> MutexGuard<'_, Option<Shared<Answer>>> {
    next.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    /// Reads that end when they are let.
    struct Records {
        revision: AtomicU64,
        reads: AtomicU64,
        let_end: Semaphore,
    }

    fn records() -> (Arc<Records>, Arc<SharedRevision>) {
        let records = Arc::new(Records {
            revision: AtomicU64::new(1),
            reads: AtomicU64::new(0),
            let_end: Semaphore::new(0),
        });
        let read = Arc::clone(&records);
        let shared = SharedRevision::new(move || {
            let records = Arc::clone(&read);
            let read = async move {
                records.reads.fetch_add(1, Ordering::SeqCst);
                let revision = records.revision.load(Ordering::SeqCst);
                records.let_end.acquire().await.unwrap().forget();
                Ok(revision)
            };
            read.boxed()
        });
        (records, Arc::new(shared))
    }

    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    fn call(shared: &Arc<SharedRevision>) -> tokio::task::JoinHandle<Result<u64, LookupError>> {
        let shared = Arc::clone(shared);
        tokio::spawn(async move { shared.read().await })
    }

    #[tokio::test]
    async fn a_call_gets_no_revision_that_was_read_before_it_and_calls_share_reads() {
        let (records, shared) = records();
        let first = call(&shared);
        settle().await;
        // A change, and calls after it, while the first read runs.
        records.revision.store(2, Ordering::SeqCst);
        let later: Vec<_> = (0..20).map(|_| call(&shared)).collect();
        settle().await;
        assert_eq!(records.reads.load(Ordering::SeqCst), 1);
        records.let_end.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(1));
        for call in later {
            assert_eq!(call.await.unwrap(), Ok(2));
        }
        assert_eq!(records.reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn callers_that_give_up_hold_up_nobody() {
        let (records, shared) = records();
        let gone: Vec<_> = (0..3).map(|_| call(&shared)).collect();
        settle().await;
        let waits = call(&shared);
        settle().await;
        for call in gone {
            call.abort();
        }
        records.let_end.add_permits(9);
        let answer = tokio::time::timeout(Duration::from_secs(60), waits).await;
        assert_eq!(answer.unwrap().unwrap(), Ok(1));

        // The one that waits for its turn is given up, and the next call takes it over.
        records.let_end.forget_permits(9);
        let first = call(&shared);
        settle().await;
        let second = call(&shared);
        settle().await;
        second.abort();
        settle().await;
        let third = call(&shared);
        records.let_end.add_permits(9);
        assert_eq!(first.await.unwrap(), Ok(1));
        let answer = tokio::time::timeout(Duration::from_secs(60), third).await;
        assert_eq!(answer.unwrap().unwrap(), Ok(1));
    }
}
