//! `sign/ROLE`: what is issued, to whom, and how the answer looks.

use rcgen::{DistinguishedName, DnType, KeyPair};
use rootbridge::clock::{Clock as _, SystemClock};
use rootbridge::x509::{Certificate, parse_pem_chain, verify_ca_path};
use rootbridge_test_support::csr::{KeyAndCsr, id};
use rootbridge_test_support::verifiers::verify_ledger;
use rootbridge_test_support::{RunningServer, TD};
use serde_json::{Value, json};

use crate::harness::{VaultServer, text};

/// A certificate of an answer, verified up to the root, which is the last of `ca_chain`.
pub fn verified(data: &Value) -> Certificate {
    let chain: String = data["ca_chain"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pem| format!("{}\n", pem.as_str().unwrap()))
        .collect();
    let mut above = parse_pem_chain(chain.as_bytes()).unwrap();
    let root = above.pop().unwrap();
    let leaf = parse_pem_chain(text(data, "certificate").as_bytes())
        .unwrap()
        .remove(0);
    let issuer = above.first().unwrap_or(&root);
    assert_eq!(text(data, "issuing_ca"), issuer.to_pem().trim_end());
    leaf.verify_signed_by(issuer.public_key()).unwrap();
    assert_eq!(leaf.authority_key_id(), issuer.subject_key_id());
    verify_ca_path(&above, &[root], SystemClock.now()).unwrap();
    let bytes: Vec<String> = leaf
        .serial()
        .as_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(text(data, "serial_number"), bytes.join(":"));
    assert_eq!(data["expiration"], leaf.not_after().secs());
    leaf
}

fn names(certificate: &Certificate) -> Vec<String> {
    certificate
        .names()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_are_issued_by_policy_and_recorded() {
    let world = VaultServer::start().await;
    let workload = world.workload("shop", "cart").await;
    let operator = world.operator();

    // A workload gets its own name, from a CSR alone, as Consul asks; PUT and POST are one.
    let csr = KeyAndCsr::workload("shop", "cart").pem;
    let answer = workload
        .put("pki/sign/any", json!({ "csr": csr, "ttl": "72h0m0s" }))
        .await;
    let leaf = verified(&answer.data());
    assert_eq!(names(&leaf), [id("shop", "cart")]);
    assert!(!leaf.is_ca());
    let life = leaf.not_after().since(leaf.not_before()).as_secs();
    assert_eq!(life, 72 * 3600 + 120);
    assert_eq!(answer.json()["warnings"], Value::Null);
    // The role `short` is a profile; what is longer is cut, with a warning.
    let body = json!({ "csr": csr, "ttl": 86_400 });
    let answer = workload.post("pki/sign/short", body).await;
    let leaf = verified(&answer.data());
    assert_eq!(
        leaf.not_after().since(leaf.not_before()).as_secs(),
        3600 + 1
    );
    assert!(
        answer
            .warnings()
            .contains("is longer than permitted maxTTL"),
        "{answer:?}"
    );

    // As cert-manager asks: texts only, the CSR with a common name and the same names.
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "a.shop.svc");
    let key = || KeyPair::generate().unwrap();
    let named = KeyAndCsr::with(key(), &["a.shop.svc", "b.shop.svc"], subject.clone()).pem;
    let body = json!({
        "common_name": "a.shop.svc", "alt_names": "a.shop.svc,b.shop.svc", "ip_sans": "",
        "uri_sans": "", "ttl": "2160h0m0s", "csr": named, "exclude_cn_from_sans": "true",
    });
    let leaf = verified(&operator.post("pki/sign/web", body).await.data());
    assert_eq!(names(&leaf), ["dns:a.shop.svc", "dns:b.shop.svc"]);

    // As a person asks with Vault's command: the common name alone.
    let plain = KeyAndCsr::with(key(), &[], subject).pem;
    let body = json!({ "csr": plain, "common_name": "a.shop.svc", "ttl": "" });
    let leaf = verified(&operator.put("pki/sign/web", body).await.data());
    assert_eq!(names(&leaf), ["dns:a.shop.svc"]);
    let leaf = verified(
        &operator
            .put("pki/sign/web", json!({ "csr": plain }))
            .await
            .data(),
    );
    assert_eq!(names(&leaf), ["dns:a.shop.svc"]);

    // The forms of an answer.
    let bundle = workload
        .put(
            "pki/sign/any",
            json!({ "csr": csr, "format": "pem_bundle" }),
        )
        .await;
    let bundle = bundle.data();
    assert_eq!(
        parse_pem_chain(text(&bundle, "certificate").as_bytes())
            .unwrap()
            .len(),
        3
    );
    let der = workload
        .put("pki/sign/any", json!({ "csr": csr, "format": "der" }))
        .await
        .data();
    assert!(text(&der, "certificate").starts_with("MII"));
    let wrong = workload
        .put("pki/sign/any", json!({ "csr": csr, "format": "p12" }))
        .await;
    assert!(
        wrong
            .error(400)
            .contains("must be one of pem, der, or pem_bundle")
    );

    refused(&world).await;
    recorded(&world.server, &world).await;
    world.server.stop().await;
}

