//! An issuer of callers' tokens.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::jwk::{JwtKey, jwks};

/// `iss` of service account tokens.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A key, its JWKS file, and every token that it has signed.
pub struct TokenIssuer {
    key: JwtKey,
    directory: PathBuf,
    pub minted: Arc<Mutex<Vec<String>>>,
}

impl TokenIssuer {
    /// Publishes `key`; token files go to `directory` too.
    pub fn new(key: JwtKey, directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let issuer = Self {
            key,
            directory: directory.to_owned(),
            minted: Arc::default(),
        };
        issuer.publish();
        issuer
    }

    /// Writes `jwks.json`.
    pub fn publish(&self) {
        fs::write(self.directory.join("jwks.json"), jwks(&[&self.key])).unwrap();
    }

    /// A pod's token for Istio's API.
    pub fn istio(&self, namespace: &str, account: &str) -> String {
        self.mint(&claims(namespace, account, "istio-ca"))
    }

    /// A pod's token for Rootbridge's own API.
    pub fn own(&self, namespace: &str, account: &str) -> String {
        self.mint(&claims(namespace, account, "rootbridge"))
    }

    /// A token of `[jwt.people]`.
    pub fn person(&self, sub: &str) -> String {
        let mut claims = claims("x", "y", "rootbridge");
        claims["iss"] = "https://people.example".into();
        claims["sub"] = sub.into();
        self.mint(&claims)
    }

    pub fn mint(&self, claims: &Value) -> String {
        let token = self.key.token(claims);
        self.minted.lock().unwrap().push(token.clone());
        token
    }

    /// A valid token in a file, as a pod finds it.
    pub fn token_file(&self, namespace: &str, account: &str, audience: &str) -> PathBuf {
        let token = self.mint(&claims(namespace, account, audience));
        self.file(&format!("{namespace}.{account}.{audience}"), &token)
    }

    /// Any text as a token file.
    pub fn file(&self, name: &str, token: &str) -> PathBuf {
        let path = self.directory.join(format!("{name}.token"));
        fs::write(&path, token).unwrap();
        path
    }
}

/// The claims of a service account token that is bound to a pod. Valid for a year, so that tests
/// may move the clock.
pub fn claims(namespace: &str, account: &str, audience: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = now.as_secs();
    json!({
        "iss": ISSUER,
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "aud": [audience],
        "iat": now - 10,
        "nbf": now - 10,
        "exp": now + 365 * 86_400,
        "kubernetes.io": {
            "namespace": namespace,
            "pod": { "name": format!("{account}-0"), "uid": "1b2c7b4e-8a51-4f0b-9d8f-1f3a2b4c5d6e" },
            "node": { "name": "node-1", "uid": "2b2c7b4e-8a51-4f0b-9d8f-1f3a2b4c5d6e" },
            "serviceaccount": { "name": account, "uid": "0b2c7b4e-8a51-4f0b-9d8f-1f3a2b4c5d6e" },
        },
    })
}
