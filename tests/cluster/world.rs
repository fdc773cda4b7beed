//! Clusters that are reached, tokens that their keys signed, objects that they tell of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rootbridge::authn::{Api, AuthnError, Caller};
use rootbridge::clock::{Clock, SystemClock};
use rootbridge::cluster::{Cluster, Clusters, RawCluster, clusters};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fake::{Answer, Fake};

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
pub(crate) const POD: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const ACCOUNT: &str = "22222222-2222-4222-8222-222222222222";

/// Clusters whose API servers are fakes. Ends when it is dropped.
pub(crate) struct World {
    pub(crate) clusters: Clusters,
    stop: CancellationToken,
    _files: TempDir,
}

impl World {
    /// Each cluster with its fake and its further keys; returns once they are reached.
    pub(crate) async fn new(all: &[(&str, &Fake, &str)]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut raw: BTreeMap<String, RawCluster> = BTreeMap::new();
        for (name, fake, more) in all {
            let path = files.path().join(name);
            std::fs::write(&path, fake.kubeconfig()).unwrap();
            let text = format!(
                "trust_domain = 'td'\nkubeconfig = '{}'\naudiences = {{ istio = 'istio-ca' }}\n{more}",
                path.display()
            );
            raw.insert((*name).to_owned(), toml::from_str(&text).unwrap());
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let stop = CancellationToken::new();
        let clusters = Clusters::start(&clusters(raw).unwrap(), &clock, &TaskTracker::new(), &stop);
        let world = Self {
            clusters,
            stop,
            _files: files,
        };
        for (name, ..) in all {
            let cluster = world.cluster(name);
            eventually("the cluster is up", || cluster.is_up()).await;
        }
        world
    }

    pub(crate) fn cluster(&self, name: &str) -> Arc<Cluster> {
        Arc::clone(self.clusters.get(name).unwrap())
    }

    pub(crate) async fn ask(&self, name: &str, token: &str) -> Result<Caller, AuthnError> {
        self.cluster(name).authenticate(token, Api::Istio).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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

/// An API server's key.
pub(crate) struct Key(EcdsaKeyPair, &'static str);

impl Key {
    pub(crate) fn new(kid: &'static str) -> Self {
        Self(
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            kid,
        )
    }

    pub(crate) fn set(&self) -> Answer {
        let point = &self.0.public_key().as_ref()[1..];
        let (x, y) = point.split_at(32);
        let key = json!({ "kty": "EC", "crv": "P-256", "kid": self.1, "x": b64(x), "y": b64(y) });
        Answer::Json(json!({ "keys": [key] }))
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": self.1 }).to_string();
        let body = format!(
            "{}.{}",
            b64(header.as_bytes()),
            b64(claims.to_string().as_bytes())
        );
        let signature = self.0.sign(&SystemRandom::new(), body.as_bytes()).unwrap();
        format!("{body}.{}", b64(signature.as_ref()))
    }
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

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
