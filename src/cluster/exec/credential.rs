//! The credential that a program gives, kept until it ends or is refused.

use std::fmt;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::error::ExecError;
use super::plugin::Plugin;
use super::run::run;
use crate::backoff::Backoff;
use crate::clock::{Clock, UnixTime};
use crate::cluster::bearer::bearer;
use crate::cluster::identity::identity;

/// How long before its end a credential is replaced, at most: a fifth of its life.
const MARGIN: Duration = Duration::from_secs(60);
/// Between two runs after a failure, and because of answers with 401.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One answer of a program.
pub(in crate::cluster) struct Granted {
    pub(in crate::cluster) authorization: Option<HeaderValue>,
    pub(in crate::cluster) identity: Option<Arc<CertifiedKey>>,
    /// When to replace it, and when it ends.
    end: Option<(UnixTime, UnixTime)>,
    at: Instant,
}

/// Runs the program when its last answer ends; clones share the answer.
#[derive(Clone)]
pub(in crate::cluster) struct ExecCredential(Arc<Shared>);

struct Shared {
    cluster: String,
    plugin: Arc<Plugin>,
    clock: Arc<dyn Clock>,
    current: SyncMutex<Option<Arc<Granted>>>,
    /// Held while the program runs: one run at a time.
    failures: Arc<Mutex<Failures>>,
}

struct Failures {
    backoff: Backoff,
    last: Option<(Instant, Arc<ExecError>)>,
}

impl fmt::Debug for ExecCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.plugin.fmt(f)
    }
}

impl ExecCredential {
    /// `cluster` is its name, for the log.
    pub(in crate::cluster) fn new(
        cluster: &str,
        plugin: Arc<Plugin>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self(Arc::new(Shared {
            cluster: cluster.to_owned(),
            plugin,
            clock,
            current: SyncMutex::new(None),
            failures: Arc::new(Mutex::new(Failures {
                backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
                last: None,
            })),
        }))
    }

    /// A credential that has not ended. One that ends soon is replaced meanwhile.
    pub(in crate::cluster) async fn get(&self) -> Result<Arc<Granted>, Arc<ExecError>> {
        match self.valid() {
            Some((granted, false)) => Ok(granted),
            Some((granted, true)) => {
                if let Ok(running) = Arc::clone(&self.0.failures).try_lock_owned() {
                    tokio::spawn(self.clone().replace(running, None));
                }
                Ok(granted)
            }
            None => self.replaced(None).await,
        }
    }

    /// A credential other than `refused`, which the API server does not accept; `None`: there is no
    /// other yet.
    pub(in crate::cluster) async fn after_refusal(
        &self,
        refused: &Arc<Granted>,
    ) -> Option<Arc<Granted>> {
        let newer = self.valid().map(|(granted, _)| granted);
        if let Some(newer) = newer.filter(|newer| !Arc::ptr_eq(newer, refused)) {
            return Some(newer);
        }
        // An API server that refuses every credential does not make the program run all the time.
        if refused.at.elapsed() < FIRST_PAUSE {
            return None;
        }
        let next = self.replaced(Some(Arc::clone(refused))).await.ok()?;
        (!Arc::ptr_eq(&next, refused)).then_some(next)
    }

    /// The credential if it has not ended, and whether it ends soon.
    fn valid(&self) -> Option<(Arc<Granted>, bool)> {
        let current = self.0.current.lock();
        let granted = current.unwrap_or_else(PoisonError::into_inner).clone()?;
        let now = self.0.clock.now();
        match granted.end {
            Some((_, end)) if end <= now => None,
            Some((replace, _)) => Some((granted, replace <= now)),
            None => Some((granted, false)),
        }
    }

    async fn replaced(
        &self,
        refused: Option<Arc<Granted>>,
    ) -> Result<Arc<Granted>, Arc<ExecError>> {
        let running = Arc::clone(&self.0.failures).lock_owned().await;
        // A request that gives up does not end the run, which others wait for.
        let run = tokio::spawn(self.clone().replace(running, refused));
        run.await.unwrap_or_else(|_| {
            Err(Arc::new(ExecError::Output {
                program: self.0.plugin.program.clone(),
                why: "the run was interrupted",
            }))
        })
    }

