//! An issuer of callers' tokens.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// An ES256 key, its JWKS file, and every token that it has signed.
pub struct TokenIssuer {
    key: EcdsaKeyPair,
    jwks: PathBuf,
    pub minted: Arc<Mutex<Vec<String>>>,
}

impl TokenIssuer {
    pub fn new(jwks: &Path) -> Self {
        let issuer = Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            jwks: jwks.to_owned(),
            minted: Arc::default(),
        };
        issuer.publish();
        issuer
    }

    /// Writes the JWKS file.
    pub fn publish(&self) {
        let point = &self.key.public_key().as_ref()[1..];
        let (x, y) = point.split_at(32);
        let key = json!({ "kty": "EC", "crv": "P-256", "kid": "one", "x": b64(x), "y": b64(y) });
        fs::write(&self.jwks, json!({ "keys": [key] }).to_string()).unwrap();
    }

    /// A pod's token for Istio's API.
    pub fn istio(&self, namespace: &str, account: &str) -> String {
        self.mint(&claims(namespace, account, "istio-ca"))
    }

    /// A pod's token for our own API.
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
        let header = json!({ "alg": "ES256", "kid": "one", "typ": "JWT" }).to_string();
        let signed = format!(
            "{}.{}",
            b64(header.as_bytes()),
            b64(claims.to_string().as_bytes())
        );
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        let token = format!("{signed}.{}", b64(signature.as_ref()));
        self.minted.lock().unwrap().push(token.clone());
        token
    }
}

/// What a Kubernetes API server says of a pod; good for a year, so that tests may move the clock.
pub fn claims(namespace: &str, account: &str, audience: &str) -> Value {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    json!({
        "iss": "https://kubernetes.default.svc.cluster.local",
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

pub fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
