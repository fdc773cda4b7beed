//! Clusters with fake API servers, their tokens and their objects.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rootbridge::authn::{Api, AuthnError, Caller};
use rootbridge::clock::{Clock, SystemClock};
use rootbridge::cluster::{Cluster, Clusters, RawCluster, clusters};
use rootbridge_test_support::jwk::{JwtKey, jwks};
use rootbridge_test_support::{PATIENCE, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fake_api_server::{Answer, FakeApiServer};

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
pub(crate) const POD: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const ACCOUNT: &str = "22222222-2222-4222-8222-222222222222";

/// Clusters whose API servers are fakes. Ends when it is dropped.
pub(crate) struct Fixture {
    pub(crate) clusters: Clusters,
    stop: CancellationToken,
    _files: TempDir,
}

impl Fixture {
    /// A cluster `east` with a kubeconfig and further keys, which may not be reachable.
    pub(crate) fn with_kubeconfig(kubeconfig: &str, more: &str) -> Self {
        Self::start(&[("east", kubeconfig.to_owned(), more)])
    }

    /// Each cluster with its fake and its further keys; returns once they are reached.
    pub(crate) async fn new(all: &[(&str, &FakeApiServer, &str)]) -> Self {
        let mut each = Vec::new();
        for (name, fake, more) in all {
            each.push((*name, fake.kubeconfig(), *more));
        }
        let fixture = Self::start(&each);
        for (name, ..) in all {
            let cluster = fixture.cluster(name);
            eventually(PATIENCE, "the cluster is up", async || cluster.is_up()).await;
        }
        fixture
    }

    fn start(all: &[(&str, String, &str)]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut raw: BTreeMap<String, RawCluster> = BTreeMap::new();
        for (name, kubeconfig, more) in all {
            let path = files.path().join(name);
            std::fs::write(&path, kubeconfig).unwrap();
            let text = format!(
                "trust_domain = 'td'\nkubeconfig = '{}'\naudiences = {{ istio = 'istio-ca' }}\n{more}",
                path.display()
            );
            raw.insert((*name).to_owned(), toml::from_str(&text).unwrap());
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let stop = CancellationToken::new();
        let clusters = Clusters::start(&clusters(raw).unwrap(), &clock, &TaskTracker::new(), &stop);
        Self {
            clusters,
            stop,
            _files: files,
        }
    }

    pub(crate) fn cluster(&self, name: &str) -> Arc<Cluster> {
        Arc::clone(self.clusters.get(name).unwrap())
    }

    /// From an address.
    pub(crate) async fn ask_from(
        &self,
        name: &str,
        token: &str,
        peer: [u8; 4],
    ) -> Result<Caller, AuthnError> {
        let cluster = self.cluster(name);
        let peer = Some(IpAddr::from(peer));
        cluster.authenticate_from(token, Api::Istio, peer).await
    }

    pub(crate) async fn ask(&self, name: &str, token: &str) -> Result<Caller, AuthnError> {
        self.cluster(name).authenticate(token, Api::Istio).await
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The key set of one key.
pub(crate) fn key_set(key: &JwtKey) -> Answer {
    Answer::Json(serde_json::from_str(&jwks(&[key])).unwrap())
}

/// A token that nothing here can decide on, and that is like no other.
pub(crate) fn token() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let mut claims = claims();
    claims["jti"] = NUMBER.fetch_add(1, Ordering::Relaxed).into();
    JwtKey::p256("unpublished").token(&claims)
}

/// What a TokenReview says of a pod's token.
pub(crate) fn accepted(account: &str) -> Answer {
    Answer::Json(json!({
        "kind": "TokenReview",
        "status": {
            "authenticated": true,
            "audiences": ["istio-ca"],
            "user": {
                "username": format!("system:serviceaccount:{account}"),
                "groups": ["system:serviceaccounts"],
            },
        },
    }))
}

/// The claims of `shop/cart`, bound to the pod `cart-0`.
pub(crate) fn claims() -> Value {
    let now = SystemClock.now().secs();
    json!({
        "iss": ISSUER, "sub": "system:serviceaccount:shop:cart", "aud": ["istio-ca"],
        "iat": now, "nbf": now, "exp": now + 3600,
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": { "name": "cart", "uid": ACCOUNT },
            "pod": { "name": "cart-0", "uid": POD },
            "node": { "name": "n1", "uid": "n" },
        },
    })
}

pub(crate) fn pod(ns: &str, name: &str, uid: &str, account: &str, node: &str) -> Value {
    json!({
        "metadata": { "namespace": ns, "name": name, "uid": uid, "resourceVersion": "8" },
        "spec": { "serviceAccountName": account, "nodeName": node },
        "status": { "phase": "Running" },
    })
}

pub(crate) fn account(ns: &str, name: &str, uid: &str) -> Value {
    json!({ "metadata": { "namespace": ns, "name": name, "uid": uid, "resourceVersion": "8" } })
}
