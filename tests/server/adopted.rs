//! A CA moves in with its key: one that is its own root, one that is refused, and one whose records an
//! earlier version wrote.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rootbridge::clock::SystemClock;
use rootbridge::ledger::{Actor, Change, Ledger as _, OpenMode, Sqlite};
use rootbridge::x509::parse_pem_chain;
use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::openssl::{OpensslCa, ca};
use rootbridge_test_support::softhsm;
use rootbridge_test_support::{PATIENCE, TestServer, eventually};

use crate::existing_keys::{DOMAIN, administer, file, generate, import, issuers};

/// What a mesh's own CA has without an enterprise above it: one self-signed certificate.
fn self_signed(key: &Path, out: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-days", "3650", "-subj", "/O=cluster.local"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:TRUE"]);
    openssl.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-key"]);
    run(openssl.arg(key).arg("-out").arg(out));
}

fn adopt<'a>(key: &'a str, chain: &'a str) -> [&'a str; 7] {
    ["ca", "adopt", "--trust-domain", DOMAIN, "--key", key, chain]
}

#[tokio::test]
async fn a_root_that_signs_for_workloads_itself_moves_in() {
    let setup = TestServer::bare();
    import(&setup, "istio-ca", "51");
    setup.edit(
        "[hsm.tokens.main]\n",
        "[hsm.tokens.main]\nallow_unattested_keys = true\n",
    );
    let pem = setup.path("istio-ca.pem");
    self_signed(&setup.path("istio-ca.key"), &pem);
    let pem = pem.to_str().unwrap();
    setup.cli(&adopt("istio-ca", pem));
    assert_eq!(issuers(&setup), [("issuing".into(), "active".into())]);
    setup.cli(&["check"]);

    fs::copy(pem, setup.path("cluster.local.pem")).unwrap();
    let server = setup.serve().await;
    let token = setup.issuer.istio("shop", "cart");
    let csr = KeyAndCsr::workload("shop", "cart");
    let chain = server.client(DOMAIN).await.istio(&token, &csr).await;
    let chain = chain.unwrap();
    let root = parse_pem_chain(&fs::read(pem).unwrap()).unwrap();
    // Under the root itself, and that is all that is published.
    assert_eq!((&chain.above, &chain.roots), (&root, &root));
    assert_eq!(chain.names(), ["spiffe://cluster.local/ns/shop/sa/cart"]);
}

#[test]
fn a_refused_adoption_records_nothing() {
    let setup = TestServer::bare();
    generate(&setup, "mesh", "51", &[]);
    let csr = setup.cli(&[
        "ca",
        "request",
        "--trust-domain",
        DOMAIN,
        "--use-key",
        "mesh",
    ]);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(setup.path(&format!("ledger.db{suffix}")));
    }
    let root = OpensslCa::new(&setup.path(""), "enterprise");
    // Its path verifies, and strict verifiers refuse it.
    let lax = root.sign(
        &csr,
        "basicConstraints=CA:TRUE\nkeyUsage=critical,keyCertSign",
        &[],
    );
    let lax = file(&setup, "lax.pem", &(lax + &root.pem()));
    let error = setup.refused(&adopt("mesh", &lax));
    assert!(
        error.contains("basicConstraints is not critical"),
        "{error}"
    );
    assert!(issuers(&setup).is_empty(), "{error}");

    // In a trust domain that is in use, the root must be published first.
    setup.init(DOMAIN, &[]);
    let before = issuers(&setup);
    let good = root.sign(&csr, &ca(Some(0)), &[]);
    let good = file(&setup, "good.pem", &(good + &root.pem()));
    let error = setup.refused(&adopt("mesh", &good));
    assert!(error.contains("publish it first"), "{error}");
    assert_eq!(issuers(&setup), before);

    let root = root.pem_file().display().to_string();
    let add = ["anchors", "add", "--source", "it", "--trust-domain", DOMAIN];
    setup.cli(&[&add[..], &[root.as_str()]].concat());
    setup.cli(&adopt("mesh", &good));
    assert_eq!(issuers(&setup).len(), before.len() + 1);
}

