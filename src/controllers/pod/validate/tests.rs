#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SanType};
use serde_json::{Value, json};

use super::*;
use crate::controllers::config::{Config, RawConfig, RawPodSigner};
use crate::policy;

fn config(dns_names: &[&str]) -> PodSigner {
    let raw = RawPodSigner {
        signer_name: "d.example/pod".to_owned(),
        clusters: vec!["east".to_owned()],
        profile: "workload".to_owned(),
        dns_names: dns_names.iter().map(ToString::to_string).collect(),
    };
    let raw = RawConfig {
        pod_signers: BTreeMap::from([("p".to_owned(), raw)]),
        ..RawConfig::default()
    };
    Config::try_from(raw).unwrap().pod_signers()[0].clone()
}

fn cluster(namespaces: &str) -> ClusterConfig {
    let text = format!("[east]\ntrust_domain = 'td'\nnamespaces = {namespaces}");
    let all = crate::cluster::clusters(toml::from_str(&text).unwrap()).unwrap();
    all["east"].clone()
}

fn profile(text: &str) -> std::sync::Arc<Profile> {
    let raw = policy::RawConfig {
        profiles: toml::from_str(text).unwrap(),
        policy: policy::RawPolicy::default(),
    };
    let policy = policy::Config::try_from(raw).unwrap().into_policy();
    std::sync::Arc::clone(policy.profile("workload").unwrap())
}

/// Go's empty request, as the kubelet makes it.
fn stub(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    params.serialize_request(key).unwrap().der().to_vec()
}

