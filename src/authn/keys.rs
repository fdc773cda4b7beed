//! The keys of one issuer as they stand now: read, kept fresh, and kept through an outage.
//!
//! A good copy is replaced by a good copy only. It may be used until it is older than `keep`;
//! after that nobody can tell who signed, which is not the caller's fault.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::jwks::KeySet;
use super::source::Source;
use crate::clock::{Clock, UnixTime};
use crate::digest::sha256;
use crate::error_chain::error_chain;

/// How often a file is read to see whether its content changed.
const FILE_POLL: Duration = Duration::from_secs(1);

/// The least time between the end of a fetch and the next, or a tenth of `refresh` if that is less:
/// what tokens with made-up key ids can cost the issuer, and how long they can delay a token that is
/// signed by a new key.
const SPACING: Duration = Duration::from_secs(1);

/// How soon the issuer is asked again after a failure, or a tenth of `refresh` if that is less.
const RETRY: Duration = Duration::from_secs(10);

/// Where an issuer's keys come from and how long they count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeysConfig {
    pub(super) source: Source,
    pub(super) refresh: Duration,
    pub(super) keep: Duration,
}

/// How an issuer's keys stand, for health reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysReport {
    /// How many keys can be used; zero when none were ever read.
    pub keys: usize,
    /// When these keys were last seen at their source.
    pub as_of: Option<UnixTime>,
    /// Why the last reading failed, when it did.
    pub failure: Option<String>,
}

/// An issuer's keys, with the task that keeps them fresh; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct LiveKeys {
    shared: Arc<Shared>,
    refresher: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    /// The verifier's name, for the log.
    name: String,
    config: KeysConfig,
    clock: Arc<dyn Clock>,
    current: ArcSwapOption<Copy>,
    failure: ArcSwapOption<String>,
    /// Held by the one fetch in flight.
    last_fetch: Arc<Mutex<Option<Fetch>>>,
}

/// The last fetch, in monotonic time: a clock that is set back must not stop the next one.
#[derive(Clone, Copy, Debug)]
struct Fetch {
    started: Instant,
    ended: Instant,
}

/// One good copy. The set is shared by the copies that differ only in their age.
#[derive(Debug)]
struct Copy {
    set: Arc<KeySet>,
    digest: [u8; 32],
    as_of: UnixTime,
}

impl LiveKeys {
    /// Starts reading; to be called inside a tokio runtime.
    pub(super) fn start(name: &str, config: KeysConfig, clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            config,
            clock,
            current: ArcSwapOption::empty(),
            failure: ArcSwapOption::empty(),
            last_fetch: Arc::default(),
        });
        let refresher = tokio::spawn(keep_fresh(Arc::clone(&shared))).abort_handle();
        Self { shared, refresher }
    }

    /// What these keys were configured from.
    pub(super) fn config(&self) -> &KeysConfig {
        &self.shared.config
    }

    /// Puts `question` to the keys that stand; when they have no answer, once more to newer ones.
    /// `Ok(None)`: the issuer had no such key when it was asked after this call. `Err`: there is no
    /// telling, and why.
    pub(super) async fn ask<T>(
        &self,
        question: impl Fn(&KeySet) -> Option<T>,
    ) -> Result<Option<T>, String> {
        if let Some(answer) = self.shared.standing().and_then(|copy| question(&copy.set)) {
            return Ok(Some(answer));
        }
        let asked = Instant::now();
        let last = Arc::clone(&self.shared.last_fetch).lock_owned().await;
        // A fetch that was in flight may have brought it.
        if let Some(answer) = self.shared.standing().and_then(|copy| question(&copy.set)) {
            return Ok(Some(answer));
        }
        self.shared.refetch(last, asked).await;
        let failure = self.shared.failure.load();
        match (self.shared.standing(), failure.as_deref()) {
            (Some(copy), None) => Ok(question(&copy.set)),
            (Some(copy), Some(why)) => match question(&copy.set) {
                Some(answer) => Ok(Some(answer)),
                None => Err(format!("the key is not in the last good copy, and {why}")),
            },
            (None, Some(why)) => Err(why.clone()),
            (None, None) => Err("its keys have not been read".to_owned()),
        }
    }

    /// How the keys stand.
    pub(super) fn report(&self) -> KeysReport {
        let copy = self.shared.current.load();
        KeysReport {
            keys: copy.as_ref().map_or(0, |copy| copy.set.len()),
            as_of: copy.as_ref().map(|copy| copy.as_of),
            failure: self.shared.failure.load().as_deref().cloned(),
        }
    }
}

