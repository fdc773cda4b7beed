//! Tokens, and verifiers of them.

pub(crate) mod server;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use rootbridge::authn::{Api, AuthnError, Caller, Config, JwtVerifiers, RawConfig};
use rootbridge::clock::{FixedClock, UnixTime};
pub(crate) use rootbridge_test_support::jwk::{JwtKey, Kind, b64, jwks};
pub(crate) use rootbridge_test_support::jwt::ISSUER;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The time in every test that does not move the clock.
pub(crate) const NOW: i64 = 1_790_000_000;
pub(crate) const SUB: &str = "system:serviceaccount:foo:bar";

/// RSA keys take long to make, so all tests share two.
pub(crate) static RSA: LazyLock<JwtKey> = LazyLock::new(|| JwtKey::rsa("rsa-1"));
pub(crate) static OTHER_RSA: LazyLock<JwtKey> = LazyLock::new(|| JwtKey::rsa("rsa-2"));

/// The claims of a service account token.
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

/// Fixture with key sets in files and a fixed clock.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) verifiers: JwtVerifiers,
    pub(crate) allowed: Vec<String>,
}

impl Fixture {
    /// One verifier, `cluster`, whose file holds `keys`.
    pub(crate) fn new(keys: &[&JwtKey]) -> Self {
        Self::with(keys, "")
    }

    /// The same, with more lines in its table.
    pub(crate) fn with(keys: &[&JwtKey], more: &str) -> Self {
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

    /// Asserts that the token is rejected with a reason that contains nothing of it.
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

/// Asserts that the text contains no part of the token.
pub(crate) fn assert_secretless(text: &str, token: &str) {
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!text.contains(part), "{text} holds a part of the token");
    }
}

pub(crate) fn parse(toml: &str) -> Config {
    Config::try_from(toml::from_str::<RawConfig>(toml).unwrap()).unwrap()
}
