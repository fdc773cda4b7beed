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
    match judge(object, &config(&[]), &cluster(namespaces), &profile(text)) {
        Err(Stop::Refuse(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_subject_is_the_account_of_the_pod() {
    let judged = judge(&plain(|_| {}), &config(&[]), &cluster("[]"), &profile("")).unwrap();
    let identity = judged.caller.identity.to_string();
    assert_eq!(identity, "spiffe://td/ns/shop/sa/web");
    assert!(
        judged.names.is_empty(),
        "its own name, and no rule is needed"
    );
    assert_eq!(judged.caller.pod.unwrap().uid, "p-1");
    assert_eq!(judged.caller.node.unwrap(), "n");
    let dns = config(&["{account}.{namespace}.svc"]);
    let judged = judge(&plain(|_| {}), &dns, &cluster("[]"), &profile("")).unwrap();
    let names: Vec<_> = judged.names.iter().map(ToString::to_string).collect();
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
    let beta = |value: &mut Value| {
        value["spec"]["stubPKCS10Request"] = Value::Null;
        value["spec"]["pkixPublicKey"] = json!("AAAA");
        value["spec"]["proofOfPossession"] = json!("AAAA");
    };
    let refused = refusal(&plain(beta), "[]", "");
    assert!(!refused.denied && refused.reason == "UnsupportedProofOfPossession");
    let refused = refusal(&object(b"x", |_| {}), "[]", "");
    assert!(!refused.denied && refused.reason == "MalformedRequest");
    let account = |value: &mut Value| value["spec"]["serviceAccountName"] = json!("a/../b");
    let refused = refusal(&plain(account), "[]", "");
    assert!(!refused.denied && refused.reason == "MalformedRequest");
    let empty = |value: &mut Value| value["spec"] = json!({});
    let refused = refusal(&plain(empty), "[]", "");
    assert!(!refused.denied && refused.reason == "MalformedRequest");
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
