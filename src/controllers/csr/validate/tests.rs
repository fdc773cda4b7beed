#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::json;

use super::*;
use crate::controllers::config::{Config, RawConfig, RawCsrSigner};
use crate::policy;

fn config() -> CsrSigner {
    let raw = RawCsrSigner {
        signer_name: "d.example/mesh".to_owned(),
        clusters: vec!["east".to_owned()],
        profile: "workload".to_owned(),
        requesters: vec!["istio-system/istiod".to_owned()],
    };
    let raw = RawConfig {
        csr_signers: BTreeMap::from([("a".to_owned(), raw)]),
        ..RawConfig::default()
    };
    Config::try_from(raw).unwrap().csr_signers()[0].clone()
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

fn pem(names: &[&str]) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let uri = |name: &&str| SanType::URI((*name).try_into().unwrap());
    params.subject_alt_names = names.iter().map(uri).collect();
    let csr = params.serialize_request(&key).unwrap();
    csr.pem().unwrap().into_bytes()
}

fn object(names: &[&str]) -> CertificateSigningRequest {
    let object = json!({
        "metadata": { "name": "csr-1", "uid": "u-1" },
        "spec": {
            "signerName": "d.example/mesh",
            "request": "",
            "username": "system:serviceaccount:istio-system:istiod",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "usages": ["digital signature", "key encipherment", "server auth", "client auth"],
        },
        "status": { "conditions": [{ "type": "Approved", "status": "True" }] },
    });
    let mut object: CertificateSigningRequest = serde_json::from_value(object).unwrap();
    object.spec.request = ByteString(pem(names));
    object
}

const NAME: &str = "spiffe://td/ns/shop/sa/web";

