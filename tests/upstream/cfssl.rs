//! The upstream CA as CFSSL: a stand-in that answers as it is told, and the real one.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rootbridge::upstream::Answer;
use rootbridge::x509::read_certificates;
use rootbridge_test_support::TestServer;
use rootbridge_test_support::files::documented;
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::process::Process;
use rootbridge_test_support::programs::answering;
use serde_json::{Value, json};

use crate::authority::{certify_and_serve, upstream_test};
use crate::contract::{At, Protocol, connect, contract, submission};
use crate::enterprise::{Enterprise, Said};

const KEY: &str = "00112233445566778899AABBCCDDEEFF";

fn section(directory: &Path, url: &str) -> String {
    let file = directory.join("cfssl.key");
    fs::write(&file, format!("{KEY}\n")).unwrap();
    format!(
        "kind = \"cfssl\"\naddress = \"{url}\"\nprofile = \"issuing-ca\"\nkey_file = \"{}\"\n",
        file.display()
    )
}

struct StandIn;

impl Protocol for StandIn {
    const WAITS: bool = false;

    fn section(at: &At) -> String {
        let section = section(&at.directory, &at.url);
        format!("{section}ca_file = \"{}\"\n", at.ca_file.display())
    }

    fn router(ca: Arc<Enterprise>) -> Router {
        Router::new()
            .route("/api/v1/cfssl/info", post(info))
            .route("/api/v1/cfssl/authsign", post(sign))
            .with_state(ca)
    }
}

fn result(certificate: &str) -> Response {
    let result = json!({ "certificate": certificate, "usages": ["cert sign"] });
    let body = json!({ "success": true, "result": result, "errors": [], "messages": [] });
    axum::Json(body).into_response()
}

fn refused(status: StatusCode, reason: &str) -> Response {
    let errors = json!([{ "code": 5300, "message": reason }]);
    let body = json!({ "success": false, "result": null, "errors": errors });
    (status, axum::Json(body)).into_response()
}

async fn info(State(ca): State<Arc<Enterprise>>) -> Response {
    result(&ca.root.pem())
}

async fn sign(State(ca): State<Arc<Enterprise>>, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    let request = STANDARD.decode(body["request"].as_str().unwrap()).unwrap();
    let request: Value = serde_json::from_slice(&request).unwrap();
    assert_eq!(request["profile"], "issuing-ca");
    let csr = request["certificate_request"].as_str().unwrap().to_owned();
    match ca.ask(csr, None).await {
        Said::Issued(bytes) => {
            let text = String::from_utf8(bytes).unwrap();
            match text.starts_with('<') {
                true => text.into_response(),
                false => result(&text),
            }
        }
        Said::Pending(_) | Said::Forgotten => panic!("CFSSL answers at once"),
        Said::Refused(reason) => refused(StatusCode::BAD_REQUEST, &reason),
        Said::Nothing => refused(StatusCode::INTERNAL_SERVER_ERROR, "no"),
    }
}

contract!(StandIn);

/// Starts CFSSL with the configuration of docs/how-to/upstream-cfssl.md.
async fn start(directory: &Path, root: &OpensslCa) -> (Process, String) {
    let config = documented("upstream-cfssl.md", "json").replace("KEY", KEY);
    let file = directory.join("cfssl.json");
    fs::write(&file, config).unwrap();
    let mut command = Command::new("cfssl");
    command
        .args(["serve", "-address", "127.0.0.1", "-port", "0", "-ca"])
        .arg(root.pem_file());
    command.arg("-ca-key").arg(root.key_file());
    command.arg("-config").arg(&file);
    let process = Process::start(&mut command, &directory.join("cfssl.log"));
    let url = answering(&process, "http", async |url| {
        let info = reqwest::Client::new().post(format!("{url}/api/v1/cfssl/info"));
        info.body("{\"label\":\"\"}").send().await.is_ok()
    });
    let url = url.await;
    (process, url)
}

/// From `upstream test` to workloads' certificates, with the least rights, below an intermediate CA; then
/// with another key and other profiles.
#[tokio::test(flavor = "multi_thread")]
async fn cfssl_certifies_the_issuing_ca() {
    let setup = TestServer::bare();
    let directory = setup.path("cfssl");
    fs::create_dir_all(&directory).unwrap();
    let root = OpensslCa::new(&directory, "corp");
    let middle = root.intermediate("corp-middle");
    let (_process, url) = start(&directory, &middle).await;
    let without_root = section(&directory, &url);
    let above = root.pem_file().display().to_string();
    let section = format!("{without_root}chain_file = \"{above}\"\n");
    let found = upstream_test(&setup, &section, "subject = \"Mesh CA\"");
    assert!(
        found.contains("\"issuing-ca\" may sign certificates"),
        "{found}"
    );
    certify_and_serve(&setup, &root.pem(), "Mesh CA").await;

    let upstream = connect(&section);
    let mut request = submission();
    let own_root = read_certificates(root.pem().as_bytes()).unwrap().remove(0);
    for (section, has_root) in [(&section, true), (&without_root, false)] {
        match connect(section).submit(&request).await {
            Ok(Answer::Issued(bytes)) => {
                let certificates = read_certificates(&bytes).unwrap();
                assert_eq!(certificates.contains(&own_root), has_root, "{section}");
            }
            answer => panic!("not issued: {answer:?}"),
        }
    }
    request.csr.truncate(40);
    match upstream.submit(&request).await {
        Ok(Answer::Refused(why)) => assert!(why.contains("asn1"), "{why}"),
        answer => panic!("not refused: {answer:?}"),
    }
    let leaves = connect(&section.replace("profile = \"issuing-ca\"\n", ""));
    let unfit = leaves.test().await.unwrap_err().reason;
    assert!(unfit.contains("is not for CAs"), "{unfit}");
    for key in ["0123", "xyz", "é1"] {
        fs::write(directory.join("cfssl.key"), key).unwrap();
        let says = match key {
            "0123" => "invalid token",
            _ => "holds no key in hexadecimal",
        };
        let submitted = upstream.submit(&request).await.unwrap_err().reason;
        let tested = upstream.test().await.unwrap_err().reason;
        for reason in [submitted, tested] {
            assert!(reason.contains(says), "{reason}");
            assert!(!reason.contains(key), "{reason}");
        }
    }
}
