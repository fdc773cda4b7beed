//! Keys that the HSM's administrators made: requested for, certified by an own root, moved in with a
//! chain; named by URI, CKA_ID and label.

use std::fs;
use std::process::{Command, Output};

use rootbridge_test_support::TestServer;
use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::openssl::{self, OpensslCa};
use rootbridge_test_support::softhsm;
use serde_json::Value;

pub(crate) const DOMAIN: &str = "cluster.local";

/// Another program of the HSM, with the administrators' means.
pub(crate) fn administer(setup: &TestServer, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("SOFTHSM2_CONF", setup.path("token/softhsm2.conf"));
    command
}

/// A key pair that pkcs11-tool generates.
pub(crate) fn generate(setup: &TestServer, label: &str, id: &str, more: &[&str]) {
    let pin = fs::read_to_string(setup.path("token/pin")).unwrap();
    let mut tool = administer(setup, "pkcs11-tool");
    tool.arg("--module").arg(softhsm::module());
    tool.args(["--token-label", "rootbridge", "--login", "--pin", &pin]);
    tool.args(["--keypairgen", "--key-type", "EC:prime256v1"]);
    tool.args(["--label", label, "--id", id, "--usage-sign", "--sensitive"]);
    run(tool.args(more));
}

/// A key that was made outside the token.
pub(crate) fn import(setup: &TestServer, label: &str, id: &str) {
    let pin = fs::read_to_string(setup.path("token/pin")).unwrap();
    let key = openssl::key(&setup.path(""), label, "ecdsa-p256");
    let mut tool = administer(setup, "softhsm2-util");
    tool.arg("--import").arg(key);
    tool.args(["--token", "rootbridge", "--pin", &pin]);
    run(tool.args(["--label", label, "--id", id]));
}

fn texts(output: Output) -> (String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{out}{err}");
    (out, err)
}

fn json(setup: &TestServer, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["-o", "json"]].concat();
    serde_json::from_str(&setup.cli(&arguments)).unwrap()
}

/// Every issuer's role and state.
pub(crate) fn issuers(setup: &TestServer) -> Vec<(String, String)> {
    let list = json(setup, &["ca", "list"]);
    let text = |issuer: &Value, field: &str| issuer[field].as_str().unwrap().to_owned();
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| (text(row, "role"), text(row, "state")))
        .collect()
}

