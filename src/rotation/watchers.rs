//! Followers of the bundle stream that say what they have applied: the ledger keeps what each said last.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::reported::{Details, Reported};
use crate::clock::{Clock, UnixTime};
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::ledger::{
    Actor, Change, GoneCluster, Ledger, LedgerError, PresenceChange, WatcherReport,
};
use crate::x509::TrustDomain;

/// How many reports are recorded together, and how many may wait for that.
const BATCH: usize = 500;
const QUEUE: usize = 20_000;
/// How many watchers one server takes: each is remembered until it is forgotten.
const MOST: usize = 50_000;
/// An unchanged report is recorded again when the last is that old.
const AGAIN: Duration = Duration::from_secs(10);
/// The longest instance's name, in bytes.
const MAX_INSTANCE_LEN: usize = 128;

/// `[watchers.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWatcher {
    /// Of the bundle.
    pub trust_domain: String,
    /// Who may report, as the log writes callers.
    pub identity: String,
    /// Of an agent: the cluster that it publishes to.
    pub cluster: Option<String>,
}

/// A checked `[watchers.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherConfig {
    pub(super) name: String,
    pub(super) trust_domain: TrustDomain,
    identity: String,
    pub(super) cluster: Option<String>,
}

impl WatcherConfig {
    /// Checks all of them. A cluster that the server publishes to itself has no agent.
    pub fn check(
        raw: BTreeMap<String, RawWatcher>,
        is_cluster: impl Fn(&str) -> bool,
        issues: &mut ConfigIssues,
    ) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (name, raw) in raw {
            let at = |key: &str| format!("watchers.{name}.{key}");
            let domain = TrustDomain::parse(&raw.trust_domain)
                .map_err(|error| ConfigIssue::new(at("trust_domain"), error));
            issues.require(
                raw.identity.contains(':') && raw.identity.bytes().all(|b| b.is_ascii_graphic()),
                at("identity"),
                "write it as the log does: spiffe://…, subject:VERIFIER:SUB or operator:NAME",
            );
            if let Some(cluster) = &raw.cluster {
                issues.require(
                    !cluster.is_empty() && !is_cluster(cluster),
                    at("cluster"),
                    "must name a cluster that this server does not connect to: an agent publishes there",
                );
            }
            let Some(trust_domain) = issues.collect(domain) else {
                continue;
            };
            let same = all
                .iter()
                .find(|each| each.identity == raw.identity && each.trust_domain == trust_domain);
            if let Some(same) = same {
                let problem = format!("is that of watchers.{} too", same.name);
                issues.push(ConfigIssue::new(at("identity"), problem));
            }
            all.push(Self {
                trust_domain,
                identity: raw.identity,
                cluster: raw.cluster,
                name,
            });
        }
        all
    }
}

/// Why a report is not taken.
#[derive(Debug, thiserror::Error)]
pub enum WatcherError {
    #[error("{0} is no watcher of {1}: [watchers] names none with this identity")]
    NotConfigured(String, TrustDomain),
    #[error("instance: 1 to {MAX_INSTANCE_LEN} visible ASCII characters")]
    Instance,
    #[error("an agent reports targets, and a watcher without a cluster has none")]
    Targets,
    #[error("{MOST} watchers are known: forget those that are gone")]
    TooMany,
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

type Waiting = (WatcherReport, oneshot::Sender<Result<(), LedgerError>>);

/// Takes the reports of watchers.
pub struct Watchers {
    configs: Vec<WatcherConfig>,
    instance: String,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    queue: mpsc::Sender<Waiting>,
    receiver: Mutex<Option<mpsc::Receiver<Waiting>>>,
    /// What is on record, as far as this server has recorded it.
    last: Mutex<BTreeMap<(TrustDomain, String, String), WatcherReport>>,
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers")
            .field("configs", &self.configs)
            .finish_non_exhaustive()
    }
}

impl Watchers {
    pub fn new(
        configs: &[WatcherConfig],
        instance: &str,
        ledger: &Arc<dyn Ledger>,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        Self {
            configs: configs.to_vec(),
            instance: instance.to_owned(),
            ledger: Arc::clone(ledger),
            clock: Arc::clone(clock),
            queue,
            receiver: Mutex::new(Some(receiver)),
            last: Mutex::default(),
        }
    }

