//! What API servers publish about the tokens that they issue: issuer and keys.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use serde::Deserialize;

use super::api::{Bounds, get};
use super::connection::Connection;
use crate::authn::{
    KeyCacheReport, KeySource, Quoted, ServiceAccountKeys, Signed, UnverifiedToken, issuer_of_own,
};
use crate::clock::Clock;

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";
/// The longest discovery document, in bytes.
const MAX_DISCOVERY: usize = 64 * 1024;
/// How long each of the two fetches may take.
const TIME: Duration = Duration::from_secs(5);
/// The issuer of tokens in Secrets, of every cluster.
const LEGACY: &str = "kubernetes/serviceaccount";
/// Issuers that an API server has named one after the other.
const MOST_ISSUERS: usize = 4;

/// The published keys of one cluster.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) keys: ServiceAccountKeys,
    source: Arc<DiscoveryKeys>,
    /// Issuers that the configuration adds.
    more: Vec<String>,
}

/// Those of every cluster.
#[derive(Debug, Default)]
pub(super) struct AllPublished(RwLock<Vec<(String, Arc<Published>)>>);

impl Published {
    /// Starts to fetch the keys, on the current tokio runtime.
    pub(super) fn start(
        name: &str,
        connection: &Arc<Connection>,
        more: &[String],
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let source = Arc::new(DiscoveryKeys {
            connection: Arc::clone(connection),
            issuers: ArcSwap::default(),
        });
        let keys: Arc<dyn KeySource> = Arc::<DiscoveryKeys>::clone(&source);
        Self {
            keys: ServiceAccountKeys::start(name, keys, Arc::clone(clock)),
            source,
            more: more.to_vec(),
        }
    }

    /// The issuer that the API server names now.
    pub(super) fn issuer(&self) -> Option<String> {
        self.source.issuers.load().first().cloned()
    }

    pub(super) fn report(&self) -> KeyCacheReport {
        self.keys.report()
    }

    /// Whether tokens of `issuer` are this cluster's; `None` while its issuer is not known.
    fn issues_as(&self, issuer: &str) -> Option<bool> {
        let named = self.source.issuers.load();
        let is_one = named.iter().chain(&self.more).any(|each| each == issuer);
        (!named.is_empty()).then_some(is_one)
    }
}

impl AllPublished {
    pub(super) fn add(&self, cluster: &str, published: &Arc<Published>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.push((cluster.to_owned(), Arc::clone(published)));
    }

    /// Why `token`, which is about to be sent to the API server of `cluster`, is not one of its own: such
    /// a token may be valid elsewhere, and is for nobody here.
    pub(super) fn foreign(
        &self,
        cluster: &str,
        token: &str,
        claims: &UnverifiedToken,
    ) -> Option<String> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (_, own) = all.iter().find(|(name, _)| name == cluster)?;
        let issuer = claims.issuer.as_str();
        let others = || all.iter().filter(|(name, _)| name != cluster);
        let shown = Quoted(issuer);
        // Where the cluster's own issuer is not known, that another one has this issuer says nothing: many
        // clusters have the same.
        if issuer != LEGACY && own.issues_as(issuer) == Some(false) {
            return Some(format!(
                "its issuer {shown} is not the cluster's (clusters.{cluster}.issuers adds others)"
            ));
        }
        match own.keys.signed(token) {
            Signed::Yes => None,
            Signed::No(why) => Some(format!("by the keys that the cluster publishes: {why}")),
            Signed::Unknown => others()
                .find(|(_, other)| matches!(other.keys.signed(token), Signed::Yes))
                .map(|(other, _)| format!("a key of cluster {other} has signed it")),
        }
    }
}

/// What one API server publishes.
#[derive(Debug)]
struct DiscoveryKeys {
    connection: Arc<Connection>,
    /// The current one first. One that was replaced still has valid tokens.
    issuers: ArcSwap<Vec<String>>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

impl KeySource for DiscoveryKeys {
    fn read(&self, most: usize) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let discovered = self.discover().await;
            match &discovered {
                Ok(issuer) => self.learn(issuer.clone()),
                // Who may not read it has a token of the same issuer, if it is a service account.
                Err(_) if self.issuers.load().is_empty() => {
                    if let Some(issuer) = self.own_issuer().await {
                        self.learn(issuer);
                    }
                }
                Err(_) => {}
            }
            discovered?;
            self.fetch(KEYS, most).await
        })
    }
}

impl DiscoveryKeys {
    async fn discover(&self) -> Result<String, String> {
        let discovery = self.fetch(DISCOVERY, MAX_DISCOVERY).await?;
        let discovery: Discovery = serde_json::from_slice(&discovery)
            .map_err(|error| format!("{DISCOVERY}: {:?}", error.classify()))?;
        if discovery.issuer.is_empty() {
            return Err(format!("{DISCOVERY} names no issuer"));
        }
        Ok(discovery.issuer)
    }

    fn learn(&self, issuer: String) {
        let known = self.issuers.load();
        if known.first() == Some(&issuer) {
            return;
        }
        let before = known.iter().filter(|each| **each != issuer).cloned();
        let all = std::iter::once(issuer.clone()).chain(before);
        self.issuers
            .store(Arc::new(all.take(MOST_ISSUERS).collect()));
    }

    async fn own_issuer(&self) -> Option<String> {
        let client = self.connection.client().await.ok()?;
        let headers = client.credential_headers().await.ok()?;
        let token = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let issuer = issuer_of_own(token.strip_prefix("Bearer ")?)?;
        (issuer != LEGACY).then_some(issuer)
    }

    async fn fetch(&self, path: &str, most: usize) -> Result<Vec<u8>, String> {
        let client = self.connection.client().await.map_err(|down| down.why)?;
        let bounds = Bounds {
            bytes: most,
            time: TIME,
        };
        let answer = async { client.send(get(path)?, bounds).await };
        let answer = answer.await.map_err(|error| format!("{path}: {error}"))?;
        Ok(answer.body().to_vec())
    }
}