    async fn replace(
        self,
        mut running: OwnedMutexGuard<Failures>,
        refused: Option<Arc<Granted>>,
    ) -> Result<Arc<Granted>, Arc<ExecError>> {
        let is_other =
            |granted: &Arc<Granted>| refused.as_ref().is_none_or(|r| !Arc::ptr_eq(granted, r));
        if let Some((granted, false)) = self.valid().filter(|(granted, _)| is_other(granted)) {
            return Ok(granted);
        }
        if let Some((until, why)) = &running.last
            && Instant::now() < *until
        {
            return Err(Arc::clone(why));
        }
        let cluster = self.0.cluster.as_str();
        let program = self.0.plugin.program.display();
        match self.run().await {
            Ok(granted) => {
                tracing::debug!(cluster, %program, "the program gave a credential");
                let granted = Arc::new(granted);
                let current = self.0.current.lock();
                *current.unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&granted));
                running.backoff.reset();
                running.last = None;
                Ok(granted)
            }
            Err(why) => {
                // Its frequency is that of the runs, which the back-off limits.
                tracing::warn!(cluster, %why, "the cluster's program gives no credential");
                let why = Arc::new(why);
                let until = Instant::now() + running.backoff.next_delay();
                running.last = Some((until, Arc::clone(&why)));
                Err(why)
            }
        }
    }

    async fn run(&self) -> Result<Granted, ExecError> {
        let plugin = &self.0.plugin;
        let output = run(plugin).await?;
        let refused = |why| ExecError::Output {
            program: plugin.program.clone(),
            why,
        };
        parse(&output, plugin.api_version, self.0.clock.now()).map_err(refused)
    }
}

/// An ExecCredential (client.authentication.k8s.io).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    kind: Option<String>,
    api_version: Option<String>,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

fn parse(output: &[u8], api_version: &str, now: UnixTime) -> Result<Granted, &'static str> {
    let text = std::str::from_utf8(output).map_err(|_| "it is not UTF-8")?;
    // JSON is YAML, which client-go takes too. The parser's error may quote the credential.
    let answer: Answer =
        serde_saphyr::from_str(text).map_err(|_| "it is not an ExecCredential in JSON")?;
    if answer.kind.as_deref() != Some("ExecCredential") {
        return Err("its kind is not ExecCredential");
    }
    if answer.api_version.as_deref() != Some(api_version) {
        return Err("its apiVersion is not the one that the kubeconfig asks for");
    }
    let status = answer
        .status
        .ok_or("it has no status, and so no credential")?;
    let set = |field: Option<String>| field.filter(|text| !text.is_empty());
    let authorization = match set(status.token) {
        Some(token) => Some(bearer(&token).ok_or("its token holds what no HTTP header can")?),
        None => None,
    };
    let pair = (
        set(status.client_certificate_data),
        set(status.client_key_data),
    );
    let identity = match pair {
        (Some(chain), Some(key)) => Some(
            identity(chain.as_bytes(), key.as_bytes())
                .map_err(|_| "its client certificate and key cannot be used together")?,
        ),
        (None, None) if authorization.is_some() => None,
        (None, None) => return Err("it has neither a token nor a client certificate"),
        _ => return Err("it has a client certificate or a key without the other"),
    };
    let end = match set(status.expiration_timestamp) {
        None => None,
        Some(text) => {
            let end: Timestamp = text
                .parse()
                .map_err(|_| "its expirationTimestamp is no date")?;
            let end = UnixTime::from_secs(end.as_second());
            if end <= now {
                return Err("the credential has expired already: compare the clocks");
            }
            let margin = MARGIN.min(end.since(now) / 5);
            Some((end.minus(margin), end))
        }
    };
    Ok(Granted {
        authorization,
        identity: identity.map(Arc::new),
        end,
        at: Instant::now(),
    })
}
