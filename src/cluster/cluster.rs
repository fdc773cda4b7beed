//! One Kubernetes cluster, and the authentication of its service accounts' tokens.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::ClusterConfig;
use super::connection::Connection;
use super::index::Index;
use super::metrics::Metrics;
use super::offline::OfflineVerifier;
use super::published::{AllPublished, Published};
use super::raw::VerificationMode;
use super::review_gate::ReviewRequest;
use super::token_review::{TokenReviewer, TokenSubject};
use crate::authn::{Api, AuthnError, Caller, Identity, KeyCacheReport, Method, UnverifiedToken};
use crate::clock::Clock;
use crate::x509::SpiffeId;

#[derive(Debug)]
pub struct Cluster {
    config: ClusterConfig,
    connection: Arc<Connection>,
    clock: Arc<dyn Clock>,
    reviewer: TokenReviewer,
    /// Only where it is needed: it requires permission to list all pods.
    index: Option<Index>,
    offline: Option<OfflineVerifier>,
    /// `None` where no API accepts the cluster's tokens.
    published: Option<Arc<Published>>,
    all_published: Arc<AllPublished>,
    up: AtomicBool,
    metrics: Metrics,
}

impl Cluster {
    pub(super) fn start(
        config: &ClusterConfig,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
        all_published: &Arc<AllPublished>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let connection = Arc::new(Connection::new(config.clone(), Arc::clone(clock)));
        tasks.spawn(Arc::clone(&connection).follow_kubeconfig(stop.clone()));
        let callers = config.callers();
        let published = callers.accepts_tokens().then(|| {
            let more = callers.issuers();
            let published = Published::start(config.name(), &connection, more, clock);
            let published = Arc::new(published);
            all_published.add(config.name(), &published);
            published
        });
        let offline = published
            .as_ref()
            .filter(|_| callers.mode() == VerificationMode::Offline)
            .map(|keys| OfflineVerifier::new(keys, callers.watch_silence(), clock));
        Self {
            config: config.clone(),
            reviewer: TokenReviewer::new(callers),
            index: callers
                .needs_index()
                .then(|| Index::start(config, &connection, tasks, stop)),
            offline,
            published,
            all_published: Arc::clone(all_published),
            connection,
            clock: Arc::clone(clock),
            up: AtomicBool::new(false),
            metrics: metrics.clone(),
        }
    }

    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// `None` where nothing needs it.
    pub fn index(&self) -> Option<&Index> {
        self.index.as_ref()
    }

    /// The API server's published keys; `None` where tokens are not verified with them.
    pub fn keys(&self) -> Option<KeyCacheReport> {
        let published = self.published.as_deref();
        published
            .filter(|_| self.offline.is_some())
            .map(Published::report)
    }

    /// Whether the API server answered the last probe.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    /// As [`Self::authenticate_from`], without an address.
    pub async fn authenticate(&self, token: &str, api: Api) -> Result<Caller, AuthnError> {
        self.authenticate_from(token, api, None).await
    }

    /// The caller that presents `token` to `api`, from the address `peer`. The result is final: no other
    /// cluster is tried.
    pub async fn authenticate_from(
        &self,
        token: &str,
        api: Api,
        peer: Option<IpAddr>,
    ) -> Result<Caller, AuthnError> {
        let name = self.config.name();
        let audience = self.config.callers().audience(api).ok_or_else(|| {
            AuthnError::rejected(format_args!(
                "the API {api} accepts no tokens of cluster {name}"
            ))
        })?;
        let (subject, method) = self
            .verify(token, audience, peer)
            .await
            .map_err(|error| in_cluster(name, error))?;
        self.caller(subject, method)
    }

    async fn verify(
        &self,
        token: &str,
        audience: &str,
        peer: Option<IpAddr>,
    ) -> Result<(TokenSubject, Method), AuthnError> {
        if let (Some(offline), Some(index)) = (&self.offline, &self.index) {
            let started = Instant::now();
            // Fetching an unknown key must leave time for a TokenReview.
            let most = self.config.callers().review_timeout() / 2;
            let result = timeout(most, offline.verify(index, token, audience)).await;
            let result =
                result.unwrap_or_else(|_| Ok(Err("fetching its key took too long".to_owned())));
            if !matches!(result, Ok(Err(_))) {
                self.metrics.count(
                    self.config.name(),
                    VerificationMode::Offline,
                    &result,
                    started,
                );
            }
            match result? {
                Ok(accepted) => {
                    let method = Method::ClusterKeys {
                        issuer: accepted.issuer,
                        key_id: accepted.key_id,
                    };
                    return Ok((accepted.subject, method));
                }
                Err(why) => {
                    self.metrics.fell_back(self.config.name());
                    tracing::debug!(
                        cluster = self.config.name(),
                        why,
                        "a token cannot be verified offline and goes to TokenReview"
                    );
                }
            }
        }
        let request = self
            .screen(token, audience, peer)
            .inspect_err(|_| self.metrics.screened(self.config.name()))?;
        let started = Instant::now();
        let result = self
            .reviewer
            .review(&self.connection, token, audience, &request)
            .await;
        self.metrics.count(
            self.config.name(),
            VerificationMode::TokenReview,
            &result,
            started,
        );
        Ok((result?, Method::TokenReview))
    }

    /// Refuses what no API server accepts, and what is not this cluster's.
    fn screen(
        &self,
        token: &str,
        audience: &str,
        peer: Option<IpAddr>,
    ) -> Result<ReviewRequest, AuthnError> {
        let claims = UnverifiedToken::read(token, audience, &*self.clock)?;
        let foreign = self
            .all_published
            .foreign(self.config.name(), token, &claims);
        foreign.map_or(Ok(()), |why| Err(AuthnError::rejected(why)))?;
        Ok(ReviewRequest::new(token, audience, &claims, peer))
    }

    fn caller(&self, subject: TokenSubject, method: Method) -> Result<Caller, AuthnError> {
        let name = self.config.name();
        let rejected = |why: &str| AuthnError::rejected(format_args!("cluster {name}: {why}"));
        if !self.config.allows_namespace(&subject.namespace) {
            return Err(rejected(
                "the cluster's `namespaces` do not include the token's",
            ));
        }
        let trust_domain = self.config.trust_domain();
        let id = SpiffeId::service_account(trust_domain, &subject.namespace, &subject.account)
            .map_err(|_| rejected("the token names no valid namespace and service account"))?;
        Ok(Caller {
            trust_domain: trust_domain.clone(),
            identity: Identity::Workload(id),
            method,
            cluster: Some(name.to_owned()),
            pod: subject.pod,
            node: subject.node,
            token_authenticated_at: Some(self.clock.now()),
        })
    }
}

fn in_cluster(name: &str, error: AuthnError) -> AuthnError {
    match error {
        AuthnError::Missing => AuthnError::Missing,
        AuthnError::Rejected { reason } => {
            AuthnError::rejected(format_args!("cluster {name}: {reason}"))
        }
        AuthnError::Busy { why, retry_after } => AuthnError::Busy {
            why: format!("cluster {name}: {why}"),
            retry_after,
        },
        AuthnError::Unavailable(why) => AuthnError::Unavailable(format!("cluster {name}: {why}")),
        AuthnError::Timeout(why) => AuthnError::Timeout(format!("cluster {name}: {why}")),
    }
}
