//! The upstream CA behind a program of the operator's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract;
use axum::http::StatusCode;
use axum::routing::post;

use crate::contract::{At, Protocol, contract, listen};
use crate::enterprise::{Enterprise, Said};

/// What docs/how-to/upstream-command.md shows, but for the address.
const PROGRAM: &str = r#"#!/bin/sh
answer=$(mktemp) || exit 69
trap 'rm -f "$answer"' EXIT
status=$(curl -sS --max-time 30 -o "$answer" -w '%{http_code}' --data-binary @- \
    "$CA_URL/${ROOTBRIDGE_REFERENCE:-}") || exit 69
case $status in
200) cat "$answer" ;;
202) cat "$answer"; exit 75 ;;
4??) cat "$answer" >&2; exit 1 ;;
*) echo "HTTP $status" >&2; exit 69 ;;
esac
"#;

pub struct Program;

impl Protocol for Program {
    const WAITS: bool = true;
    const FORGETS: bool = false;
    const HTTP: bool = false;

    fn section(at: &At) -> String {
        program(&at.directory, &at.url)
    }

    /// `POST /` and `POST /REFERENCE`, the CSR as the body. 200 issued, 202 pending, 403 refused, 503 no
    /// answer.
    fn router(ca: Arc<Enterprise>) -> Router {
        Router::new()
            .route("/", post(submitted))
            .route("/{reference}", post(polled))
            .with_state(ca)
    }
}

/// The section of the program, which is written to the directory.
fn program(directory: &Path, url: &str) -> String {
    let program = directory.join("ask-ca");
    let first = "answer=$(mktemp)";
    let text = PROGRAM.replacen(first, &format!("CA_URL={url}\n{first}"), 1);
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    format!("kind = \"command\"\nprogram = \"{}\"\n", program.display())
}

/// The address of a server of this CA.
pub async fn serve(ca: &Arc<Enterprise>) -> String {
    listen(Program::router(Arc::clone(ca))).await
}

/// The section of a program that asks this CA.
pub async fn section(directory: &Path, ca: &Arc<Enterprise>) -> String {
    program(directory, &serve(ca).await)
}

type State = extract::State<Arc<Enterprise>>;

async fn submitted(ca: State, csr: String) -> (StatusCode, Vec<u8>) {
    reply(ca, csr, None).await
}

async fn polled(
    ca: State,
    extract::Path(reference): extract::Path<String>,
    csr: String,
) -> (StatusCode, Vec<u8>) {
    reply(ca, csr, Some(reference)).await
}

async fn reply(
    extract::State(ca): State,
    csr: String,
    reference: Option<String>,
) -> (StatusCode, Vec<u8>) {
    match ca.ask(csr, reference).await {
        Said::Issued(bytes) => (StatusCode::OK, bytes),
        Said::Pending(reference) => (StatusCode::ACCEPTED, reference.into_bytes()),
        Said::Refused(reason) => (StatusCode::FORBIDDEN, reason.into_bytes()),
        Said::Forgotten | Said::Nothing => (StatusCode::SERVICE_UNAVAILABLE, Vec::new()),
    }
}

contract!(Program);
