//! An API server that answers without end: its cluster is marked down with the reason, what it can make
//! this process hold is bounded, and another cluster is not touched.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use futures_util::stream;
use http::StatusCode;
use http::header::LOCATION;
use serde_json::{Value, json};

use rootbridge_test_support::tls_server::serve;
use rootbridge_test_support::{PATIENCE, TestServer, eventually};

const MIB: u64 = 1024 * 1024;
/// For one hostile cluster.
const MOST: u64 = 128 * MIB;
/// What the server takes without any, and rather more.
const OWN: u64 = 64 * MIB;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Attack {
    None,
    /// One event of a watch that does not end.
    Line,
    /// One page of a list that does not end.
    Page,
    /// Each page has one object and leads to another.
    Tokens,
    /// Full pages of objects with long names.
    Objects,
    Redirect,
}

struct ApiServer {
    attack: Attack,
    lists: AtomicUsize,
    elsewhere: AtomicUsize,
}

/// `first`, then `more` for ever.
fn endless(first: &str, more: String) -> Response {
    let (first, more) = (Bytes::from(first.to_owned()), Bytes::from(more));
    let body = stream::unfold(None, move |state: Option<()>| {
        let next = state.map_or_else(|| first.clone(), |()| more.clone());
        async move { Some((Ok::<_, std::io::Error>(next), Some(()))) }
    });
    Response::new(Body::from_stream(body))
}

fn pod(number: usize, name: &str) -> Value {
    json!({
        "metadata": {
            "name": format!("{name}{number}"), "namespace": format!("{name}{number}"),
            "uid": format!("{}{number}", name.repeat(16)), "resourceVersion": "1",
        },
        "spec": { "serviceAccountName": format!("{name}{number}"), "nodeName": format!("{name}{number}") },
    })
}

#[derive(serde::Deserialize)]
struct Asked {
    watch: Option<String>,
    limit: Option<usize>,
}

async fn pods(State(state): State<Arc<ApiServer>>, Query(asked): Query<Asked>) -> Response {
    let empty = json!({ "metadata": { "resourceVersion": "1" }, "items": [] });
    if asked.watch.is_some() {
        return match state.attack {
            Attack::Line => endless(
                "{\"type\":\"ADDED\",\"object\":{\"x\":\"",
                "a".repeat(65_536),
            ),
            _ => Response::new(Body::from_stream(stream::pending::<
                Result<Bytes, std::io::Error>,
            >())),
        };
    }
    let number = state.lists.fetch_add(1, Ordering::SeqCst);
    let page = |items: Vec<Value>| {
        let token = format!("token-{number}");
        let metadata = json!({ "resourceVersion": "1", "continue": token });
        axum::Json(json!({ "metadata": metadata, "items": items })).into_response()
    };
    match state.attack {
        Attack::None | Attack::Line => axum::Json(empty).into_response(),
        Attack::Page => {
            let one = format!("{},", pod(number, "a"));
            endless("{\"metadata\":{},\"items\":[", one.repeat(64))
        }
        Attack::Tokens => page(vec![pod(number, "a")]),
        Attack::Objects => {
            let (limit, name) = (asked.limit.unwrap_or(1), "a".repeat(240));
            page((0..limit).map(|n| pod(number * limit + n, &name)).collect())
        }
        Attack::Redirect => (StatusCode::FOUND, [(LOCATION, "/elsewhere")]).into_response(),
    }
}

impl ApiServer {
    /// Its kubeconfig is written to `file`.
    async fn start(attack: Attack, file: &std::path::Path) -> Arc<Self> {
        let state = Arc::new(Self {
            attack,
            lists: AtomicUsize::new(0),
            elsewhere: AtomicUsize::new(0),
        });
        let other = |State(state): State<Arc<Self>>, request: Request| async move {
            match request.uri().path() {
                "/elsewhere" => state.elsewhere.fetch_add(1, Ordering::SeqCst),
                _ => 0,
            };
            axum::Json(json!({})).into_response()
        };
        let accounts = json!({ "metadata": { "resourceVersion": "1" }, "items": [] });
        let router = Router::new()
            .route("/api/v1/pods", axum::routing::get(pods))
            .route(
                "/api/v1/serviceaccounts",
                axum::routing::get(move |Query(asked): Query<Asked>| async move {
                    if asked.watch.is_some() {
                        tokio::time::sleep(Duration::from_secs(3600)).await;
                    }
                    axum::Json(accounts)
                }),
            )
            .fallback(other)
            .with_state(Arc::clone(&state));
        let (port, ca) = serve(router).await;
        let ca = base64::engine::general_purpose::STANDARD.encode(ca);
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{ "name": "t", "cluster": {
                "server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": ca,
            }}],
            "users": [{ "name": "t", "user": { "token": "ours" } }],
            "contexts": [{ "name": "t", "context": { "cluster": "t", "user": "t" } }],
        });
        fs::write(file, text.to_string()).unwrap();
        state
    }
}

async fn attacked(attack: Attack, says: &str) {
    let setup = TestServer::new();
    let (bad, good) = (setup.path("bad.kubeconfig"), setup.path("good.kubeconfig"));
    let hostile = ApiServer::start(attack, &bad).await;
    let _honest = ApiServer::start(Attack::None, &good).await;
    let mut clusters = String::new();
    for (name, file) in [("bad", &bad), ("good", &good)] {
        clusters += &format!(
            "[clusters.{name}]\ntrust_domain = \"cluster.local\"\nkubeconfig = \"{}\"\n\
             audiences = {{ istio = \"istio-ca\" }}\nauthenticate = \"offline\"\n\n",
            file.display()
        );
    }
    setup.edit("[jwt.cluster]", &format!("{clusters}[jwt.cluster]"));
    setup.edit(
        "jwt = [\"cluster\", \"people\"]",
        "jwt = [\"cluster\", \"people\"]\nclusters = [\"bad\", \"good\"]",
    );
    let server = setup.serve().await;
    let up = |name: &str| format!("rootbridge_cluster_up{{cluster=\"{name}\"}}");
    server.wait_for_log(says).await;
    if attack != Attack::Redirect {
        eventually(PATIENCE, "the cluster is down", async || {
            server.metric(&up("bad")).await == Some(0.0)
        })
        .await;
        server
            .wait_for_log("does not answer as it should: the cluster is down")
            .await;
    }
    // It is tried more than once.
    let lists = hostile.lists.load(Ordering::SeqCst);
    if matches!(attack, Attack::Line | Attack::Page | Attack::Redirect) {
        eventually(PATIENCE, "further attempts", async || {
            hostile.lists.load(Ordering::SeqCst) > lists
        })
        .await;
    }
    eventually(PATIENCE, "the other cluster is up", async || {
        server.metric(&up("good")).await == Some(1.0)
    })
    .await;
    let peak = server.peak_memory();
    eprintln!("{attack:?}: {} MiB at the peak", peak / MIB);
    assert!(peak < OWN + MOST, "{attack:?}: {} MiB", peak / MIB);
    assert_eq!(
        hostile.elsewhere.load(Ordering::SeqCst),
        0,
        "a redirect was followed"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_end() {
    attacked(
        Attack::Line,
        "the API server's answer is longer than 4194304 bytes",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_without_end() {
    attacked(
        Attack::Page,
        "the API server's answer is longer than 4194304 bytes",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_without_end() {
    attacked(Attack::Tokens, "the API server's list has no end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_without_end() {
    attacked(
        Attack::Objects,
        "the API server has more objects than may be stored",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect() {
    attacked(Attack::Redirect, "the API server answers 302").await;
}
