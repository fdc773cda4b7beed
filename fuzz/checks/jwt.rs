//! A token: no text of an attacker ever yields a caller; a token that its issuer signed yields exactly
//! the caller that it names.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rootbridge::authn::{
    Api, Caller, Config, Identity, JwtVerifiers, Method, RawAudiences, RawConfig, RawJwtConfig,
    SubjectForm, bearer,
};
use rootbridge::clock::{FixedClock, UnixTime};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::der::KEY;
use super::scratch::Scratch;
use super::{Outcome, assert_printable};

/// Public keys whose private halves were never stored.
const UNKNOWN_KEYS: &[u8] = include_bytes!("nobody.jwks.json");

/// The time at which every token is verified.
const NOW: i64 = 1_790_000_000;
const LEEWAY: i64 = 30;

/// Verifiers by name: the issuer, the trust domain and the form of `sub`.
const VERIFIERS: [(&str, &str, &str, SubjectForm); 3] = [
    (
        "cluster",
        "https://kubernetes.default.svc.cluster.local",
        "cluster.local",
        SubjectForm::Kubernetes,
    ),
    (
        "vm",
        "https://vm.example",
        "vm.example",
        SubjectForm::Spiffe,
    ),
    (
        "ci",
        "https://ci.example",
        "ci.example",
        SubjectForm::Opaque,
    ),
];

struct Setup {
    runtime: Runtime,
    allowed: Vec<String>,
    /// Under [`UNKNOWN_KEYS`].
    sealed: JwtVerifiers,
    /// Under [`KEY`].
    open: JwtVerifiers,
    _files: [Scratch; 2],
}

