//! An issuer of callers' tokens, as a Kubernetes API server would be one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::run;

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// An RSA key, its JWKS file, and tokens signed with it.
pub(crate) struct Issuer {
    directory: PathBuf,
    key: EncodingKey,
    pub key_id: String,
}

impl Issuer {
    /// Makes the key; the JWKS lies in `directory/jwks.json`.
    pub(crate) fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let pem = directory.join("jwt.pem");
        let der = directory.join("jwt.der");
        run(Command::new("openssl")
            .args([
                "genpkey",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
                "-out",
            ])
            .arg(&pem));
        // The traditional form is PKCS#1, which is what an RSA key by DER means here.
        run(Command::new("openssl")
            .args(["rsa", "-traditional", "-outform", "DER", "-in"])
            .arg(&pem)
            .arg("-out")
            .arg(&der));
        let modulus = run(Command::new("openssl")
            .args(["rsa", "-noout", "-modulus", "-in"])
            .arg(&pem));
        let hex = modulus.trim().strip_prefix("Modulus=").unwrap();
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let key_id = "first".to_owned();
        let jwks = json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": key_id,
            "n": URL_SAFE_NO_PAD.encode(bytes), "e": "AQAB"}]});
        fs::write(directory.join("jwks.json"), jwks.to_string()).unwrap();
        let key = EncodingKey::from_rsa_der(&fs::read(&der).unwrap());
        Self {
            directory: directory.to_owned(),
            key,
            key_id,
        }
    }

    pub(crate) fn jwks(&self) -> PathBuf {
        self.directory.join("jwks.json")
    }

    /// The claims of a projected service-account token that is good for an hour.
    pub(crate) fn claims(namespace: &str, account: &str, audience: &str) -> Value {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        json!({
            "iss": ISSUER, "aud": [audience], "iat": now, "nbf": now, "exp": now + 3600,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "kubernetes.io": {
                "namespace": namespace,
                "node": {"name": "node-1", "uid": "3fbf9d5c-8f1e-4e0e-9d6f-000000000001"},
                "pod": {"name": format!("{account}-0"), "uid": "3fbf9d5c-8f1e-4e0e-9d6f-000000000002"},
                "serviceaccount": {"name": account, "uid": "3fbf9d5c-8f1e-4e0e-9d6f-000000000003"},
            },
        })
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some(self.key_id.clone()),
            ..Header::new(Algorithm::RS256)
        };
        encode(&header, claims, &self.key).unwrap()
    }

    /// A good token in a file of its own, as a pod finds it.
    pub(crate) fn token_file(&self, namespace: &str, account: &str, audience: &str) -> PathBuf {
        let token = self.sign(&Self::claims(namespace, account, audience));
        self.file(&format!("{namespace}.{account}.{audience}"), &token)
    }

    /// Any text as a token file.
    pub(crate) fn file(&self, name: &str, token: &str) -> PathBuf {
        let path = self.directory.join(format!("{name}.token"));
        fs::write(&path, token).unwrap();
        path
    }
}
