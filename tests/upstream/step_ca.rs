//! The upstream CA as step-ca: a stand-in that answers as it is told, and the real one.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rootbridge::upstream::Answer;
use rootbridge_test_support::TestServer;
use rootbridge_test_support::files::{documented, repository};
use rootbridge_test_support::jwk::{JwtKey, b64};
use rootbridge_test_support::openssl::{self, OpensslCa};
use rootbridge_test_support::process::Process;
use rootbridge_test_support::programs::answering;
use serde_json::{Value, json};

use crate::authority::{certify_and_serve, upstream_test};
use crate::contract::{At, Protocol, connect, contract, submission};
use crate::enterprise::{Enterprise, Said};

/// The private key, as `step crypto jwk create --no-password` writes it.
fn private(key: &JwtKey) -> String {
    // Where PKCS#8 has it, for this curve.
    let private = &key.pkcs8()[36..68];
    let mut jwk = key.jwk();
    jwk["d"] = json!(b64(private));
    serde_json::to_string_pretty(&jwk).unwrap()
}

fn section(directory: &Path, url: &str, ca_file: &Path, key: &JwtKey) -> String {
    let file = directory.join("provisioner.json");
    fs::write(&file, private(key)).unwrap();
    format!(
        "kind = \"step-ca\"\naddress = \"{url}\"\nca_file = \"{}\"\nprovisioner = \"rootbridge\"\n\
         key_file = \"{}\"\n",
        ca_file.display(),
        file.display()
    )
}

struct StandIn;

impl Protocol for StandIn {
    const WAITS: bool = false;

    fn section(at: &At) -> String {
        section(&at.directory, &at.url, &at.ca_file, &JwtKey::p256("one"))
    }

    fn router(ca: Arc<Enterprise>) -> Router {
        Router::new()
            .route("/1.0/roots", get(roots))
            .route("/1.0/sign", post(sign))
            .with_state(ca)
    }
}

async fn roots(State(ca): State<Arc<Enterprise>>) -> Response {
    axum::Json(json!({ "crts": [ca.root.pem()] })).into_response()
}

async fn sign(State(ca): State<Arc<Enterprise>>, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    let token = body["ott"].as_str().unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["sub"], "Mesh CA");
    let refused = |status, reason: &str| {
        let body = json!({ "status": 403, "message": reason });
        (status, axum::Json(body)).into_response()
    };
    let csr = body["csr"].as_str().unwrap().to_owned();
    match ca.ask(csr, None).await {
        Said::Issued(bytes) => {
            let text = String::from_utf8(bytes).unwrap();
            match text.starts_with('<') {
                true => text.into_response(),
                false => {
                    let body = json!({ "certChain": [text] });
                    (StatusCode::CREATED, axum::Json(body)).into_response()
                }
            }
        }
        Said::Pending(_) | Said::Forgotten => panic!("step-ca answers at once"),
        Said::Refused(reason) => refused(StatusCode::FORBIDDEN, &reason),
        Said::Nothing => refused(StatusCode::INTERNAL_SERVER_ERROR, "the database is gone"),
    }
}

contract!(StandIn);