fn reason(object: &CertificateSigningRequest, namespaces: &str, text: &str) -> &'static str {
    match validate(object, &config(), &cluster(namespaces), &profile(text)) {
        Err(SigningError::Refused(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_istiod_asks_for() {
    let mut object = object(&[NAME]);
    object.spec.expiration_seconds = Some(3600);
    let request = validate(&object, &config(), &cluster("[]"), &profile("")).unwrap();
    assert_eq!(
        request.idempotency_key.unwrap(),
        "east|CertificateSigningRequest|u-1"
    );
    assert_eq!(
        request.caller.identity.to_string(),
        "spiffe://td/ns/istio-system/sa/istiod"
    );
    assert_eq!(request.names, [NAME.parse::<San>().unwrap()]);
    assert_eq!(request.scope, Scope::Requested, "rules decide");
    assert_eq!(request.ttl, Some(Duration::from_secs(3600)));
    object.spec.expiration_seconds = Some(i32::MAX);
    let request = validate(&object, &config(), &cluster("[]"), &profile("")).unwrap();
    assert_eq!(
        request.ttl,
        Some(profile("").max_ttl()),
        "the requested lifetime, shortened"
    );
}

#[test]
fn the_requester_must_be_trusted() {
    for user in [
        "system:serviceaccount:istio-system:other",
        "admin",
        "system:node:a",
    ] {
        let mut object = object(&[NAME]);
        object.spec.username = Some(user.to_owned());
        assert_eq!(reason(&object, "[]", ""), "RequesterNotTrusted", "{user}");
    }
    let mut object = object(&[NAME]);
    object.spec.groups = Some(vec!["system:authenticated".to_owned()]);
    assert_eq!(reason(&object, "[]", ""), "RequesterNotTrusted");
}

#[test]
fn a_cluster_speaks_for_its_namespaces_only() {
    assert_eq!(
        reason(&object(&[NAME]), "['shop']", ""),
        "RequesterNotTrusted"
    );
    let namespaces = "['istio-system']";
    assert_eq!(reason(&object(&[NAME]), namespaces, ""), "NamesNotAllowed");
    let other = object(&["spiffe://td/anything"]);
    assert_eq!(
        reason(&other, "['istio-system', 'shop']", ""),
        "NamesNotAllowed"
    );
    let both = cluster("['istio-system', 'shop']");
    assert!(validate(&object(&[NAME]), &config(), &both, &profile("")).is_ok());
}

/// A workload's CSR without names, forwarded by istiod, must not become istiod's certificate.
#[test]
fn a_csr_without_names_is_nobodys() {
    for text in ["", "[workload]\ncsr_names = 'ignore'"] {
        assert_eq!(reason(&object(&[]), "[]", text), "NamesNotAllowed");
    }
}

#[test]
fn usages_are_those_of_the_profile() {
    let server_only = "[workload]\nusages = ['server']";
    assert_eq!(
        reason(&object(&[NAME]), "[]", server_only),
        "UsageNotAllowed"
    );
    for usage in ["cert sign", "any", "code signing", "", "Server Auth"] {
        let mut object = object(&[NAME]);
        object.spec.usages = Some(vec![usage.to_owned()]);
        assert_eq!(reason(&object, "[]", ""), "UsageNotAllowed", "{usage}");
    }
}

#[test]
fn what_is_no_csr_is_refused() {
    for bytes in [&b""[..], b"x", b"-----BEGIN CERTIFICATE REQUEST-----\n"] {
        let mut object = object(&[NAME]);
        object.spec.request = ByteString(bytes.to_vec());
        assert_eq!(reason(&object, "[]", ""), "MalformedRequest");
    }
}

#[test]
fn only_approved_objects_without_an_answer_are_open() {
    let with = |kinds: &[(&str, &str)]| {
        let conditions: Vec<_> = kinds
            .iter()
            .map(|(kind, status)| json!({ "type": kind, "status": status }))
            .collect();
        let mut object = object(&[NAME]);
        object.status = serde_json::from_value(json!({ "conditions": conditions })).unwrap();
        object
    };
    assert!(is_open(&with(&[("Approved", "True")])));
    for kinds in [
        &[][..],
        &[("Approved", "False")],
        &[("Approved", "True"), ("Denied", "True")],
        &[("Approved", "True"), ("Failed", "True")],
    ] {
        assert!(!is_open(&with(kinds)), "{kinds:?}");
    }
    let mut answered = with(&[("Approved", "True")]);
    answered.status.as_mut().unwrap().certificate = Some(ByteString(b"x".to_vec()));
    assert!(!is_open(&answered));
}

/// What a refusal and the log quote is harmless.
fn assert_sayable(text: &str) {
    assert!((1..=1000).contains(&text.chars().count()), "{}", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// Requesters that differ from the trusted one by a little, or that could be taken for two.
#[test]
fn requesters_with_odd_names_are_nobody() {
    let long = format!("system:serviceaccount:istio-system:{}", "a".repeat(1 << 20));
    for user in [
        "",
        "system:serviceaccount:",
        "system:serviceaccount:istio-system:",
        "system:serviceaccount::istiod",
        "system:serviceaccount:istio-system:istiod:",
        "system:serviceaccount:istio-system:istiod:x",
        "system:serviceaccount:istio-system:istiod ",
        "system:serviceaccount:istio-system:istiod\n",
        "system:serviceaccount:istio-system:istiod\0",
        "system:serviceaccount:istio-system:istiod,x",
        "system:serviceaccount:istio-system:*",
        "system:serviceaccount:*:istiod",
        "system:serviceaccount:istio-system:Istiod",
        "system:serviceaccount:istio-system:ist\u{131}od",
        "system:serviceaccount:istio-system/istiod",
        "system:serviceaccount:shop:../istio-system:istiod",
        " system:serviceaccount:istio-system:istiod",
        "System:ServiceAccount:istio-system:istiod",
        "system:serviceaccount:system:serviceaccount:istio-system:istiod",
        "istio-system:istiod",
        "istio-system/istiod",
        &long,
    ] {
        let mut object = object(&[NAME]);
        object.spec.username = Some(user.to_owned());
        assert_eq!(reason(&object, "[]", ""), "RequesterNotTrusted", "{user:?}");
    }
    let mut nobody = object(&[NAME]);
    nobody.spec.username = None;
    assert_eq!(reason(&nobody, "[]", ""), "RequesterNotTrusted");
    for groups in [
        &[][..],
        &["system:serviceaccounts:istio-system"],
        &["system:serviceaccounts "],
        &["System:serviceaccounts"],
        &["system:serviceaccounts,system:masters"],
        &["system:masters"],
    ] {
        let mut object = object(&[NAME]);
        object.spec.groups = Some(groups.iter().map(ToString::to_string).collect());
        assert_eq!(
            reason(&object, "[]", ""),
            "RequesterNotTrusted",
            "{groups:?}"
        );
    }
}

/// Who made the object is its user and group; whatever else the API server wrote there, annotations
/// and labels say nothing.
#[test]
fn what_else_stands_on_an_object_counts_for_nothing() {
    let bare = validate(&object(&[NAME]), &config(), &cluster("[]"), &profile("")).unwrap();
    let other = "spiffe://td/ns/bank/sa/till".to_owned();
    let odd = BTreeMap::from([
        (
            "authentication.kubernetes.io/pod-name".to_owned(),
            vec![other.clone()],
        ),
        (
            "scopes.example/\0\n*".to_owned(),
            vec!["x".repeat(100_000), String::new()],
        ),
        (String::new(), Vec::new()),
    ]);
    let mut object = object(&[NAME]);
    object.spec.request = ByteString(pem(&[NAME]));
    object.spec.extra = Some(odd);
    object.spec.uid = Some("another\n".to_owned());
    let notes = BTreeMap::from([
        ("istio.io/identity".to_owned(), other.clone()),
        ("rootbridge/names".to_owned(), format!("{other},*")),
    ]);
    object.metadata.annotations = Some(notes.clone());
    object.metadata.labels = Some(notes);
    let request = validate(&object, &config(), &cluster("[]"), &profile("")).unwrap();
    assert_eq!(request.names, bare.names);
    assert_eq!(request.caller, bare.caller);
    assert_eq!(request.idempotency_key, bare.idempotency_key);
}

/// One name or none: nothing in it separates, widens or moves it.
#[test]
fn names_with_odd_characters_are_refused() {
    for name in [
        "spiffe://a,evil.example,b/ns/x/sa/y",
        "spiffe://td/ns/shop/sa/web,spiffe://td/ns/shop/sa/till",
        "spiffe://td/ns/shop/sa/*",
        "spiffe://*/ns/shop/sa/web",
        "spiffe://td/ns/shop/sa/web\0",
        "spiffe://td/ns/shop/sa/we\nb",
        "spiffe://td/ns/shop/sa/web/",
        "spiffe://td/ns/shop/sa/web/x",
        "spiffe://td//ns/shop/sa/web",
        "spiffe://td/ns/bank/../shop/sa/web",
        "spiffe://td/ns/shop/sa/%77eb",
        "spiffe://td/ns/bank%2f..%2fshop/sa/web",
        "spiffe://td/ns/shop/sa/web?x",
        "spiffe://td/ns/shop/sa/web#x",
        "spiffe://td:443/ns/shop/sa/web",
        "spiffe://u@td/ns/shop/sa/web",
        "spiffe://TD/ns/shop/sa/web",
        "SPIFFE://td/ns/shop/sa/web",
        "spiffe:/td/ns/shop/sa/web",
        "spiffe://td/ns/shop/sa/we+b",
        " spiffe://td/ns/shop/sa/web",
        "https://td/ns/shop/sa/web",
        "",
    ] {
        let object = object(&[name]);
        let both = cluster("['istio-system', 'shop']");
        let Err(SigningError::Refused(refusal)) = validate(&object, &config(), &both, &profile(""))
        else {
            panic!("{name:?} is no name");
        };
        let known = ["MalformedRequest", "NamesNotAllowed"];
        assert!(known.contains(&refusal.reason), "{name:?}: {refusal:?}");
        assert_sayable(&refusal.message);
    }
}