static SETUP: LazyLock<Setup> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let ours = json!({ "keys": [{
        "kty": "OKP", "crv": "Ed25519", "kid": "fuzz",
        "x": URL_SAFE_NO_PAD.encode(KEY.public_key().as_ref()),
    }] });
    let files = [
        Scratch::new(UNKNOWN_KEYS),
        Scratch::new(ours.to_string().as_bytes()),
    ];
    let inside = runtime.enter();
    let [sealed, open] = files.each_ref().map(verifiers);
    drop(inside);
    for (verifiers, count) in [(&sealed, 4), (&open, 1)] {
        runtime.block_on(async {
            while !verifiers.reports().all(|(_, report)| report.keys == count) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    Setup {
        runtime,
        allowed: VERIFIERS.map(|(name, ..)| name.to_owned()).to_vec(),
        sealed,
        open,
        _files: files,
    }
});

fn verifiers(keys: &Scratch) -> JwtVerifiers {
    let jwt = VERIFIERS.map(|(name, issuer, trust_domain, subject)| {
        let raw = RawJwtConfig {
            issuer: issuer.to_owned(),
            trust_domain: trust_domain.to_owned(),
            subject,
            audiences: RawAudiences {
                istio: Some("istio-ca".to_owned()),
                certificates: Some("rootbridge".to_owned()),
                linkerd: None,
                vault: None,
                sds: None,
                admin: None,
            },
            cluster: None,
            jwks_file: Some(keys.path()),
            jwks_url: None,
            jwks_ca_file: None,
            jwks_token_file: None,
            refresh: None,
            keep: None,
            leeway: Some(Duration::from_secs(LEEWAY as u64)),
        };
        (name.to_owned(), raw)
    });
    let raw = RawConfig {
        jwt: jwt.into(),
        ..RawConfig::default()
    };
    let config = Config::try_from(raw).expect("a configuration");
    let clock = Arc::new(FixedClock::new(UnixTime::from_secs(NOW)));
    JwtVerifiers::new(&config, clock)
}

/// A compact token, or a header and claims in JSON with a line break between them, which are encoded
/// as one. `Accepted` refers to the token signed by its issuer.
pub fn check(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else {
        return Outcome::Refused;
    };
    if let Ok(token) = bearer(text) {
        assert!(
            text.contains(token) && !token.contains(|c: char| c.is_ascii_whitespace() || c == ',')
        );
    }
    let signed = match text.split_once('\n') {
        Some((header, claims)) => {
            let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
            format!("{header}.{claims}")
        }
        None => {
            assert_rejected(text);
            let Some((signed, _)) = text.rsplit_once('.') else {
                return Outcome::Refused;
            };
            signed.to_owned()
        }
    };
    let signature = URL_SAFE_NO_PAD.encode(KEY.sign(signed.as_bytes()));
    let token = format!("{signed}.{signature}");
    // A valid signature by a key that is not the issuer's, and no signature.
    assert_rejected(&token);
    assert_rejected(&format!("{signed}."));
    let setup = &*SETUP;
    let mut accepted = false;
    for (api, audience) in [
        (Api::Istio, Some("istio-ca")),
        (Api::Certificates, Some("rootbridge")),
        (Api::Admin, None),
    ] {
        let answer = setup.open.authenticate(&token, api, &setup.allowed);
        match setup.runtime.block_on(answer) {
            Ok(caller) => {
                let audience = audience.expect("an API that accepts tokens");
                assert_named_by_token(&caller, &signed, audience);
                accepted = true;
            }
            Err(error) => assert_printable(error),
        }
    }
    Outcome::of(accepted)
}

fn assert_rejected(token: &str) {
    let setup = &*SETUP;
    for api in [Api::Istio, Api::Certificates, Api::Admin] {
        let answer = setup.sealed.authenticate(token, api, &setup.allowed);
        match setup.runtime.block_on(answer) {
            Ok(caller) => panic!("{caller:?} resulted from {token:?}"),
            Err(error) => assert_printable(error),
        }
    }
}

fn assert_named_by_token(caller: &Caller, signed: &str, audience: &str) {
    let Method::Jwt {
        verifier,
        issuer,
        key_id,
    } = &caller.method
    else {
        panic!("{caller:?} was not authenticated by a token");
    };
    assert_eq!(key_id.as_deref(), Some("fuzz"));
    let (_, wanted, trust_domain, form) = VERIFIERS
        .into_iter()
        .find(|(name, ..)| name == verifier)
        .expect("a verifier of ours");
    assert_eq!(issuer, wanted);
    // From the verifier, never from the token.
    assert_eq!(caller.trust_domain.as_str(), trust_domain);
    assert_eq!(caller.cluster, None);
    assert_eq!(
        caller.token_authenticated_at,
        Some(UnixTime::from_secs(NOW))
    );
    assert_printable(&caller.identity);

    let (header, claims) = signed.split_once('.').expect("two parts");
    let read = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).ok()
    };
    // An irrelevant claim may hold what this parser refuses, such as 1e999.
    let (Some(header), Some(claims)) = (read(header), read(claims)) else {
        return;
    };
    assert_eq!(header["alg"], "EdDSA");
    assert!(header.get("crit").is_none());
    assert!(header.get("kid").is_none_or(|kid| kid == "fuzz"));
    assert_eq!(claims["iss"], *issuer);
    assert!(match &claims["aud"] {
        Value::Array(all) => all.iter().any(|one| one == audience),
        one => one == audience,
    });
    assert!(claims["exp"].as_f64().expect("exp") > (NOW - LEEWAY) as f64);
    for name in ["nbf", "iat"] {
        let at = claims.get(name).map(|at| at.as_f64().expect("seconds"));
        assert!(at.is_none_or(|at| at <= (NOW + LEEWAY) as f64));
    }
    let sub = claims["sub"].as_str().expect("sub");
    match (&caller.identity, form) {
        (Identity::Workload(id), SubjectForm::Kubernetes) => {
            let parts: Vec<&str> = sub.split(':').collect();
            let ["system", "serviceaccount", namespace, account] = parts.as_slice() else {
                panic!("{sub:?} is no service account");
            };
            let named = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}");
            assert_eq!(id.as_str(), named);
            assert_eq!(id.path().split('/').count(), 5);
            bound(caller, &claims["kubernetes.io"], namespace);
        }
        (Identity::Workload(id), SubjectForm::Spiffe) => {
            assert_eq!(id.as_str(), sub);
            assert_eq!(id.trust_domain().as_str(), trust_domain);
            assert!(!id.path().is_empty());
            assert_eq!((&caller.pod, &caller.node), (&None, &None));
        }
        (Identity::Subject(subject), SubjectForm::Opaque) => {
            assert_eq!(subject.strip_prefix("ci:"), Some(sub));
            assert_eq!((&caller.pod, &caller.node), (&None, &None));
        }
        (identity, form) => panic!("{identity} resulted from {form:?}"),
    }
}

/// Pod and node are those that the token is bound to.
fn bound(caller: &Caller, bindings: &Value, namespace: &str) {
    let pod = bindings.get("pod");
    assert_eq!(caller.pod.is_some(), pod.is_some());
    if let (Some(ours), Some(theirs)) = (&caller.pod, pod) {
        assert_eq!(ours.namespace, namespace);
        assert_eq!(
            (&theirs["name"], &theirs["uid"]),
            (&json!(ours.name), &json!(ours.uid))
        );
    }
    let node = bindings.get("node").and_then(|node| node.get("name"));
    let node = node.filter(|name| *name != "").cloned();
    assert_eq!(caller.node.as_ref().map(|node| json!(node)), node);
}