/// Starts step-ca with a root, an intermediate, and the provisioner of docs/how-to/upstream-step-ca.md.
async fn start(directory: &Path, root: &OpensslCa, key: &JwtKey) -> (Process, String) {
    let template = documented("upstream-step-ca.md", "text");
    let middle = root.intermediate("step-middle");
    let config = json!({
        "root": root.pem_file(),
        "crt": middle.pem_file(),
        "key": middle.key_file(),
        "address": "127.0.0.1:0",
        "dnsNames": ["127.0.0.1"],
        "logger": { "format": "text" },
        "authority": { "provisioners": [{
            "type": "JWK",
            "name": "rootbridge",
            "key": key.jwk(),
            "claims": { "maxTLSCertDuration": "2160h" },
            "options": { "x509": { "template": template } },
        }, {
            "type": "X5C",
            "name": "by-certificate",
            "roots": STANDARD.encode(root.pem()),
            "claims": { "maxTLSCertDuration": "2160h" },
            "options": { "x509": { "template": template } },
        }] },
    });
    let file = directory.join("ca.json");
    fs::write(&file, config.to_string()).unwrap();
    let binary = repository("build/interop/step-ca");
    assert!(
        binary.exists(),
        "{} is missing: make setup",
        binary.display()
    );
    let mut command = Command::new(binary);
    command.arg(&file).env("STEPPATH", directory);
    command.env("HOME", directory);
    let process = Process::start(&mut command, &directory.join("step-ca.log"));
    let root = reqwest::Certificate::from_pem(root.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([root]);
    let client = client.build().unwrap();
    let url = answering(&process, "https", async |url| {
        let health = client.get(format!("{url}/health")).send().await;
        health.is_ok_and(|answer| answer.status().is_success())
    });
    let url = url.await;
    (process, url)
}

/// From `upstream test` to workloads' certificates, with the least rights; then with other keys.
#[tokio::test(flavor = "multi_thread")]
async fn step_ca_certifies_the_issuing_ca() {
    let setup = TestServer::bare();
    let directory = setup.path("step");
    fs::create_dir_all(&directory).unwrap();
    let root = OpensslCa::new(&directory, "corp");
    let key = JwtKey::p256("the-provisioner's");
    let (_process, url) = start(&directory, &root, &key).await;
    let section = section(&directory, &url, &root.pem_file(), &key);
    let found = upstream_test(&setup, &section, "subject = \"Mesh CA\"");
    assert!(
        found.contains("its provisioner rootbridge has this key"),
        "{found}"
    );
    certify_and_serve(&setup, &root.pem(), "Mesh CA").await;

    by_certificate(&directory, &root, &url).await;

    let upstream = connect(&section);
    let request = submission();
    let log = |answer: &str| assert!(!answer.contains("\"d\""), "{answer}");
    // Longer than the provisioner allows.
    let mut long = request.clone();
    long.ttl *= 100;
    match upstream.submit(&long).await {
        Ok(Answer::Refused(why)) => assert!(why.contains("duration"), "{why}"),
        other => panic!("not refused: {other:?}"),
    }
    let file = directory.join("provisioner.json");
    fs::write(&file, private(&JwtKey::p256("the-provisioner's"))).unwrap();
    let stranger = upstream.submit(&request).await.unwrap_err().reason;
    assert!(stranger.contains("answered 401"), "{stranger}");
    log(&stranger);
    fs::write(&file, private(&JwtKey::p256("another"))).unwrap();
    let refused = upstream.test().await.unwrap_err().reason;
    assert!(
        refused.contains("no provisioner rootbridge with the key another"),
        "{refused}"
    );
    fs::write(&file, "{\"kty\": \"EC\", \"d\": \"secret\"}").unwrap();
    let unusable = upstream.test().await.unwrap_err().reason;
    assert!(
        unusable.contains("holds no private P-256 key"),
        "{unusable}"
    );
    log(&unusable);
}

/// The same with the provisioner that knows this server by a certificate; then with one of another CA.
async fn by_certificate(directory: &Path, root: &OpensslCa, url: &str) {
    let at = |name: &str| directory.join(name).display().to_string();
    let identity = |name: &str, issuer: &OpensslCa| {
        let key = openssl::key(directory, name, "ecdsa-p256");
        let csr = fs::read_to_string(openssl::csr(&key, "DNS:client")).unwrap();
        let leaf = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
                    extendedKeyUsage=clientAuth";
        fs::write(at("client.pem"), issuer.sign(&csr, leaf, &[])).unwrap();
        fs::copy(key, at("client.key")).unwrap();
    };
    let upstream = connect(&format!(
        "kind = \"step-ca\"\naddress = \"{url}\"\nca_file = \"{}\"\n\
         provisioner = \"by-certificate\"\nclient_certificate_file = \"{}\"\n\
         client_key_file = \"{}\"\n",
        root.pem_file().display(),
        at("client.pem"),
        at("client.key")
    ));
    identity("known", root);
    let found = upstream.test().await.unwrap().join("; ");
    assert!(found.contains("is for certificates"), "{found}");
    let request = submission();
    let issued = upstream.submit(&request).await;
    assert!(matches!(issued, Ok(Answer::Issued(_))), "{issued:?}");
    let stranger = OpensslCa::new(directory, "stranger");
    identity("unknown", &stranger);
    let refused = upstream.submit(&request).await;
    assert!(refused.is_err(), "another CA's certificate: {refused:?}");
}
