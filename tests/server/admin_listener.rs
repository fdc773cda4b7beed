//! The operators' API over TLS: by token, by certificate, and for whom the listener names.

use std::fs;
use std::path::Path;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::jwt::claims;
use rootbridge_test_support::{RunningServer, TD, TestServer};
use serde_json::Value;

const OPS: &str = r#"
[listeners.ops]
address = "127.0.0.1:0"
apis = ["admin"]
jwt = ["people", "cluster"]
operators = ["admin"]
client_certificates = { trust_domains = ["cluster.local"] }
admins = ["subject:people:alice", "spiffe://cluster.local/ns/ops/sa/admin"]
tls = { trust_domain = "cluster.local", dns = ["localhost"] }

[jwt.cluster]
"#;

const AUDIENCE: &str = "rootbridge-admin";

fn person(setup: &TestServer, sub: &str) -> std::path::PathBuf {
    let mut claims = claims("x", "y", AUDIENCE);
    claims["iss"] = "https://people.example".into();
    claims["sub"] = sub.into();
    setup.issuer.file(sub, &setup.issuer.mint(&claims))
}

/// A certificate over Istio's API and its key, in files.
async fn certificate(
    setup: &TestServer,
    server: &RunningServer,
    ns: &str,
    account: &str,
) -> [String; 2] {
    let csr = KeyAndCsr::workload(ns, account);
    let token = setup.issuer.istio(ns, account);
    let chain = server.client(TD).await.istio(&token, &csr).await.unwrap();
    [("pem", chain.pem()), ("key", csr.key.serialize_pem())].map(|(end, text)| {
        let path = setup.path(&format!("{ns}.{account}.{end}"));
        fs::write(&path, text).unwrap();
        path.display().to_string()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_call_it_from_other_hosts() {
    let setup = TestServer::with(&[
        ("[jwt.cluster]\n", OPS),
        (
            "audiences = { certificates = \"rootbridge\" }",
            "audiences = { certificates = \"rootbridge\", admin = \"rootbridge-admin\" }",
        ),
        (
            "audiences = { istio = \"istio-ca\", certificates",
            "audiences = { admin = \"rootbridge-admin\", istio = \"istio-ca\", certificates",
        ),
    ]);
    let server = setup.serve().await;
    let url = format!("https://localhost:{}", server.port_of("ops"));
    let roots = setup.path(&format!("{TD}.pem")).display().to_string();
    let ask = |command: &[&str], credential: &[&str]| {
        let reached = ["--admin", &url, "--bundle", &roots, "-o", "json"];
        let output = setup.try_cli(&[command, &reached, credential].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = error.split_whitespace().collect::<Vec<_>>().join(" ");
        (output.status.code().unwrap(), output.stdout, said)
    };
    let shown = |path: &Path| path.display().to_string();
    let operator = shown(&setup.path("operator.token"));
    let alice = shown(&person(&setup, "alice"));
    let pod = shown(&setup.issuer.token_file("ops", "admin", AUDIENCE));
    let [pem, key] = certificate(&setup, &server, "ops", "admin").await;
    for credential in [
        vec!["--credential-file", &operator],
        vec!["--token-file", &alice],
        vec!["--token-file", &pod],
        vec!["--certificate", &pem, "--key", &key],
    ] {
        for command in [["bundle", "status"], ["rotate", "status"]] {
            let (code, stdout, said) = ask(&command, &credential);
            assert_eq!(code, 0, "{command:?} {credential:?}: {said}");
            let answer: Value = serde_json::from_slice(&stdout).unwrap();
            assert_eq!(answer, Value::Array(Vec::new()), "{command:?}");
        }
    }

    // Known, and none of the admins; and unknown.
    let status = ["bundle", "status"];
    let bob = shown(&person(&setup, "bob"));
    let other = shown(&setup.issuer.token_file("ops", "other", AUDIENCE));
    let istio = shown(&setup.issuer.token_file("ops", "admin", "istio-ca"));
    let [other_pem, other_key] = certificate(&setup, &server, "ops", "other").await;
    for (credential, says) in [
        (
            vec!["--token-file", &bob],
            "not one of the listener's admins",
        ),
        (
            vec!["--token-file", &other],
            "not one of the listener's admins",
        ),
        (
            vec!["--certificate", &other_pem, "--key", &other_key],
            "not one of the listener's admins",
        ),
        (
            vec!["--token-file", &istio],
            "the credential was not accepted",
        ),
    ] {
        let (code, _, said) = ask(&status, &credential);
        assert_eq!(code, 6, "{credential:?}: {said}");
        assert!(said.contains(says), "{credential:?}: {said}");
    }
    let refused = "subject:people:bob may not use the API admin";
    server.wait_for_log(refused).await;

    // Somebody else's server does not see the credential, nor does the network.
    let stranger = setup.path("stranger.pem");
    let pem = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&stranger, pem.cert.pem()).unwrap();
    let stranger = shown(&stranger);
    let wrong = [
        "--admin",
        &url,
        "--bundle",
        &stranger,
        "--credential-file",
        &operator,
    ];
    let said = setup.refused(&[&status[..], &wrong].concat());
    assert!(said.contains("certificate"), "{said}");
    let plain = [
        "--admin",
        "http://192.0.2.1:9901",
        "--credential-file",
        &operator,
    ];
    let said = setup.refused(&[&status[..], &plain].concat());
    assert!(
        said.contains("in the clear") && said.contains("apis = [\"admin\"]"),
        "{said}"
    );
    server.stop().await;
}
