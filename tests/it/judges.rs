//! Every shape of certificate that is issued, before judges that share no code with us: pkilint,
//! `openssl verify -x509_strict`, the SPIFFE library, Go's and cryptography's path builders.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::interop::{certify, go_verify};
use crate::support::mesh::Mesh;
use crate::support::openssl::{KEYS, ScratchCa, csr, key, shown_by};
use crate::support::{repository, run};

const BAR: &str = "spiffe://cluster.local/ns/foo/sa/bar";

/// What the judges say of a list of cases; `tests/judges/judge.py` describes both.
pub(crate) fn judge(cases: &[Value]) -> Vec<String> {
    let mut child = Command::new(repository("build/venv/bin/python"))
        .arg(repository("tests/judges/judge.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`make setup` makes build/venv");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(json!(cases).to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["cases"], cases.len());
    let findings = verdict["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|finding| finding.as_str().unwrap().to_owned())
        .collect()
}

/// A workload's certificate with its key.
pub(crate) fn leaf(name: &str, chain: &Path, key: &Path, roots: &Path, id: &str) -> Value {
    json!({"name": name, "shape": "leaf", "chain": chain, "key": key, "roots": roots, "spiffe_id": id})
}

/// Holds every certificate of a serving CA before the judges: leaves for each kind of key, the
/// server's own, the issuing CA's and the root's.
pub(crate) fn every_shape(mesh: &Mesh, kinds: &[&str]) {
    let roots = mesh.roots();
    let mut cases = Vec::new();
    for kind in kinds {
        let made = certify(mesh, kind, "foo", "bar", kind);
        cases.push(leaf(
            &format!("leaf {kind}"),
            &made.chain,
            &made.key,
            &made.roots,
            BAR,
        ));
    }
    let shown = shown_by(mesh.port, &mesh.path(""));
    go_verify(&shown, &roots, "server", "rootbridge.rootbridge.svc").unwrap();
    go_verify(&shown, &roots, "server", "127.0.0.1").unwrap();
    cases.push(json!({"name": "server", "shape": "server", "chain": shown, "roots": roots, "dns": "rootbridge.rootbridge.svc"}));
    let chains = mesh.ca_chains();
    assert!(!chains.is_empty());
    for (role, chain) in chains {
        cases.push(json!({"name": role, "shape": role, "chain": chain, "roots": roots}));
        go_verify(&chain, &roots, "any", "").unwrap();
    }
    assert_eq!(judge(&cases), Vec::<String>::new());
    mesh.judge_ledger(&[]);
}

#[test]
fn leaves_of_every_kind_of_key() {
    let kinds: Vec<&str> = KEYS.iter().map(|(kind, _)| *kind).collect();
    let mesh = Mesh::new();
    let _server = mesh.serve();
    every_shape(&mesh, &kinds);
    let roles: Vec<String> = mesh.ca_chains().into_iter().map(|(role, _)| role).collect();
    assert_eq!(roles, ["root", "issuing"]);
}

#[test]
fn authorities_of_every_kind_of_key() {
    for kind in ["ecdsa-p384", "rsa-2048", "rsa-4096"] {
        let mesh = Mesh::with_keys(&["--key", kind]);
        let _server = mesh.serve();
        every_shape(&mesh, &["ecdsa-p256", "rsa-2048"]);
    }
}

/// Over our own API: DNS names and addresses beside the SPIFFE ID.
#[test]
fn leaves_with_more_names() {
    let mesh = Mesh::new();
    mesh.edit(
        "/ns/*/sa/*\"]",
        "/ns/*/sa/*\", \"dns:bar.foo.svc\", \"ip:192.0.2.7\"]",
    );
    let _server = mesh.serve();
    let out = mesh.path("signed");
    let names = ["--name", "dns:bar.foo.svc", "--name", "ip:192.0.2.7"];
    run(mesh.operator(&["sign", BAR, "--out"], &out).args(names));
    let (chain, roots) = (out.join("cert.pem"), out.join("bundle.pem"));
    let server = json!({"name": "names", "shape": "server", "chain": chain, "roots": roots, "dns": "bar.foo.svc"});
    let svid = leaf("svid", &chain, &out.join("key.pem"), &roots, BAR);
    assert_eq!(judge(&[server, svid]), Vec::<String>::new());
    go_verify(&chain, &roots, "both", "192.0.2.7").unwrap();
}

/// The judges themselves: they pass what openssl makes well, and each of them refuses something.
#[test]
fn the_judges_can_say_no() {
    let directory = tempfile::tempdir().unwrap();
    let ca = ScratchCa::new(&directory.path().join("ca"));
    let other = ScratchCa::new(&directory.path().join("other"));
    let id = "spiffe://cluster.local/ns/foo/sa/bar";
    let good = ca.workload("good", id);
    let root = json!({"name": "root", "shape": "root", "chain": ca.roots(), "roots": ca.roots()});
    let found = judge(&[leaf("good", &good.chain, &good.key, &good.roots, id), root]);
    assert_eq!(found, Vec::<String>::new());

    let made = |name: &str, san: &str, usage: &str| {
        let key = key(directory.path(), name, "ecdsa-p256");
        let chain = ca.sign(&csr(&key, "DNS:localhost"), san, usage);
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
    let roots = ca.roots();
    let cases = [
        leaf("another root", &good.chain, &good.key, &other.roots(), id),
        leaf("another key", &good.chain, &plain.1, &roots, id),
        leaf("a SAN that is not critical", &plain.0, &plain.1, &roots, id),
        leaf("a leaf that may sign", &signer.0, &signer.1, &roots, id),
        leaf("two names", &two.0, &two.1, &roots, id),
        json!({"name": "no name", "shape": "server", "chain": good.chain, "roots": roots, "dns": "localhost"}),
    ];
    let found = judge(&cases);
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
