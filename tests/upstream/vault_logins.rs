//! Logging in to Vault as a pod, and with a client certificate: what is posted, and whose token is used.

use std::fs;

use axum::Json;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use rootbridge::upstream::Answer;
use rootbridge_test_support::openssl;
use serde_json::{Value, json};

use crate::contract::{connect, submission};

/// Every login gives another token, and a request is refused with the token that it shows.
async fn vault() -> String {
    let login = |name: &'static str| {
        post(async move |Json(body): Json<Value>| -> Response {
            let client_token = match (name, body["jwt"].as_str(), body["name"].as_str()) {
                ("kubernetes", Some("own-token"), None) if body["role"] == "mesh" => "of-the-pod",
                ("cert", None, Some("mesh")) => "of-the-certificate",
                _ => return StatusCode::FORBIDDEN.into_response(),
            };
            Json(json!({ "auth": { "client_token": client_token } })).into_response()
        })
    };
    let sign = async |headers: HeaderMap| {
        let token = headers["x-vault-token"].to_str().unwrap().to_owned();
        (StatusCode::BAD_REQUEST, Json(json!({ "errors": [token] })))
    };
    let router = Router::new()
        .route("/v1/auth/kubernetes/login", login("kubernetes"))
        .route("/v1/auth/certificates/login", login("cert"))
        .route("/v1/pki/root/sign-intermediate", post(sign));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn a_pod_and_a_certificate_log_in() {
    let url = vault().await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    fs::write(&token, "own-token\n").unwrap();
    let ca = openssl::OpensslCa::new(directory.path(), "ca");
    let vault = format!("kind = \"vault\"\naddress = \"{url}\"\n");
    let pod = format!(
        "{vault}login = \"kubernetes\"\nrole = \"mesh\"\ntoken_file = \"{}\"\n",
        token.display()
    );
    let certificate = format!(
        "{vault}login = \"cert\"\nlogin_mount = \"certificates\"\nrole = \"mesh\"\n\
         client_certificate_file = \"{}\"\nclient_key_file = \"{}\"\n",
        ca.pem_file().display(),
        ca.key_file().display()
    );
    for (section, used) in [(&pod, "of-the-pod"), (&certificate, "of-the-certificate")] {
        let answer = connect(section).submit(&submission()).await;
        assert_eq!(answer, Ok(Answer::Refused(used.to_owned())));
    }
    // The token's file is read again, and the credential is in no message.
    fs::write(&token, "another-token").unwrap();
    let refused = connect(&pod).submit(&submission()).await.unwrap_err();
    assert!(
        refused
            .reason
            .contains("auth/kubernetes/login answered 403"),
        "{refused}"
    );
    assert!(!refused.reason.contains("another-token"), "{refused}");
}
