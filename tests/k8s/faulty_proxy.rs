//! A proxy between Rootbridge and a real API server that injects faults.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use http::{Method, StatusCode};
use kube::Client;
use serde_json::{Value, json};

use super::access;
use rootbridge_test_support::TestServer;
use rootbridge_test_support::tls_server::serve;

/// What happens to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// Another answer; the server does not get the request.
    Status(u16),
    /// The server gets it, and its answer is lost.
    Lost,
    /// The answer comes late.
    Timeout(Duration),
    /// The stream of an answer ends so soon.
    Cut(Duration),
    /// A watch starts with the event that its version is too old (410).
    Expired,
}

#[derive(Debug)]
struct Fault {
    method: Method,
    part: String,
    how: How,
    left: usize,
}

/// The faults to inject.
#[derive(Clone)]
pub(crate) struct Faulty {
    faults: Arc<Mutex<Vec<Fault>>>,
    behind: Client,
}

impl Faulty {
    /// Puts itself between a CA that is not running and its cluster of that name.
    pub(crate) async fn before(setup: &TestServer, cluster: &str) -> Self {
        let file = setup.path(&format!("{cluster}.kubeconfig"));
        let text = fs::read_to_string(&file).unwrap();
        let faulty = Self {
            faults: Arc::default(),
            behind: access::client(&text).await,
        };
        let router = Router::new().fallback(answer).with_state(faulty.clone());
        let (port, ca) = serve(router).await;
        let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
        kubeconfig["clusters"][0]["cluster"] = json!({
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": STANDARD.encode(ca),
        });
        fs::write(&file, kubeconfig.to_string()).unwrap();
        faulty
    }

    /// The next requests of this method whose path and query hold `part`.
    pub(crate) fn next(&self, times: usize, method: Method, part: &str, how: How) {
        self.faults.lock().unwrap().push(Fault {
            method,
            part: part.to_owned(),
            how,
            left: times,
        });
    }

    /// Faults that no request has met yet.
    pub(crate) fn left(&self) -> usize {
        self.faults
            .lock()
            .unwrap()
            .iter()
            .map(|each| each.left)
            .sum()
    }

    fn take(&self, method: &Method, path: &str) -> Option<How> {
        let mut faults = self.faults.lock().unwrap();
        let fault = faults
            .iter_mut()
            .find(|each| each.left > 0 && each.method == *method && path.contains(&each.part))?;
        fault.left -= 1;
        Some(fault.how)
    }

    async fn forward(&self, path: &str, request: Request) -> Response {
        let (mut parts, body) = request.into_parts();
        parts.uri = path.parse().unwrap();
        // The client behind has the credential.
        parts.headers.remove(http::header::AUTHORIZATION);
        parts.headers.remove(http::header::HOST);
        let body = to_bytes(body, 16 * 1024 * 1024).await.unwrap().to_vec();
        let request = http::Request::from_parts(parts, kube::client::Body::from(body));
        match self.behind.send(request).await {
            Ok(answer) => answer.map(Body::new),
            Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        }
    }
}

async fn answer(State(faulty): State<Faulty>, request: Request) -> Response {
    let path = request.uri().path_and_query().unwrap().to_string();
    let how = faulty.take(request.method(), &path);
    match how {
        None => faulty.forward(&path, request).await,
        Some(How::Status(code)) => status(code),
        Some(How::Lost) => {
            faulty.forward(&path, request).await;
            status(504)
        }
        Some(How::Timeout(by)) => {
            tokio::time::sleep(by).await;
            faulty.forward(&path, request).await
        }
        Some(How::Cut(after)) => {
            let whole = faulty.forward(&path, request).await;
            let (parts, body) = whole.into_parts();
            let end = Box::pin(tokio::time::sleep(after));
            let cut = Body::from_stream(body.into_data_stream().take_until(end));
            Response::from_parts(parts, cut)
        }
        Some(How::Expired) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
                "reason": "Expired", "message": "too old resource version: 1 (2)",
            });
            json!({ "type": "ERROR", "object": status })
                .to_string()
                .into_response()
        }
    }
}

fn status(code: u16) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": "a fault of the test",
    });
    let status = StatusCode::from_u16(code).unwrap();
    let mut response = (status, body.to_string()).into_response();
    let json = "application/json".parse().unwrap();
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    if code == 429 {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, "1".parse().unwrap());
    }
    response
}
