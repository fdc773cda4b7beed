//! The upstream CA as a PKI secrets engine of Vault: a stand-in that answers as it is told.

use std::fs;
use std::sync::{Arc, Mutex};

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
use crate::contract::{Implementation, contract};
use crate::enterprise::{Enterprise, Said};

const TOKEN: &str = "hvs.a-token-of-the-test";

pub struct Vault;

impl Implementation for Vault {
    async fn section(&self, setup: &TestServer, ca: &Arc<Enterprise>) -> String {
        let url = serve(ca).await;
        section(setup, &url)
    }
}

fn section(setup: &TestServer, url: &str) -> String {
    let file = setup.path("vault.token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    format!(
        "kind = \"vault\"\naddress = \"{url}\"\nmount = \"pki\"\ntoken_file = \"{}\"\n",
        file.display()
    )
}

async fn listen(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn serve(ca: &Arc<Enterprise>) -> String {
    let router = Router::new()
        .route("/v1/pki/root/sign-intermediate", post(sign))
        .with_state(Arc::clone(ca));
    listen(router).await
}

async fn sign(State(ca): State<Arc<Enterprise>>, headers: HeaderMap, body: Bytes) -> Response {
    if headers["x-vault-token"] != TOKEN {
        return refused(StatusCode::FORBIDDEN, "permission denied");
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["use_csr_values"], true);
    assert_eq!(body["max_path_length"], 0);
    let csr = body["csr"].as_str().unwrap().to_owned();
    let said = tokio::task::spawn_blocking(move || ca.answer(&csr, None));
    match said.await.unwrap() {
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
        Said::Pending(_) => panic!("Vault answers at once"),
        Said::Refused(reason) => refused(StatusCode::BAD_REQUEST, &reason),
        Said::Nothing => refused(StatusCode::SERVICE_UNAVAILABLE, "Vault is sealed"),
    }
}

fn refused(status: StatusCode, reason: &str) -> Response {
    (status, axum::Json(json!({ "errors": [reason] }))).into_response()
}

contract!(Vault, at_once);

/// What a server may answer instead, in turn: each is tried again, at the credential's file as it is
/// then, and nothing is sent to another server.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_say_nothing_about_the_request() {
    let setup = TestServer::bare();
    let ca = Enterprise::new(setup.path("enterprise"));
    let strangers = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&strangers);
    let stranger = listen(Router::new().fallback(move || async move {
        *seen.lock().unwrap() += 1;
    }))
    .await;
    let turn = Arc::new(Mutex::new("redirect"));
    let (told, inner) = (Arc::clone(&turn), Arc::clone(&ca));
    let router = Router::new().route(
        "/v1/pki/root/sign-intermediate",
        post(move |headers: HeaderMap, body: Bytes| async move {
            let turn = *told.lock().unwrap();
            match turn {
                "redirect" => {
                    let location = [("location", format!("{stranger}/v1/pki"))];
                    (StatusCode::TEMPORARY_REDIRECT, location).into_response()
                }
                "busy" => {
                    let later = [("retry-after", "5000")];
                    (StatusCode::TOO_MANY_REQUESTS, later).into_response()
                }
                "huge" => vec![b'x'; 50 << 20].into_response(),
                "silent" => std::future::pending().await,
                _ => sign(State(inner), headers, body).await,
            }
        }),
    );
    let url = listen(router).await;
    let section = section(&setup, &url);
    configure_section(&setup, &section, "2s", "");
    let server = setup.start().await;
    wait_for_problem(&setup, &server, "redirects are not followed").await;
    assert_eq!(*strangers.lock().unwrap(), 0, "another server was asked");
    *turn.lock().unwrap() = "silent";
    wait_for_problem(&setup, &server, "timed out").await;
    *turn.lock().unwrap() = "huge";
    wait_for_problem(&setup, &server, "is longer than").await;
    *turn.lock().unwrap() = "sign";
    let token = setup.path("vault.token");
    fs::write(&token, "hvs.another").unwrap();
    wait_for_problem(&setup, &server, "403 Forbidden: permission denied").await;
    fs::remove_file(&token).unwrap();
    wait_for_problem(&setup, &server, "cannot read").await;
    *turn.lock().unwrap() = "busy";
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