#[test]
fn a_ceremony_with_an_unusable_key_records_nothing() {
    let setup = TestServer::bare();
    generate(&setup, "root", "01", &[]);
    generate(&setup, "second", "04", &[]);
    import(&setup, "from outside", "02");
    // Of a kind that no CA here has.
    let pin = fs::read_to_string(setup.path("token/pin")).unwrap();
    let mut tool = administer(&setup, "pkcs11-tool");
    tool.arg("--module").arg(softhsm::module());
    tool.args(["--token-label", "rootbridge", "--login", "--pin", &pin]);
    tool.args(["--keypairgen", "--key-type", "rsa:1024", "--sensitive"]);
    run(tool.args(["--label", "short", "--id", "03", "--usage-sign"]));

    let init = |root: &str, issuing: &[&str]| {
        let init = ["ca", "init", "--trust-domain", DOMAIN, "--root-key", root];
        setup.refused(&[&init[..], issuing].concat())
    };
    for (root, issuing, says) in [
        ("root", &["--issuing-key", "short"][..], "1024"),
        (
            "root",
            &["--issuing-key", "from outside"],
            "allow_unattested_keys",
        ),
        ("short", &[], "1024"),
        (
            "from outside",
            &["--issuing-key", "root"],
            "allow_unattested_keys",
        ),
    ] {
        let error = init(root, issuing);
        assert!(error.contains(says), "{root} {issuing:?}: {error}");
        assert!(issuers(&setup).is_empty(), "{root} {issuing:?}");
    }
    // A key of another trust domain.
    let other = ["--trust-domain", "other.example", "--use-key", "root"];
    setup.cli(&[&["ca", "request"][..], &other].concat());
    let error = init("root", &[]);
    assert!(
        error.contains("the issuing key of `other.example` already"),
        "{error}"
    );
    // Also where the root's key alone could be used.
    let error = init("second", &["--issuing-key", "root"]);
    assert!(error.contains("`other.example` already"), "{error}");
    assert_eq!(issuers(&setup), [("issuing".into(), "pending".into())]);
}

/// Before a chain file was taken as a set, a root that stood in it twice was recorded as an intermediate
/// too, and served as one.
#[tokio::test]
async fn a_repeated_import_repairs_a_path_with_the_root_in_it() {
    let setup = TestServer::bare();
    let csr = setup.cli(&["ca", "request", "--trust-domain", DOMAIN]);
    let root = OpensslCa::new(&setup.path(""), "enterprise");
    let chain = file(&setup, "chain.pem", &(root.certify(&csr, 0) + &root.pem()));
    setup.cli(&["ca", "import", &chain]);
    let clock = Arc::new(SystemClock);
    let ledger = Sqlite::open(setup.path("ledger.db"), OpenMode::Shared, clock);
    let ledger = ledger.await.unwrap();
    let records = ledger.snapshot().await.unwrap();
    let certificate = records.authorities[0].issuers[0].certificates[0].id;
    let anchor = parse_pem_chain(root.pem().as_bytes()).unwrap().remove(0);
    let path = vec![anchor.der().to_vec()];
    let by = Actor {
        name: "an earlier version".into(),
        via: "cli".into(),
        lease: None,
    };
    let change = Change::SetPath { certificate, path };
    ledger.apply(change, &by).await.unwrap();
    ledger.close().await;

    fs::write(setup.path("cluster.local.pem"), root.pem()).unwrap();
    setup.lift_limits();
    let server = setup.serve().await;
    let client = server.client(DOMAIN).await;
    let token = setup.issuer.istio("shop", "cart");
    let above = async || {
        let csr = KeyAndCsr::workload("shop", "cart");
        client.istio(&token, &csr).await.unwrap().above
    };
    assert_eq!(above().await.len(), 2, "the issuing CA and the root");
    setup.cli(&["ca", "import", &chain]);
    eventually(PATIENCE, "the path without the root", async || {
        above().await.len() == 1
    })
    .await;
}
