//! The upstream CA as a PKI secrets engine of Vault: a stand-in that answers as it is told.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};

use rootbridge_test_support::TestServer;

use crate::authority::{configure_section, status, wait_for_problem};
use crate::contract::{At, Protocol, contract, listen};
use crate::enterprise::{Enterprise, Said};

const TOKEN: &str = "hvs.a-token-of-the-test";

pub struct Vault;

impl Protocol for Vault {
    const WAITS: bool = false;

    fn section(at: &At) -> String {
        let section = section(&at.directory, &at.url);
        format!("{section}ca_file = \"{}\"\n", at.ca_file.display())
    }

    fn router(ca: Arc<Enterprise>) -> Router {
        Router::new()
            .route("/v1/pki/root/sign-intermediate", post(sign))
            .with_state(ca)
    }
}

fn section(directory: &Path, url: &str) -> String {
    let file = directory.join("vault.token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    format!(
        "kind = \"vault\"\naddress = \"{url}\"\nmount = \"pki\"\ntoken_file = \"{}\"\n",
        file.display()
    )
}

async fn sign(State(ca): State<Arc<Enterprise>>, headers: HeaderMap, body: Bytes) -> Response {
    if headers["x-vault-token"] != TOKEN {
        return refused(StatusCode::FORBIDDEN, "permission denied");
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["use_csr_values"], true);
    assert_eq!(body["max_path_length"], 0);
    let csr = body["csr"].as_str().unwrap().to_owned();
    match ca.ask(csr, None).await {
        Said::Issued(bytes) => {
            let text = String::from_utf8(bytes).unwrap();
            // A proxy's page is no JSON.
            match text.starts_with('<') {
                true => text.into_response(),
                false => axum::Json(json!({
                    "auth": null,
                    "data": { "certificate": text, "ca_chain": [] },
                }))
                .into_response(),
            }
        }
        Said::Pending(_) | Said::Forgotten => panic!("Vault answers at once"),
        Said::Refused(reason) => refused(StatusCode::BAD_REQUEST, &reason),
        Said::Nothing => refused(StatusCode::SERVICE_UNAVAILABLE, "Vault is sealed"),
    }
}

fn refused(status: StatusCode, reason: &str) -> Response {
    (status, axum::Json(json!({ "errors": [reason] }))).into_response()
}

contract!(Vault);

/// Each attempt has the credential that is in its file then, and a CA that is busy is asked when it said.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_read_again_and_a_busy_server_is_left_alone() {
    let setup = TestServer::bare();
    let ca = Enterprise::new(setup.path("enterprise"));
    let busy = Arc::new(AtomicBool::new(false));
    let (told, inner) = (Arc::clone(&busy), Arc::clone(&ca));
    let router = Router::new().route(
        "/v1/pki/root/sign-intermediate",
        post(move |headers: HeaderMap, body: Bytes| async move {
            match told.load(Ordering::Relaxed) {
                true => {
                    let later = [("retry-after", "5000")];
                    (StatusCode::TOO_MANY_REQUESTS, later).into_response()
                }
                false => sign(State(inner), headers, body).await,
            }
        }),
    );
    let section = section(&setup.path(""), &listen(router).await);
    let token = setup.path("vault.token");
    fs::write(&token, "hvs.another").unwrap();
    configure_section(&setup, &section, "20s", "");
    let server = setup.start().await;
    wait_for_problem(&setup, &server, "403 Forbidden: permission denied").await;
    fs::remove_file(&token).unwrap();
    wait_for_problem(&setup, &server, "cannot read").await;
    busy.store(true, Ordering::Relaxed);
    fs::write(&token, TOKEN).unwrap();
    wait_for_problem(&setup, &server, "429").await;
    let open = status(&setup, &server).await["request"].clone();
    let next: jiff::Timestamp = open["next_attempt_at"].as_str().unwrap().parse().unwrap();
    let wait = next.as_second() - jiff::Timestamp::now().as_second();
    assert!(wait > 3600, "Retry-After is heeded: {wait} s");
    let log = server.log();
    assert!(!log.contains(TOKEN) && !log.contains("hvs.another"));
    server.stop().await;
}
