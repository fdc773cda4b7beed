//! The keys of one issuer: fetched, refreshed, and cached through an outage.
//!
//! Only a valid key set replaces another. It may be used until it is older than `keep`; after that
//! authentication is unavailable.

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

/// How often a file is read to find changes.
const FILE_POLL: Duration = Duration::from_secs(1);

/// The pause after a file was read: a token with an unknown key id waits for it.
const FILE_SPACING: Duration = Duration::from_millis(50);

/// The pause after a fetch, or a tenth of `refresh` if that is less. It bounds the requests that
/// tokens with random key ids cause, and the delay of a token that is signed by a new key.
const SPACING: Duration = Duration::from_secs(1);

/// The pause after a failed fetch, or a tenth of `refresh` if that is less.
const RETRY: Duration = Duration::from_secs(10);

/// The source of an issuer's keys, how often they are fetched, and how long they may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyCacheConfig {
    pub(super) source: Source,
    pub(super) refresh: Duration,
    pub(super) keep: Duration,
}

/// The state of an issuer's keys, for health reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCacheReport {
    /// The number of usable keys; zero if none were ever read.
    pub keys: usize,
    /// When the source last returned these keys.
    pub as_of: Option<UnixTime>,
    /// Why the last fetch failed.
    pub failure: Option<String>,
}

/// An issuer's keys. The task that refreshes them ends when this is dropped.
#[derive(Debug)]
pub(super) struct KeyCache {
    shared: Arc<Shared>,
    refresher: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    /// The verifier's name, for the log.
    name: String,
    config: KeyCacheConfig,
    clock: Arc<dyn Clock>,
    current: ArcSwapOption<CachedSet>,
    failure: ArcSwapOption<String>,
    /// Locked during a fetch.
    last_fetch: Arc<Mutex<Option<Fetch>>>,
}

/// The last fetch, in monotonic time: a clock that is set back must not stop the next one.
#[derive(Clone, Copy, Debug)]
struct Fetch {
    started: Instant,
    ended: Instant,
}

/// A valid key set. Copies that differ only in their age share the set.
#[derive(Debug)]
struct CachedSet {
    set: Arc<KeySet>,
    digest: [u8; 32],
    as_of: UnixTime,
}

impl KeyCache {
    /// Starts fetching, inside a tokio runtime.
    pub(super) fn start(name: &str, config: KeyCacheConfig, clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            config,
            clock,
            current: ArcSwapOption::empty(),
            failure: ArcSwapOption::empty(),
            last_fetch: Arc::default(),
        });
        let refresher = tokio::spawn(refresh_loop(Arc::clone(&shared))).abort_handle();
        Self { shared, refresher }
    }

    pub(super) fn config(&self) -> &KeyCacheConfig {
        &self.shared.config
    }

    /// Runs `lookup` on the cached keys and, if it finds nothing, on newer ones. `Ok(None)`: the issuer
    /// has no such key, by a fetch that started after this call. `Err`: why that is unknown.
    pub(super) async fn query<T>(
        &self,
        lookup: impl Fn(&KeySet) -> Option<T>,
    ) -> Result<Option<T>, String> {
        if let Some(answer) = self.shared.usable().and_then(|copy| lookup(&copy.set)) {
            return Ok(Some(answer));
        }
        let called = Instant::now();
        let last = Arc::clone(&self.shared.last_fetch).lock_owned().await;
        // A fetch that was in progress may have brought it.
        if let Some(answer) = self.shared.usable().and_then(|copy| lookup(&copy.set)) {
            return Ok(Some(answer));
        }
        self.shared.refetch(last, called).await;
        let failure = self.shared.failure.load();
        match (self.shared.usable(), failure.as_deref()) {
            (Some(copy), None) => Ok(lookup(&copy.set)),
            (Some(copy), Some(why)) => match lookup(&copy.set) {
                Some(answer) => Ok(Some(answer)),
                None => Err(format!("the key is not in the cached set, and {why}")),
            },
            (None, Some(why)) => Err(why.clone()),
            (None, None) => Err("its keys have not been read".to_owned()),
        }
    }

    /// The same on the cached keys only.
    pub(super) fn cached<T>(&self, lookup: impl Fn(&KeySet) -> Option<T>) -> Option<T> {
        self.shared.usable().and_then(|copy| lookup(&copy.set))
    }

    pub(super) fn report(&self) -> KeyCacheReport {
        let copy = self.shared.current.load();
        KeyCacheReport {
            keys: copy.as_ref().map_or(0, |copy| copy.set.len()),
            as_of: copy.as_ref().map(|copy| copy.as_of),
            failure: self.shared.failure.load().as_deref().cloned(),
        }
    }
}

impl Drop for KeyCache {
    fn drop(&mut self) {
        self.refresher.abort();
    }
}

impl Shared {
    /// The cached set, unless it is older than `keep`.
    fn usable(&self) -> Option<Arc<CachedSet>> {
        let copy = self.current.load_full()?;
        (self.clock.now().since(copy.as_of) <= self.config.keep).then_some(copy)
    }

    /// Fetches the keys, unless a fetch has started since `called`. During the pause after a fetch this
    /// waits for the next one, so that "no such key" is decided by keys newer than the call. After a
    /// failed fetch it does not wait.
    async fn refetch(self: &Arc<Self>, mut last: OwnedMutexGuard<Option<Fetch>>, called: Instant) {
        if let Some(fetch) = *last {
            let pause = self.spacing().saturating_sub(fetch.ended.elapsed());
            let failed = self.failure.load().is_some() && !pause.is_zero();
            if fetch.started >= called || failed {
                return;
            }
            sleep(pause).await;
        }
        let shared = Arc::clone(self);
        // A task of its own: a caller that hangs up must not cancel a fetch that others wait for.
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
            .store(Some(Arc::new(CachedSet { set, digest, as_of })));
        Ok(())
    }

    /// The minimum pause between two fetches.
    fn spacing(&self) -> Duration {
        match self.config.source {
            Source::File(_) => FILE_SPACING,
            Source::Https { .. } | Source::External { .. } => {
                (self.config.refresh / 10).min(SPACING)
            }
        }
    }
}

async fn refresh_loop(shared: Arc<Shared>) {
    loop {
        let called = Instant::now();
        let last = Arc::clone(&shared.last_fetch).lock_owned().await;
        shared.refetch(last, called).await;
        let failed = shared.failure.load().is_some();
        let pause = match shared.config.source {
            Source::File(_) => shared.config.refresh.min(FILE_POLL),
            Source::Https { .. } | Source::External { .. } if failed => {
                (shared.config.refresh / 10).min(RETRY)
            }
            Source::Https { .. } | Source::External { .. } => shared.config.refresh,
        };
        sleep(pause).await;
    }
}
