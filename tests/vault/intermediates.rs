//! CAs below the issuing CA: what is certified, for whom, and once.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, SanType,
};
use rootbridge::mesh::proto::rootbridge_v1::SignCertificateRequest;
use rootbridge::x509::parse_pem_chain;
use rootbridge_test_support::{TD, TestServer};
use serde_json::{Value, json};

use crate::harness::{Vault, VaultServer, configure, text};
use crate::leaves::verified;

/// A CA's request as SPIRE and Consul make it.
pub fn ca_csr(key: &KeyPair, uri: &str, path_len: Option<u8>) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "SPIFFE");
    params.is_ca = IsCa::Ca(match path_len {
        None => BasicConstraints::Unconstrained,
        Some(length) => BasicConstraints::Constrained(length),
    });
    if !uri.is_empty() {
        let uri = Ia5String::try_from(uri).unwrap();
        params.subject_alt_names = vec![SanType::URI(uri)];
    }
    params.serialize_request(key).unwrap().pem().unwrap()
}

async fn sign(client: &Vault, body: Value) -> Value {
    client.put("pki/root/sign-intermediate", body).await.data()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_is_certified_once_for_its_key() {
    let world = VaultServer::start().await;
    let operator = world.operator();
    let domain = format!("spiffe://{TD}");
    let key = KeyPair::generate().unwrap();
    // As SPIRE asks.
    let body = json!({
        "common_name": "", "organization": "SPIFFE", "country": "US", "uri_sans": domain,
        "csr": ca_csr(&key, &domain, None), "ttl": "86400",
    });
    let data = sign(&operator, body.clone()).await;
    let ca = verified(&data);
    assert!(ca.is_ca());
    assert_eq!(ca.path_len(), Some(0));
    // SPIRE finds its CA by this after a restart.
    let key_id = ca.public_key().sha1_key_id();
    assert_eq!(ca.subject_key_id(), Some(&key_id[..]));
    assert_eq!(ca.names()[0].to_string(), domain);
    assert!(
        ca.subject().contains(&format!("of {TD}")),
        "{}",
        ca.subject()
    );
    // Repeated, for the same key and from several at once: one certificate.
    let again = (0..8).map(|_| sign(&operator, body.clone()));
    for other in futures_util::future::join_all(again).await {
        assert_eq!(other, data);
    }
    // Another key, lifetime or name is another certificate.
    let mut longer = body.clone();
    longer["ttl"] = "48h".into();
    assert_ne!(
        verified(&sign(&operator, longer).await).serial(),
        ca.serial()
    );
    let other = KeyPair::generate().unwrap();
    let mut another = body.clone();
    another["csr"] = ca_csr(&other, &domain, Some(5)).into();
    another["max_path_length"] = "5".into();
    let answer = operator.put("pki/root/sign-intermediate", another).await;
    assert_eq!(verified(&answer.data()).path_len(), Some(0));
    assert!(
        answer.warnings().contains("max_path_length is 0"),
        "{answer:?}"
    );
    // Without a name it is a CA of its trust domain.
    let nameless =
        json!({ "csr": ca_csr(&other, "", None), "ttl": "1000h", "format": "pem_bundle" });
    let answer = operator.put("pki/root/sign-intermediate", nameless).await;
    assert_eq!(verified(&answer.data()).names()[0].to_string(), domain);
    assert!(
        answer
            .warnings()
            .contains("is longer than permitted maxTTL"),
        "{answer:?}"
    );
    let bundle = parse_pem_chain(text(&answer.data(), "certificate").as_bytes()).unwrap();
    assert_eq!(bundle.len(), 3);
    // Those four, beside the root and the issuing CA.
    let rows = world.setup.certificates(&["--kind", "ca"]);
    let callers = rows
        .iter()
        .map(|row| row["caller"]["identity"].as_str().unwrap());
    assert_eq!(
        callers.filter(|caller| *caller == "operator:admin").count(),
        4
    );
    refused(&world).await;
    world.server.stop().await;
}

async fn refused(world: &VaultServer) {
    let key = KeyPair::generate().unwrap();
    let operator = world.operator();
    let workload = world.workload("shop", "cart").await;
    let domain = format!("spiffe://{TD}");
    let ca = || ca_csr(&key, &domain, None);
    let policy = "policy does not let this caller have this name";
    for (client, path, body, says) in [
        // No rule lets it.
        (
            &workload,
            "pki/root/sign-intermediate",
            json!({ "csr": ca() }),
            policy,
        ),
        (
            &operator,
            "pki/root/sign-intermediate",
            json!({ "csr": ca_csr(&key, "spiffe://other.example", None) }),
            policy,
        ),
        (
            &operator,
            "pki/root/sign-intermediate",
            json!({ "csr": ca_csr(&key, &format!("{domain}/ns/shop/sa/cart"), None) }),
            policy,
        ),
        (
            &operator,
            "connect-inter/root/sign-intermediate",
            json!({ "csr": ca() }),
            "ca_profile",
        ),
        // A CA's request is no leaf's, whatever its names.
        (
            &operator,
            "pki/sign/web",
            json!({ "csr": ca() }),
            "names a trust domain, not a workload",
        ),
        (
            &workload,
            "pki/sign/web",
            json!({ "csr": ca_csr(&key, &format!("{domain}/ns/shop/sa/cart"), Some(0)) }),
            "it requests a CA certificate",
        ),
    ] {
        let answer = client.put(path, body).await;
        let error = answer.error(400);
        assert!(error.contains(says), "{path}: {error}");
    }
    // No other API issues under a profile for CAs.
    let csr = rootbridge_test_support::csr::KeyAndCsr::workload("shop", "cart").der;
    let request = SignCertificateRequest {
        csr,
        profile: "below".to_owned(),
        ..SignCertificateRequest::default()
    };
    let status = world
        .server
        .client(TD)
        .await
        .sign(&world.setup.operator, request)
        .await;
    let status = status.unwrap_err();
    assert!(
        status.message().contains("no rule") || status.message().contains("policy"),
        "{status}"
    );
}

/// An issuing CA that may have none below it says what its operator does.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuing_ca_of_path_length_zero_certifies_no_ca() {
    let setup = TestServer::bare();
    configure(&setup);
    setup.init(TD, &[]);
    let world = VaultServer::of(setup).await;
    let key = KeyPair::generate().unwrap();
    let body = json!({ "csr": ca_csr(&key, &format!("spiffe://{TD}"), None) });
    let answer = world
        .operator()
        .put("pki/root/sign-intermediate", body)
        .await;
    let error = answer.error(400);
    assert!(
        error.contains("pathLen 0") && error.contains("ca request"),
        "{error}"
    );
    world.server.stop().await;
}
