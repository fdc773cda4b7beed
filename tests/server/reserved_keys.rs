//! Keys that no workload may have: those of CAs, whatever their place in a path. A request proves that
//! its sender holds the key, so the keys in the token sign theirs past the server.

use std::fs;
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SigningKey};
use rootbridge::x509::PublicKey;
use serde_json::Value;
use tonic::Code;

use rootbridge_test_support::command::run;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{bearer, istio_request, refusal};
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{Client, PATIENCE, TD, TestServer, eventually, softhsm};

/// A P-256 key in the server's token.
struct TokenKey<'a> {
    setup: &'a TestServer,
    public: &'a PublicKey,
}

impl TokenKey<'_> {
    /// CKA_ID.
    fn id(&self) -> String {
        let keys = self.setup.cli(&["key", "list", "-o", "json"]);
        let keys: Vec<Value> = serde_json::from_str(&keys).unwrap();
        let fingerprint = self.public.fingerprint();
        let hex: String = fingerprint
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect();
        let mut keys = keys.iter().filter(|key| key["spki_sha256"] == hex);
        keys.next().unwrap()["id"].as_str().unwrap().to_owned()
    }
}

impl PublicKeyData for TokenKey<'_> {
    /// The point alone, without the head of a P-256 SubjectPublicKeyInfo.
    fn der_bytes(&self) -> &[u8] {
        &self.public.spki_der()[26..]
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for TokenKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let at = |name: &str| self.setup.path(name);
        let pin = fs::read_to_string(at("token/pin")).unwrap();
        fs::write(at("digest"), digest(&SHA256, message)).unwrap();
        let mut tool = Command::new("pkcs11-tool");
        tool.env("SOFTHSM2_CONF", at("token/softhsm2.conf"));
        tool.arg("--module").arg(softhsm::module());
        tool.args(["--token-label", "rootbridge", "--pin", pin.trim()]);
        tool.args(["--sign", "--mechanism", "ECDSA", "--id", &self.id()]);
        tool.args(["--signature-format", "openssl"]);
        tool.arg("--input-file").arg(at("digest"));
        run(tool.arg("--output-file").arg(at("signature")));
        Ok(fs::read(at("signature")).unwrap())
    }
}

/// A workload's request with this key, as Istio's API takes it.
fn request(key: &impl SigningKey) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serialize_request(key).unwrap().pem().unwrap()
}

async fn refused(setup: &TestServer, client: &Client, request: &str) {
    let token = setup.issuer.istio("foo", "bar");
    let answer = client.create(istio_request(request, 0, &[]), bearer(&token));
    let message = refusal(answer.await, Code::InvalidArgument);
    assert!(
        message.contains("this key cannot be certified"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_the_issuer_and_its_root_are_not_certified() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let chain = client
        .istio(&token, &KeyAndCsr::workload("foo", "bar"))
        .await
        .unwrap();
    for ca in [&chain.above[0], &chain.roots[0]] {
        let key = TokenKey {
            setup: &setup,
            public: ca.public_key(),
        };
        refused(&setup, &client, &request(&key)).await;
    }
    server.stop().await;
}

/// A path of an enterprise: its keys are elsewhere, and known from the certificates.
#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_the_path_are_not_certified() {
    let setup = TestServer::bare();
    let server = setup.start().await;
    let enterprise = OpensslCa::new(&setup.path(""), "root");
    let middle = enterprise.intermediate("middle");
    let csr = setup.cli(&["ca", "request", "--trust-domain", TD]);
    let chain = middle.certify(&csr, 0) + &middle.pem() + &enterprise.pem();
    fs::write(setup.path("chain.pem"), chain).unwrap();
    let file = setup.path("chain.pem");
    setup.cli(&["ca", "import", file.to_str().unwrap()]);
    fs::write(setup.path(&format!("{TD}.pem")), enterprise.pem()).unwrap();
    server.ready().await;
    let client = server.client(TD).await;
    let key = |ca: &OpensslCa| {
        let pem = fs::read_to_string(ca.key_file()).unwrap();
        request(&KeyPair::from_pem(&pem).unwrap())
    };
    for ca in [&middle, &enterprise] {
        refused(&setup, &client, &key(ca)).await;
    }
    // A CA of another path is no CA of this server.
    let other = enterprise.intermediate("other");
    let token = setup.issuer.istio("foo", "bar");
    let answer = client.create(istio_request(&key(&other), 0, &[]), bearer(&token));
    answer.await.unwrap();
    server.stop().await;
}

/// A key that waits for its certificate is a CA's already.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_pending_issuer_is_not_certified() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = setup.cli(&["ca", "request", "--trust-domain", TD]);
    let requested = rootbridge::x509::Csr::from_pem(csr.as_bytes());
    // It asks for a CA, which no workload may; the key alone is what is tried here.
    let error = requested.unwrap_err();
    assert!(error.to_string().contains("CA"), "{error}");
    let spki = rootbridge_test_support::openssl::public_key(&setup.path("pending.csr"), &csr);
    let public = PublicKey::from_spki_der(&spki).unwrap();
    let key = TokenKey {
        setup: &setup,
        public: &public,
    };
    let request = request(&key);
    // The server reads the records a moment after they changed.
    let token = setup.issuer.istio("foo", "bar");
    eventually(PATIENCE, "the pending key is refused", async || {
        let answer = client.create(istio_request(&request, 0, &[]), bearer(&token));
        answer.await.is_err()
    })
    .await;
    refused(&setup, &client, &request).await;
    server.stop().await;
}