    /// Records reports, many at a time, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let Some(mut receiver) = self.receiver() else {
            return;
        };
        let mut batch = Vec::new();
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => return,
                received = receiver.recv_many(&mut batch, BATCH) => received,
            };
            if received == 0 {
                return;
            }
            let (reports, answers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
            let done = self.ledger.report_watchers(reports.clone()).await;
            if done.is_ok() {
                let mut last = self.last();
                last.extend(reports.into_iter().map(|report| (key(&report), report)));
            }
            for answer in answers {
                // Who asked may have hung up.
                let _ = answer.send(done.clone());
            }
        }
    }

    /// Records what a caller has applied; it is durable when this returns. Returns what an operator has
    /// said about its cluster.
    ///
    /// # Errors
    /// The caller is no watcher, or the ledger's.
    pub async fn report(
        &self,
        identity: &str,
        reported: Reported,
    ) -> Result<Option<GoneCluster>, WatcherError> {
        let domain = reported.trust_domain.clone();
        let mut configs = self.configs.iter();
        let config = configs
            .find(|each| each.identity == identity && each.trust_domain == domain)
            .ok_or_else(|| WatcherError::NotConfigured(identity.to_owned(), domain))?;
        let instance = &reported.instance;
        if !(1..=MAX_INSTANCE_LEN).contains(&instance.len())
            || !instance.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(WatcherError::Instance);
        }
        if config.cluster.is_none() && !reported.targets.is_empty() {
            return Err(WatcherError::Targets);
        }
        let now = self.clock.now();
        let report = self.recorded(config, reported, now);
        let key = key(&report);
        let (known, count) = {
            let last = self.last();
            (last.get(&key).cloned(), last.len())
        };
        if known.is_none() && count >= MOST {
            return Err(WatcherError::TooMany);
        }
        if let Some(known) = &known
            && report.sequence < known.sequence
        {
            tracing::warn!(
                watcher = config.name,
                instance = report.name,
                sequence = report.sequence,
                before = known.sequence,
                "a watcher has gone back to an older bundle"
            );
        }
        let is_due = known.is_none_or(|known| {
            let same = WatcherReport {
                at: known.at,
                ..report.clone()
            };
            same != known || now.since(known.at) >= AGAIN
        });
        if is_due {
            let (answer, done) = oneshot::channel();
            let closed = || LedgerError::Unavailable {
                reason: "the server stops".to_owned(),
            };
            self.queue
                .send((report, answer))
                .await
                .map_err(|_| closed())?;
            done.await.map_err(|_| closed())??;
        }
        match &config.cluster {
            Some(cluster) => Ok(self.returned(cluster).await?),
            None => Ok(None),
        }
    }

    fn recorded(&self, config: &WatcherConfig, reported: Reported, now: UnixTime) -> WatcherReport {
        let cluster = config.cluster.clone().unwrap_or_default();
        let details = Details::of_agent(&cluster, reported.sequence, reported.targets, now);
        WatcherReport {
            trust_domain: reported.trust_domain,
            cluster,
            name: format!("{}/{}", config.name, reported.instance),
            sequence: reported.sequence,
            digest: reported.digest,
            details: serde_json::to_string(&details).unwrap_or_default(),
            at: now,
            instance: self.instance.clone(),
        }
    }

    /// A cluster whose agent reports is not gone.
    async fn returned(&self, cluster: &str) -> Result<Option<GoneCluster>, LedgerError> {
        let all = self.ledger.gone_clusters().await?;
        let gone = all.into_iter().find(|gone| gone.cluster == cluster);
        if let Some(gone) = &gone
            && gone.returned_at.is_none()
        {
            let how = "its agent reports".to_owned();
            returned(self.ledger.as_ref(), gone, how).await?;
        }
        Ok(gone)
    }

    /// The queue's end, once.
    fn receiver(&self) -> Option<mpsc::Receiver<Waiting>> {
        let receiver = self.receiver.lock();
        receiver.unwrap_or_else(PoisonError::into_inner).take()
    }

    fn last(&self) -> MutexGuard<'_, BTreeMap<(TrustDomain, String, String), WatcherReport>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records that a cluster that was declared gone was heard of: it is waited for again.
pub(super) async fn returned(
    ledger: &dyn Ledger,
    gone: &GoneCluster,
    how: String,
) -> Result<(), LedgerError> {
    tracing::warn!(
        cluster = gone.cluster,
        reason = gone.reason,
        declared_by = gone.by,
        how,
        "a cluster that was declared gone is back: rotations wait for it again"
    );
    let change = Change::Presence(PresenceChange::Returned {
        cluster: gone.cluster.clone(),
        how,
    });
    let by = Actor::server(None);
    ledger.apply(change, &by).await.map(drop)
}

fn key(report: &WatcherReport) -> (TrustDomain, String, String) {
    let (cluster, name) = (report.cluster.clone(), report.name.clone());
    (report.trust_domain.clone(), cluster, name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_watcher_is_configured_once_and_not_in_a_cluster_of_the_servers() {
        let raw = |identity: &str, cluster: Option<&str>| RawWatcher {
            trust_domain: "td".to_owned(),
            identity: identity.to_owned(),
            cluster: cluster.map(str::to_owned),
        };
        let check = |all: &[(&str, RawWatcher)]| {
            let mut issues = ConfigIssues::default();
            let all = all
                .iter()
                .map(|(name, raw)| ((*name).to_owned(), raw.clone()));
            let checked =
                WatcherConfig::check(all.collect(), |cluster| cluster == "east", &mut issues);
            issues
                .into_result(Some(checked))
                .map_err(|issues| issues.to_string())
        };
        let agent = raw("spiffe://td/ns/a/sa/b", Some("west"));
        let both = [("a", agent.clone()), ("b", raw("operator:b", None))];
        assert_eq!(check(&both).unwrap().len(), 2);
        let said = check(&[("a", agent.clone()), ("b", agent)]).unwrap_err();
        assert!(
            said.contains("watchers.b.identity: is that of watchers.a too"),
            "{said}"
        );
        for (wrong, key) in [
            (raw("agent", None), "watchers.a.identity"),
            (raw("operator:a", Some("east")), "watchers.a.cluster"),
            (
                RawWatcher {
                    trust_domain: "a b".to_owned(),
                    ..raw("operator:a", None)
                },
                "watchers.a.trust_domain",
            ),
        ] {
            let said = check(&[("a", wrong)]).unwrap_err();
            assert!(said.contains(key), "{said}");
        }
    }
}
