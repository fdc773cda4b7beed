//! Every kind of certificate that is issued, verified by programs that share no code with Rootbridge:
//! pkilint, `openssl verify -x509_strict`, the SPIFFE library, Go's and cryptography's path builders.

use std::path::Path;

use serde_json::{Value, json};

use rootbridge_test_support::command::run;
use rootbridge_test_support::openssl::{KEYS, OpensslCa, csr, key};
use rootbridge_test_support::verifiers::{go_verify, verify_certificates};
use rootbridge_test_support::{TD, TestServer};

use crate::support::interop::certify;
use crate::support::{NAME, ledger, presented_chain};

const BAR: &str = "spiffe://cluster.local/ns/foo/sa/bar";

/// A workload's certificate with its key.
pub(crate) fn leaf(name: &str, chain: &Path, key: &Path, roots: &Path, id: &str) -> Value {
    json!({"name": name, "shape": "leaf", "chain": chain, "key": key, "roots": roots, "spiffe_id": id})
}

/// Verifies every certificate of a serving CA: leaves for each kind of key, the server's own, the
/// issuing CA's and the root's.
pub(crate) fn verify_all(setup: &TestServer, kinds: &[&str]) {
    let roots = ledger::anchors(setup);
    let mut cases = Vec::new();
    for kind in kinds {
        let made = certify(setup, kind, "foo", "bar", kind);
        cases.push(leaf(
            &format!("leaf {kind}"),
            &made.chain,
            &made.key,
            &made.roots,
            BAR,
        ));
    }
    let shown = presented_chain(setup.port, &setup.path(""));
    go_verify(&shown, &roots, "server", NAME).unwrap();
    go_verify(&shown, &roots, "server", "127.0.0.1").unwrap();
    cases.push(
        json!({"name": "server", "shape": "server", "chain": shown, "roots": roots, "dns": NAME}),
    );
    let chains = ledger::ca_chains(setup);
    assert!(!chains.is_empty());
    for (role, chain) in chains {
        cases.push(json!({"name": role, "shape": role, "chain": chain, "roots": roots}));
        go_verify(&chain, &roots, "any", "").unwrap();
    }
    assert_eq!(verify_certificates(&cases), Vec::<String>::new());
    ledger::verify(setup, &[]);
}

#[tokio::test]
async fn leaves_of_every_kind_of_key() {
    let kinds: Vec<&str> = KEYS.iter().map(|(kind, _)| *kind).collect();
    let setup = TestServer::on_fixed_ports();
    let _server = setup.serve().await;
    verify_all(&setup, &kinds);
    let roles: Vec<String> = ledger::ca_chains(&setup)
        .into_iter()
        .map(|(role, _)| role)
        .collect();
    assert_eq!(roles, ["root", "issuing"]);
}

#[tokio::test]
async fn authorities_of_every_kind_of_key() {
    for kind in ["ecdsa-p384", "rsa-2048", "rsa-4096"] {
        let setup = TestServer::bare_on_fixed_ports();
        setup.init(TD, &["--key", kind]);
        let _server = setup.serve().await;
        verify_all(&setup, &["ecdsa-p256", "rsa-2048"]);
    }
}

/// Over our own API: DNS names and addresses beside the SPIFFE ID.
#[tokio::test]
async fn leaves_with_more_names() {
    let setup = TestServer::on_fixed_ports();
    setup.edit(
        "\"ip:10.0.0.1\"]",
        "\"ip:10.0.0.1\", \"dns:bar.foo.svc\", \"ip:192.0.2.7\"]",
    );
    let _server = setup.serve().await;
    let out = setup.path("signed");
    let names = ["--name", "dns:bar.foo.svc", "--name", "ip:192.0.2.7"];
    let endpoint = format!("https://127.0.0.1:{}", setup.port);
    let mut sign = setup.command(&["sign", BAR, "--endpoint", &endpoint, "--out"]);
    sign.arg(&out).args(names);
    sign.arg("--bundle").arg(ledger::anchors(&setup));
    sign.arg("--credential-file")
        .arg(setup.path("operator.token"));
    run(&mut sign);
    let (chain, roots) = (out.join("cert.pem"), out.join("bundle.pem"));
    let server = json!({"name": "names", "shape": "server", "chain": chain, "roots": roots, "dns": "bar.foo.svc"});
    let svid = leaf("svid", &chain, &out.join("key.pem"), &roots, BAR);
    assert_eq!(verify_certificates(&[server, svid]), Vec::<String>::new());
    go_verify(&chain, &roots, "both", "192.0.2.7").unwrap();
}

/// The verifiers themselves: none objects to what openssl makes correctly, and each finds a mistake.
#[test]
fn the_verifiers_find_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let ca = OpensslCa::new(directory.path(), "ca");
    let other = OpensslCa::new(directory.path(), "other");
    let id = "spiffe://cluster.local/ns/foo/sa/bar";
    let good = ca.workload("good", id);
    let root =
        json!({"name": "root", "shape": "root", "chain": ca.pem_file(), "roots": ca.pem_file()});
    let found = verify_certificates(&[leaf("good", &good.chain, &good.key, &good.roots, id), root]);
    assert_eq!(found, Vec::<String>::new());

    let made = |name: &str, san: &str, usage: &str| {
        let key = key(directory.path(), name, "ecdsa-p256");
        let chain = ca.sign_leaf(&csr(&key, "DNS:localhost"), san, usage);
        (chain, key)
    };
    let plain = made("plain", &format!("URI:{id}"), "critical,digitalSignature");
    let signer = made(
        "signer",
        &format!("critical,URI:{id}"),
        "critical,keyCertSign",
    );
    let two = made(
        "two",
        &format!("critical,URI:{id},URI:{id}/b"),
        "critical,digitalSignature",
    );
    let roots = ca.pem_file();
    let cases = [
        leaf(
            "another root",
            &good.chain,
            &good.key,
            &other.pem_file(),
            id,
        ),
        leaf("another key", &good.chain, &plain.1, &roots, id),
        leaf("a SAN that is not critical", &plain.0, &plain.1, &roots, id),
        leaf("a leaf that may sign", &signer.0, &signer.1, &roots, id),
        leaf("two names", &two.0, &two.1, &roots, id),
        json!({"name": "no name", "shape": "server", "chain": good.chain, "roots": roots, "dns": "localhost"}),
    ];
    let found = verify_certificates(&cases);
    for expected in [
        "another root: openssl:",
        "another key: spiffe: the key is not",
        "a SAN that is not critical: openssl:",
        "a leaf that may sign: openssl:",
        "a leaf that may sign: pkilint:",
        "a leaf that may sign: spiffe:",
        "two names: spiffe:",
        "no name: cryptography:",
    ] {
        assert!(
            found.iter().any(|finding| finding.starts_with(expected)),
            "{expected} in {found:#?}"
        );
    }
}