/// The same answer whether a name comes in a field or in the CSR, and the reason in the log.
async fn refused(world: &VaultServer) {
    let workload = world.workload("shop", "cart").await;
    let operator = world.operator();
    let plain = || KeyAndCsr::new(&[]).pem;
    let policy = "policy does not let this caller have this name";
    for (client, body, says) in [
        (
            &workload,
            json!({ "csr": KeyAndCsr::workload("shop", "other").pem }),
            policy,
        ),
        (
            &workload,
            json!({ "csr": plain(), "uri_sans": id("shop", "other") }),
            policy,
        ),
        (
            &operator,
            json!({ "csr": KeyAndCsr::new(&["a.elsewhere.svc"]).pem }),
            policy,
        ),
        (
            &operator,
            json!({ "csr": plain(), "alt_names": "a.elsewhere.svc" }),
            policy,
        ),
        (
            &operator,
            json!({ "csr": plain(), "common_name": "a.elsewhere.svc" }),
            policy,
        ),
        (
            &operator,
            json!({ "csr": plain(), "uri_sans": "spiffe://other.example/ns/a/sa/b" }),
            policy,
        ),
        (
            &operator,
            json!({ "csr": KeyAndCsr::new(&["a.shop.svc"]).pem, "alt_names": "b.shop.svc" }),
            "the CSR names something else than is certified",
        ),
        (
            &operator,
            json!({ "csr": plain(), "alt_names": "*.shop.svc" }),
            "alt_names: ",
        ),
        (
            &operator,
            json!({ "csr": KeyAndCsr::new(&["*.shop.svc"]).pem }),
            "csr: ",
        ),
        (
            &operator,
            json!({ "csr": plain(), "alt_names": "a@shop.svc" }),
            "alt_names: ",
        ),
        (
            &operator,
            json!({ "csr": plain(), "uri_sans": "spiffe://a,evil/ns/x/sa/y" }),
            "uri_sans: ",
        ),
        (
            &operator,
            json!({ "csr": plain(), "common_name": "A Person" }),
            "common_name: ",
        ),
        (
            &operator,
            json!({ "csr": plain() }),
            "no name was requested",
        ),
        (
            &workload,
            json!({ "csr": KeyAndCsr::workload("shop", "cart").pem, "ttl": "1s" }),
            "a lifetime of 1 second",
        ),
    ] {
        let answer = client.put("pki/sign/web", body.clone()).await;
        let error = answer.error(400);
        assert!(error.contains(says), "{body}: {error}");
        assert!(error.contains("[request "), "{error}");
    }
    world
        .server
        .wait_for_log("no rule lets `operator:admin` have `dns:a.elsewhere.svc`")
        .await;
}

/// Each has its intent and its outcome, with the caller.
async fn recorded(server: &RunningServer, world: &VaultServer) {
    let rows = world.setup.certificates(&[]);
    let of = |caller: &str| {
        let mut found = rows
            .iter()
            .filter(|row| row["caller"]["identity"] == caller);
        found
            .next()
            .cloned()
            .unwrap_or_else(|| panic!("{caller} in {rows:#?}"))
    };
    assert_eq!(of(&id("shop", "cart"))["caller"]["method"], "jwt");
    assert_eq!(of("operator:admin")["caller"]["method"], "operator");
    assert!(rows.iter().all(|row| row["caller"]["trust_domain"] == TD));
    verify_ledger::<&str>(&world.setup.path("ledger.db"), &[]);
    assert!(
        server
            .metric("rootbridge_certificates_issued_total")
            .await
            .is_none_or(|n| n > 0.0)
    );
}
