//! Issuers of tokens, their key sets, and the small world that a test authenticates in.

pub(crate) mod server;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rootbridge::authn::{Api, AuthnError, Caller, Config, JwtVerifiers, RawConfig};
use rootbridge::clock::{FixedClock, UnixTime};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The time in every test, unless it moves the clock.
pub(crate) const NOW: i64 = 1_790_000_000;
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
pub(crate) const SUB: &str = "system:serviceaccount:foo:bar";

/// RSA keys are dear to make, so all tests share two.
pub(crate) static RSA: LazyLock<Key> = LazyLock::new(|| Key::rsa("rsa-1"));
pub(crate) static OTHER_RSA: LazyLock<Key> = LazyLock::new(|| Key::rsa("rsa-2"));

/// A key of an issuer.
pub(crate) struct Key {
    pub(crate) kid: String,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    pub(crate) fn rsa(kid: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self {
            kid: kid.to_owned(),
            kind: Kind::Rsa(pair),
        }
    }

    pub(crate) fn p256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self {
            kid: kid.to_owned(),
            kind: Kind::P256(pair),
        }
    }

    pub(crate) fn p384(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self {
            kid: kid.to_owned(),
            kind: Kind::P384(pair),
        }
    }

    pub(crate) fn ed25519(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            kind: Kind::Ed25519(Ed25519KeyPair::generate().unwrap()),
        }
    }

    /// The algorithm that this key signs with unless told.
    pub(crate) fn alg(&self) -> &'static str {
        match self.kind {
            Kind::Rsa(_) => "RS256",
            Kind::P256(_) => "ES256",
            Kind::P384(_) => "ES384",
            Kind::Ed25519(_) => "EdDSA",
        }
    }

    /// The public half as a member of a key set.
    pub(crate) fn jwk(&self) -> Value {
        let kid = &self.kid;
        match &self.kind {
            Kind::Rsa(pair) => {
                let public = pair.public_key();
                let n = b64(public.modulus().big_endian_without_leading_zero());
                let e = b64(public.exponent().big_endian_without_leading_zero());
                json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": n, "e": e })
            }
            Kind::P256(pair) | Kind::P384(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": crv, "kid": kid, "x": b64(x), "y": b64(y) })
            }
            Kind::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(pair.public_key().as_ref()) })
            }
        }
    }

    /// The private half, PKCS#8 DER.
    pub(crate) fn pkcs8(&self) -> Vec<u8> {
        match &self.kind {
            Kind::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair)
                .unwrap()
                .as_ref()
                .to_vec(),
            Kind::P256(pair) | Kind::P384(pair) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
            Kind::Ed25519(pair) => pair.to_pkcs8().unwrap().as_ref().to_vec(),
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.kind {
            Kind::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Kind::P256(pair) | Kind::P384(pair) => {
                pair.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Kind::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    pub(crate) fn sign_pss(&self, message: &[u8]) -> Vec<u8> {
        let Kind::Rsa(pair) = &self.kind else {
            panic!("no RSA key")
        };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(
            &RSA_PSS_SHA256,
            &SystemRandom::new(),
            message,
            &mut signature,
        )
        .unwrap();
        signature
    }

    /// A token with this key's ordinary header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_of(
            &json!({ "alg": self.alg(), "kid": self.kid, "typ": "JWT" }).to_string(),
            &claims.to_string(),
        )
    }

    /// A token of any header and payload, rightly signed.
    pub(crate) fn token_of(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", b64(&signature))
    }
}

pub(crate) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn jwks(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

/// What a Kubernetes API server puts in a service account's token.
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "sub": SUB,
        "aud": ["istio-ca", "other"],
        "exp": NOW + 600,
        "nbf": NOW - 10,
        "iat": NOW - 10,
        "jti": "5f2c7b4e-8a51-4f0b-9d8f-1f3a2b4c5d6e",
        "kubernetes.io": {
            "namespace": "foo",
            "serviceaccount": { "name": "bar", "uid": "0b2c7b4e-8a51-4f0b-9d8f-1f3a2b4c5d6e" },
            "pod": { "name": "bar-6d4cf56db6-x2x4k", "uid": "1b2c7b4e-8a51-4f0b-9d8f-1f3a2b4c5d6e" },
            "node": { "name": "node-1", "uid": "2b2c7b4e-8a51-4f0b-9d8f-1f3a2b4c5d6e" },
        },
    })
}

/// The claims with one of them set.
pub(crate) fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// Verifiers over key sets in files, at a time that stands still.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) verifiers: JwtVerifiers,
    pub(crate) allowed: Vec<String>,
}

impl World {
    /// One verifier, `cluster`, whose file holds `keys`.
    pub(crate) fn new(keys: &[&Key]) -> Self {
        Self::with(keys, "")
    }

    /// The same, with more lines in its table.
    pub(crate) fn with(keys: &[&Key], more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwks.json");
        std::fs::write(&path, jwks(keys)).unwrap();
        let mut table = format!("[jwt.cluster]\njwks_file = {path:?}\n{more}\n");
        for (key, line) in [
            ("issuer", format!("issuer = \"{ISSUER}\"")),
            (
                "trust_domain",
                "trust_domain = \"cluster.local\"".to_owned(),
            ),
            ("subject", "subject = \"kubernetes\"".to_owned()),
            (
                "audiences",
                "audiences = { istio = \"istio-ca\", certificates = \"rootbridge\" }".to_owned(),
            ),
        ] {
            if !more.contains(&format!("{key} =")) {
                table.push_str(&line);
                table.push('\n');
            }
        }
        Self::of(dir, &table)
    }

    /// Every verifier of a configuration, all allowed.
    pub(crate) fn of(dir: TempDir, toml: &str) -> Self {
        let clock = Arc::new(FixedClock::new(UnixTime::from_secs(NOW)));
        let config = parse(toml);
        let allowed = config.jwt().keys().cloned().collect();
        let verifiers = JwtVerifiers::new(&config, clock.clone());
        Self {
            dir,
            clock,
            verifiers,
            allowed,
        }
    }

    pub(crate) async fn authenticate(&self, token: &str) -> Result<Caller, AuthnError> {
        self.verifiers
            .authenticate(token, Api::Istio, &self.allowed)
            .await
    }

    /// Asserts that the token is rejected, and that the log will hold nothing of it.
    pub(crate) async fn rejects(&self, token: &str) -> String {
        match self.authenticate(token).await {
            Err(AuthnError::Rejected { reason }) => {
                assert_secretless(&reason, token);
                reason
            }
            other => panic!("not rejected: {other:?}"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// No part of the token that is long enough to mean anything is in the text.
pub(crate) fn assert_secretless(text: &str, token: &str) {
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!text.contains(part), "{text} holds a part of the token");
    }
}

pub(crate) fn parse(toml: &str) -> Config {
    Config::try_from(toml::from_str::<RawConfig>(toml).unwrap()).unwrap()
}

/// Waits until `done` says so, for at most `limit`.
pub(crate) async fn eventually<F: AsyncFnMut() -> bool>(limit: Duration, mut done: F) {
    let start = std::time::Instant::now();
    while !done().await {
        assert!(start.elapsed() < limit, "not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