fn object(stub: &[u8], change: impl FnOnce(&mut Value)) -> DynamicObject {
    let mut value = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "PodCertificateRequest",
        "metadata": { "name": "r", "namespace": "shop", "uid": "u-1" },
        "spec": {
            "signerName": "d.example/pod",
            "podName": "web-0", "podUID": "p-1",
            "serviceAccountName": "web", "serviceAccountUID": "s-1",
            "nodeName": "n", "nodeUID": "n-1",
            "maxExpirationSeconds": 86400,
            "stubPKCS10Request": ByteString(stub.to_vec()),
        },
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn plain(change: impl FnOnce(&mut Value)) -> DynamicObject {
    object(&stub(&KeyPair::generate().unwrap(), |_| {}), change)
}

fn refusal(object: &DynamicObject, namespaces: &str, text: &str) -> Refusal {
    match validate(object, &config(&[]), &cluster(namespaces), &profile(text)) {
        Err(SigningError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_subject_is_the_account_of_the_pod() {
    let valid = validate(&plain(|_| {}), &config(&[]), &cluster("[]"), &profile("")).unwrap();
    let identity = valid.caller.identity.to_string();
    assert_eq!(identity, "spiffe://td/ns/shop/sa/web");
    assert!(
        valid.names.is_empty(),
        "its own name, and no rule is needed"
    );
    assert_eq!(valid.caller.pod.unwrap().uid, "p-1");
    assert_eq!(valid.caller.node.unwrap(), "n");
    let dns = config(&["{account}.{namespace}.svc"]);
    let valid = validate(&plain(|_| {}), &dns, &cluster("[]"), &profile("")).unwrap();
    let names: Vec<_> = valid.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["spiffe://td/ns/shop/sa/web", "dns:web.shop.svc"]);
}

#[test]
fn what_is_denied() {
    let annotated = |value: &mut Value| {
        value["spec"]["unverifiedUserAnnotations"] = json!({ "d.example/want": "more" });
    };
    let refused = refusal(&plain(annotated), "[]", "");
    assert!(refused.denied && refused.reason == "InvalidUnverifiedUserAnnotations");
    let refused = refusal(&plain(|_| {}), "['other']", "");
    assert!(refused.denied && refused.reason == "NamespaceNotAllowed");
    let refused = refusal(&plain(|_| {}), "[]", "[workload]\nkeys = ['ed25519']");
    assert!(refused.denied && refused.reason == "UnsupportedKeyType");
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let refused = refusal(&object(&stub(&rsa, |_| {}), |_| {}), "[]", "");
    assert!(refused.denied && refused.reason == "UnsupportedKeyType");
    let key = KeyPair::generate().unwrap();
    let named = stub(&key, |p| p.distinguished_name.push(DnType::CommonName, "x"));
    let other = SanType::URI("spiffe://td/ns/bank/sa/till".try_into().unwrap());
    let asking = stub(&key, |p| p.subject_alt_names = vec![other]);
    for stub in [named, asking] {
        let refused = refusal(&object(&stub, |_| {}), "[]", "");
        assert!(refused.denied && refused.reason == "StubRequestNotEmpty");
    }
}

#[test]
fn what_fails() {
    let refused = refusal(&object(b"x", |_| {}), "[]", "");
    assert!(!refused.denied && refused.reason == "MalformedRequest");
    let account = |value: &mut Value| value["spec"]["serviceAccountName"] = json!("a/../b");
    let refused = refusal(&plain(account), "[]", "");
    assert!(!refused.denied && refused.reason == "MalformedRequest");
    let empty = |value: &mut Value| value["spec"] = json!({});
    let refused = refusal(&plain(empty), "[]", "");
    assert!(!refused.denied && refused.reason == "MalformedRequest");
}

/// Namespace and account are the whole subject: a name that could move or widen it is refused.
#[test]
fn accounts_with_odd_names_are_nobody() {
    let long = "a".repeat(254);
    for odd in [
        "", "*", "a,b", "a b", "a/b", "a/../b", "..", ".", "a\n", "a\0", "A", "\u{e4}", "a:b",
        "a%2fb", "a+b", "-a", "a-", "a/sa/b", &long,
    ] {
        let account = |value: &mut Value| value["spec"]["serviceAccountName"] = json!(odd);
        let namespace = |value: &mut Value| value["metadata"]["namespace"] = json!(odd);
        for object in [plain(account), plain(namespace)] {
            for names in [&[][..], &["{account}.{namespace}.svc"]] {
                let verdict = validate(&object, &config(names), &cluster("[]"), &profile(""));
                let Err(SigningError::Refused(refusal)) = verdict else {
                    panic!("{odd:?}: {verdict:?}");
                };
                assert_eq!(refusal.reason, "MalformedRequest", "{odd:?}");
                assert!(!refusal.denied && !refusal.message.contains(['\n', '\0']));
                assert!(refusal.message.len() < 1000);
            }
        }
    }
}

/// Another signer's request is ignored, however similar the names are.
#[test]
fn signers_with_odd_names_are_others() {
    for odd in [
        "",
        "d.example/pod ",
        "D.example/pod",
        "d.example/pod/x",
        "d.example/pod\0",
        "d.example/*",
        "*/pod",
        "d.example/pod,d.example/pod",
        "x.d.example/pod",
        "d.example",
    ] {
        let object = plain(|value| value["spec"]["signerName"] = json!(odd));
        let verdict = validate(&object, &config(&[]), &cluster("[]"), &profile(""));
        assert!(
            matches!(verdict, Err(SigningError::Retry(_))),
            "{odd:?}: {verdict:?}"
        );
    }
}

/// The pod's author writes them: none is supported, and what the refusal quotes is harmless.
#[test]
fn annotations_with_odd_names_are_denied() {
    let long = "a".repeat(1 << 20);
    for odd in [
        "",
        "d.example/a\nb",
        "\0",
        "\u{202e}x",
        "\u{1b}[31m",
        "d.example/*",
        &long,
    ] {
        let object =
            plain(|value| value["spec"]["unverifiedUserAnnotations"] = json!({ odd: odd }));
        let refused = refusal(&object, "[]", "");
        assert!(refused.denied && refused.reason == "InvalidUnverifiedUserAnnotations");
        let message = refused.message;
        assert!(
            message.len() < 2000 && !message.chars().any(char::is_control),
            "{message:?}"
        );
        assert!(!message.contains('\u{202e}'), "{message:?}");
    }
}

/// v1beta1's older form: a key, and its signature over the pod's UID.
#[test]
fn a_key_with_a_proof() {
    use rcgen::{PublicKeyData as _, SigningKey as _};
    let key = KeyPair::generate().unwrap();
    let older = |uid: &str| {
        let proof = key.sign(uid.as_bytes()).unwrap();
        let spki = key.subject_public_key_info();
        plain(move |value| {
            let spec = value["spec"].as_object_mut().unwrap();
            spec.remove("stubPKCS10Request");
            spec.insert("pkixPublicKey".to_owned(), json!(ByteString(spki)));
            spec.insert("proofOfPossession".to_owned(), json!(ByteString(proof)));
        })
    };
    let valid = validate(&older("p-1"), &config(&[]), &cluster("[]"), &profile("")).unwrap();
    let certified = valid.csr.public_key().spki_der();
    assert_eq!(certified, key.subject_public_key_info());
    // Over another pod's UID.
    let refused = refusal(&older("p-2"), "[]", "");
    assert!(!refused.denied && refused.reason == "MalformedRequest");
    let nothing = plain(|value| value["spec"]["stubPKCS10Request"] = Value::Null);
    assert_eq!(refusal(&nothing, "[]", "").reason, "MalformedRequest");
}

#[test]
fn an_object_with_a_condition_has_its_answer() {
    assert!(is_open(&plain(|_| {})));
    assert!(is_open(&plain(|v| v["status"] = json!({}))));
    let answered = json!({ "conditions": [{ "type": "Denied", "status": "True" }] });
    assert!(!is_open(&plain(|v| v["status"] = answered)));
    let going = |v: &mut Value| v["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert!(!is_open(&plain(going)));
}

#[test]
fn clocks_may_be_apart_either_way() {
    let (a, b) = (UnixTime::from_secs(100), UnixTime::from_secs(130));
    assert_eq!(apart(a, b), Duration::from_secs(30));
    assert_eq!(apart(b, a), Duration::from_secs(30));
}

/// By the server's clock, in seconds.
const NOW: i64 = 1_800_000_000;
const HOUR: i64 = 3600;

/// The lifetime for a request at [`NOW`]: this clock is `ahead` of the server's; by this clock the
/// issuer is valid since `age` seconds and for `left` more.
fn at(text: &str, longest: i64, ahead: i64, left: i64, age: i64) -> Result<i64, SigningError> {
    let now = NOW + ahead;
    let ca = Ca {
        begins: UnixTime::from_secs(now - age),
        ends: UnixTime::from_secs(now + left),
        path: 1000,
    };
    let clocks = Clocks {
        now: UnixTime::from_secs(now),
        server: UnixTime::from_secs(NOW),
    };
    let longest = Duration::from_secs(longest.unsigned_abs());
    let ttl = lifetime(&profile(text), longest, ca, clocks)?;
    Ok(i64::try_from(ttl.as_secs()).unwrap())
}

fn later(verdict: Result<i64, SigningError>) -> String {
    match verdict {
        Err(SigningError::Retry(why)) => why,
        other => panic!("{other:?}"),
    }
}

const TEXT: &str = "[workload]\nmax_ttl = '48h'\nbackdate = '2m'";

#[test]
fn backdating_counts_as_life() {
    assert_eq!(at(TEXT, 24 * HOUR, 0, 99 * HOUR, HOUR), Ok(24 * HOUR - 120));
    assert_eq!(at(TEXT, 72 * HOUR, 0, 99 * HOUR, HOUR), Ok(48 * HOUR));
    assert_eq!(at(TEXT, HOUR, 0, 99 * HOUR, HOUR), Ok(HOUR - 120));
    let brief = "[workload]\nmax_ttl = '57m'\ndefault_ttl = '57m'\nbackdate = '2m'";
    let Err(SigningError::Refused(refusal)) = at(brief, HOUR, 0, 99 * HOUR, HOUR) else {
        panic!("59 minutes are too few");
    };
    assert!(!refusal.denied && refusal.reason == "LifetimeNotAllowed");
}

/// The issuer's notAfter shortens the certificate: an hour and the time for signing must remain.
#[test]
fn an_issuer_near_its_end_waits_for_its_renewal() {
    let least = HOUR - 120 + 30;
    for longest in [HOUR, 24 * HOUR] {
        assert!(at(TEXT, longest, 0, least, HOUR).is_ok());
        for left in [least - 1, 0, -1, -99 * HOUR] {
            let why = later(at(TEXT, longest, 0, left, HOUR));
            assert!(why.contains("must renew it"), "{why}");
        }
    }
    let clocks = Clocks {
        now: UnixTime::from_secs(NOW),
        server: UnixTime::from_secs(NOW),
    };
    let long = Ca {
        begins: UnixTime::from_secs(0),
        ends: UnixTime::from_secs(2 * NOW),
        path: CHAIN,
    };
    let verdict = lifetime(&profile(TEXT), Duration::from_secs(3600), long, clocks);
    assert!(
        matches!(verdict, Err(SigningError::Refused(refusal)) if refusal.reason == "ChainTooLong")
    );
}

/// Backdating ends at the issuer's notBefore. Only a request for the shortest lifetime waits until all
/// of it is available.
#[test]
fn a_ca_that_was_made_a_moment_ago_signs() {
    let young = |longest, age| at(TEXT, longest, 0, 99 * HOUR, age);
    for age in [0, 1, 90, 119] {
        let ttl = young(24 * HOUR, age).unwrap();
        assert_eq!(
            ttl,
            24 * HOUR - age - 30,
            "whatever the way to the HSM takes"
        );
        let why = later(young(HOUR, age));
        assert!(why.contains("younger"), "{why}");
    }
    assert_eq!(young(HOUR, 120), Ok(HOUR - 120));
    assert_eq!(young(72 * HOUR, 0), Ok(48 * HOUR));
    let why = later(young(24 * HOUR, -1));
    assert!(why.contains("not valid yet"), "{why}");
    // Too short, however long the wait.
    assert!(matches!(
        at(TEXT, 0, 0, 99 * HOUR, 0),
        Err(SigningError::Refused(_))
    ));
}

/// notBefore must be within five minutes of the server's clock, and it is two minutes before ours.
#[test]
fn a_clock_that_is_minutes_off_signs_nothing() {
    for ahead in [0, 120, 410, -60, -170] {
        let verdict = at(TEXT, HOUR, ahead, 99 * HOUR, HOUR);
        assert!(verdict.is_ok(), "{ahead}: {verdict:?}");
    }
    for ahead in [411, 3600, 99 * 365 * 86_400, -171, -3600, -NOW] {
        // Even where the wrong clock makes the issuer seem not yet or no longer valid.
        for (left, age) in [(99 * HOUR, HOUR), (-1, HOUR), (99 * HOUR, -HOUR)] {
            let why = later(at(TEXT, HOUR, ahead, left, age));
            assert!(why.contains("clock"), "{ahead}: {why}");
        }
    }
}