impl Drop for LiveKeys {
    fn drop(&mut self) {
        self.refresher.abort();
    }
}

impl Shared {
    /// The good copy, while it is not older than `keep`.
    fn standing(&self) -> Option<Arc<Copy>> {
        let copy = self.current.load_full()?;
        (self.clock.now().since(copy.as_of) <= self.config.keep).then_some(copy)
    }

    /// Reads the keys, unless a fetch that started after this call already has. Within the spacing
    /// this waits for the next fetch, which serves everybody who waits, so that "no such key" is
    /// only said of keys that are younger than the question. After a failure nobody waits.
    async fn refetch(self: &Arc<Self>, mut last: OwnedMutexGuard<Option<Fetch>>, asked: Instant) {
        if let Some(fetch) = *last {
            let pause = self.spacing().saturating_sub(fetch.ended.elapsed());
            let failed = self.failure.load().is_some() && !pause.is_zero();
            if fetch.started >= asked || failed {
                return;
            }
            sleep(pause).await;
        }
        let shared = Arc::clone(self);
        // A task of its own: a caller who hangs up must not end the fetch that others wait for.
        let fetch = tokio::spawn(async move {
            let started = Instant::now();
            shared.load().await;
            let ended = Instant::now();
            *last = Some(Fetch { started, ended });
        });
        if let Err(stopped) = fetch.await {
            tracing::error!(verifier = self.name, %stopped, "reading a key set stopped");
        }
    }

    async fn load(&self) {
        match self.read().await {
            Ok(()) => {
                if self.failure.swap(None).is_some() {
                    tracing::info!(verifier = self.name, "token keys can be read again");
                }
            }
            Err(why) => {
                let before = self.failure.swap(Some(Arc::new(why.clone())));
                if before.is_none_or(|before| *before != why) {
                    tracing::warn!(verifier = self.name, why, "token keys cannot be read");
                }
            }
        }
    }

    async fn read(&self) -> Result<(), String> {
        let bytes = self
            .config
            .source
            .read()
            .await
            .map_err(|why| error_chain(&why))?;
        let digest = sha256(&bytes);
        let as_of = self.clock.now();
        let set = match self.current.load_full() {
            Some(before) if before.digest == digest => Arc::clone(&before.set),
            _ => {
                let set = KeySet::parse(&bytes)
                    .map_err(|why| format!("{}: {why}", self.config.source))?;
                tracing::info!(verifier = self.name, keys = set.len(), "token keys read");
                Arc::new(set)
            }
        };
        self.current
            .store(Some(Arc::new(Copy { set, digest, as_of })));
        Ok(())
    }

    /// The least time between two fetches.
    fn spacing(&self) -> Duration {
        match self.config.source {
            Source::File(_) => self.config.refresh.min(FILE_POLL),
            Source::Https { .. } | Source::Given { .. } => (self.config.refresh / 10).min(SPACING),
        }
    }
}

async fn keep_fresh(shared: Arc<Shared>) {
    loop {
        let asked = Instant::now();
        let last = Arc::clone(&shared.last_fetch).lock_owned().await;
        shared.refetch(last, asked).await;
        let failed = shared.failure.load().is_some();
        let pause = match shared.config.source {
            Source::File(_) => shared.spacing(),
            Source::Https { .. } | Source::Given { .. } if failed => {
                (shared.config.refresh / 10).min(RETRY)
            }
            Source::Https { .. } | Source::Given { .. } => shared.config.refresh,
        };
        sleep(pause).await;
    }
}