pub(crate) fn file(setup: &TestServer, name: &str, text: &str) -> String {
    let path = setup.path(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A workload gets a certificate from the active issuer.
pub(crate) async fn a_workload_is_served(setup: &TestServer, root: &str) {
    fs::write(setup.path("cluster.local.pem"), root).unwrap();
    let server = setup.serve().await;
    let token = setup.issuer.istio("shop", "cart");
    let csr = KeyAndCsr::workload("shop", "cart");
    let chain = server.client(DOMAIN).await.istio(&token, &csr).await;
    assert_eq!(
        chain.unwrap().names(),
        ["spiffe://cluster.local/ns/shop/sa/cart"]
    );
}

#[tokio::test]
async fn a_key_of_the_administrators_is_certified_by_the_enterprise() {
    let setup = TestServer::bare();
    generate(&setup, "mesh issuing", "77aa", &[]);
    generate(&setup, "mesh issuing", "78aa", &[]);
    generate(&setup, "other", "79aa", &[]);
    let request = |name: &str| {
        let arguments = ["ca", "request", "--trust-domain", DOMAIN, "--use-key", name];
        setup.command(&arguments).output().unwrap()
    };
    let refused =
        |name: &str| setup.refused(&["ca", "request", "--trust-domain", DOMAIN, "--use-key", name]);

    // A name for several keys lists them; one for none lists what there is.
    let several = refused("mesh issuing");
    assert!(
        several.contains("id=%77%aa;object=mesh%20issuing") && several.contains("id=%78%aa"),
        "{several}"
    );
    assert!(!several.contains("id=%79"), "{several}");
    let none = refused("mesh-issuing");
    assert!(
        none.contains("id=%79%aa;object=other;type=private"),
        "{none}"
    );
    for (name, says) in [
        ("pkcs11:object=other;type=public", "type=private"),
        ("pkcs11:object=other?pin-value=1234", "pin-value"),
        ("pkcs11:object=other;x-vendor=1", "x-vendor"),
        ("pkcs11:object=mesh issuing", "%20"),
        ("pkcs11:token=elsewhere;object=other", "no private key"),
    ] {
        let error = refused(name);
        assert!(error.contains(says), "{name}: {error}");
    }
    assert!(issuers(&setup).is_empty(), "a refusal records no key");

    // By its CKA_ID, its URI, and its label: always the same key, and one issuer.
    let keys = json(&setup, &["key", "list"]);
    let keys = keys.as_array().unwrap();
    let key = keys.iter().find(|key| key["id"] == "78aa").unwrap();
    let uri = key["uri"].as_str().unwrap();
    let mut requests = Vec::new();
    for name in ["78:AA", uri, "pkcs11:token=rootbridge;id=%78%AA"] {
        let (csr, shown) = texts(request(name));
        for attribute in [
            "CKA_SENSITIVE: true",
            "CKA_EXTRACTABLE: false",
            "CKA_ALWAYS_SENSITIVE: true",
            "CKA_NEVER_EXTRACTABLE: true",
            "CKA_LOCAL: true",
        ] {
            assert!(shown.contains(attribute), "{shown}");
        }
        requests.push(openssl::public_key(&setup.path("ca.csr"), &csr));
        fs::write(setup.path("ca.csr"), csr).unwrap();
    }
    requests.dedup();
    assert_eq!(requests.len(), 1);
    assert_eq!(issuers(&setup), [("issuing".into(), "pending".into())]);
    let fingerprint = rootbridge::digest::hex(&rootbridge::digest::sha256(&requests[0]));
    assert_eq!(key["spki_sha256"], fingerprint.as_str());

    let root = OpensslCa::new(&setup.path(""), "enterprise");
    let csr = fs::read_to_string(setup.path("ca.csr")).unwrap();
    let chain = root.certify(&csr, 0) + &root.pem();
    setup.cli(&["ca", "import", &file(&setup, "chain.pem", &chain)]);
    assert_eq!(issuers(&setup), [("issuing".into(), "active".into())]);
    a_workload_is_served(&setup, &root.pem()).await;
    // No key was made beside the administrators' own.
    assert_eq!(json(&setup, &["key", "list"]).as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_root_and_an_issuing_ca_of_existing_keys() {
    let setup = TestServer::bare();
    generate(&setup, "root", "01", &[]);
    generate(&setup, "issuing", "02", &[]);
    let init = |more: &[&str]| {
        let arguments = ["ca", "init", "--trust-domain", DOMAIN, "-o", "json"];
        [&arguments[..], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let arguments = init(&["--root-key", "root", "--issuing-key", "root"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert!(setup.refused(&arguments).contains("the same key"));
    assert!(issuers(&setup).is_empty());

    let root = setup.init(DOMAIN, &["--root-key", "root", "--issuing-key", "02"]);
    let keys = json(&setup, &["key", "list"]);
    let mut used: Vec<_> = keys
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (key["label"].as_str().unwrap(), key["use"].as_str().unwrap()))
        .collect();
    used.sort_unstable();
    assert_eq!(
        used,
        [
            ("issuing", "issuing of cluster.local, active"),
            ("root", "root of cluster.local, active"),
        ]
    );
    a_workload_is_served(&setup, &root.to_pem()).await;
}

#[tokio::test]
async fn a_ca_moves_in_with_its_key_and_chain() {
    let setup = TestServer::bare();
    generate(&setup, "istio ca", "51", &[]);
    generate(&setup, "another", "52", &[]);
    // What another product did before: it had the key certified.
    let csr = setup.cli(&[
        "ca",
        "request",
        "--trust-domain",
        DOMAIN,
        "--use-key",
        "istio ca",
    ]);
    let root = OpensslCa::new(&setup.path(""), "enterprise");
    let certificate = root.certify(&csr, 0);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(setup.path(&format!("ledger.db{suffix}")));
    }
    let chain = file(&setup, "chain.pem", &(certificate.clone() + &root.pem()));
    let adopt = |key: &'static str, chain: &str| {
        ["ca", "adopt", "--trust-domain", DOMAIN, "--key", key, chain].map(str::to_owned)
    };
    let refused = |key, chain: &str| {
        let arguments = adopt(key, chain);
        setup.refused(&arguments.each_ref().map(String::as_str))
    };
    // The wrong key; a chain that leads nowhere, or elsewhere.
    let error = refused("another", &chain);
    assert!(
        error.contains("was issued for the key pkcs11:") && error.contains("id=%52"),
        "{error}"
    );
    let bare = file(&setup, "bare.pem", &certificate);
    assert!(refused("istio ca", &bare).contains("the root is missing"));
    let other = OpensslCa::new(&setup.path("elsewhere"), "other").pem();
    let wrong = file(&setup, "wrong.pem", &(certificate + &other));
    assert!(refused("istio ca", &wrong).contains("the chain does not verify"));
    assert!(issuers(&setup).is_empty(), "a refusal records no key");

    let arguments = adopt("istio ca", &chain);
    let (out, shown) = texts(
        setup
            .command(&arguments.each_ref().map(String::as_str))
            .output()
            .unwrap(),
    );
    assert!(shown.contains("CKA_NEVER_EXTRACTABLE: true"), "{shown}");
    assert!(out.contains("active"), "{out}");
    assert_eq!(issuers(&setup), [("issuing".into(), "active".into())]);
    a_workload_is_served(&setup, &root.pem()).await;
}

#[test]
fn a_key_that_the_token_does_not_attest_needs_the_configuration() {
    let setup = TestServer::bare();
    import(&setup, "imported", "c0ffee");
    let request = [
        "ca",
        "request",
        "--trust-domain",
        DOMAIN,
        "--use-key",
        "imported",
    ];
    let error = setup.refused(&request);
    // What the token attests, and then the refusal.
    assert!(
        error.contains("CKA_LOCAL: false")
            && error
                .contains("NOT ATTESTED: CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE")
            && error.contains("allow_unattested_keys = true"),
        "{error}"
    );
    assert!(issuers(&setup).is_empty());
    setup.edit(
        "[hsm.tokens.main]\n",
        "[hsm.tokens.main]\nallow_unattested_keys = true\n",
    );
    let csr = setup.cli(&request);
    assert!(csr.contains("BEGIN CERTIFICATE REQUEST"), "{csr}");
    assert_eq!(issuers(&setup), [("issuing".into(), "pending".into())]);
}

#[test]
fn tokens_by_uri() {
    let setup = TestServer::bare();
    let pin = setup.path("token/pin").display().to_string();
    let label = format!("label = \"rootbridge\"\npin_file = \"{pin}\"");
    let module = softhsm::module();
    let uri = |uri: &str| format!("uri = \"{uri}\"");
    let good = format!(
        "pkcs11:token=rootbridge;manufacturer=SoftHSM%20project?pin-source=file:{pin}&module-path={}",
        module.display()
    );
    setup.edit(&label, &uri(&good));
    setup.init(DOMAIN, &["--token", "pkcs11:model=SoftHSM%20v2"]);
    assert_eq!(issuers(&setup).len(), 2);
    let listed = json(
        &setup,
        &["key", "list", "--token", "pkcs11:token=rootbridge"],
    );
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let error = setup.refused(&["key", "list", "--token", "pkcs11:token=other"]);
    assert!(
        error.contains("does not name exactly one configured token"),
        "{error}"
    );

    let mut before = uri(&good);
    for (text, says) in [
        ("pkcs11:token=rootbridge?pin-value=s3cret", "pin-value"),
        (
            "pkcs11:token=rootbridge;x-vendor=1?pin-source=/p",
            "x-vendor",
        ),
        (
            "pkcs11:token=rootbridge;object=key?pin-source=/p",
            "names an object",
        ),
        ("pkcs11:?pin-source=/p", "names every token"),
        (
            "pkcs11:token=rootbridge?pin-source=/p&module-name=other",
            "module-name",
        ),
        (
            "pkcs11:token=rootbridge",
            "exactly one of pin_file and pin_env",
        ),
        ("pkcs11:token=root bridge?pin-source=/p", "%20"),
    ] {
        setup.edit(&before, &uri(text));
        before = uri(text);
        let error = setup.refused(&["config", "validate"]);
        assert!(
            error.contains(says) && !error.contains("s3cret"),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_ceremony_that_fails_halfway_leaves_nothing_active() {
    let setup = TestServer::bare();
    let command = setup.use_faulty_module();
    command("generate_max 1\n");
    let error = setup.refused(&["ca", "init", "--trust-domain", DOMAIN]);
    assert!(error.contains("CKR_DEVICE_MEMORY"), "{error}");
    assert_eq!(issuers(&setup), [("root".into(), "pending".into())]);
    let bundles = json(&setup, &["anchors", "list"]);
    assert!(bundles.as_array().unwrap().is_empty(), "{bundles}");
    // The second key's signature fails: both keys are there, and nothing is active.
    command("sign_rv 48\n"); // CKR_DEVICE_ERROR
    setup.refused(&["ca", "init", "--trust-domain", DOMAIN]);
    assert!(issuers(&setup).iter().all(|(_, state)| state == "pending"));
    command("");
    setup.init(DOMAIN, &[]);
    assert!(issuers(&setup).iter().all(|(_, state)| state == "active"));
    let keys = json(&setup, &["key", "list"]);
    assert_eq!(
        keys.as_array().unwrap().len(),
        2,
        "the keys of the first runs are used"
    );
}

#[test]
fn a_module_that_does_not_start_is_reported_with_the_cause() {
    let setup = TestServer::bare();
    let conf = setup.path("token/softhsm2.conf");
    fs::rename(&conf, setup.path("moved.conf")).unwrap();
    let error = setup.refused(&["key", "list"]);
    let says = format!(
        "SOFTHSM2_CONF (hsm.environment) names {}, which is not there",
        conf.display()
    );
    assert!(error.contains(&says), "{error}");
    fs::rename(setup.path("moved.conf"), &conf).unwrap();
    let tokens = setup.path("token/tokens");
    fs::rename(&tokens, setup.path("token/gone")).unwrap();
    let error = setup.refused(&["key", "list"]);
    let says = format!("is {}, which is not there", tokens.display());
    assert!(
        error.contains("directories.tokendir") && error.contains(&says),
        "{error}"
    );
}
