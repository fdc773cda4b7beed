//! An API server whose answers the test sets, path by path.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use rootbridge_test_support::tls_server::serve;

use crate::fake_collection::{Asked, Collection};

/// What a path answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Json(Value),
    Text(String),
    Status(u16),
    /// An error with the body of a success.
    StatusWith(u16, Value),
    Never,
}

pub(crate) struct FakeApiServer {
    port: u16,
    ca: String,
    state: Arc<Answers>,
}

pub(crate) struct Answers {
    pub(crate) review: Mutex<Answer>,
    pub(crate) reviews: AtomicUsize,
    pub(crate) jwks: Mutex<Answer>,
    pub(crate) issuer: String,
    pub(crate) pods: Collection,
    pub(crate) accounts: Collection,
    /// What is answered for one object by its path; `None`: what is listed.
    pub(crate) objects: Mutex<Option<Answer>>,
    /// The only token that is accepted; `None`: any.
    pub(crate) token: Mutex<Option<String>>,
    /// Requests that were refused for their token.
    pub(crate) unauthorized: AtomicUsize,
}

pub(crate) fn plain(answer: Answer) -> Response {
    match answer {
        Answer::Json(value) => axum::Json(value).into_response(),
        Answer::Text(text) => text.into_response(),
        Answer::Status(code) => {
            let status = json!({ "kind": "Status", "code": code, "message": "set by the test" });
            (StatusCode::from_u16(code).unwrap(), axum::Json(status)).into_response()
        }
        Answer::StatusWith(code, value) => {
            (StatusCode::from_u16(code).unwrap(), axum::Json(value)).into_response()
        }
        Answer::Never => unreachable!("waited for by the caller"),
    }
}

async fn answer(answer: Answer) -> Response {
    if matches!(answer, Answer::Never) {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    plain(answer)
}

async fn authenticate(
    State(state): State<Arc<Answers>>,
    request: axum::extract::Request,
    next: middleware::Next,
) -> Response {
    let accepted = state.token.lock().unwrap().clone();
    let presented = request.headers().get(AUTHORIZATION).cloned();
    if let Some(accepted) = accepted
        && presented.is_none_or(|header| header != format!("Bearer {accepted}").as_str())
    {
        state.unauthorized.fetch_add(1, Ordering::SeqCst);
        return plain(Answer::Status(401));
    }
    next.run(request).await
}

fn one(state: &Answers, all: &Collection, (namespace, name): &(String, String)) -> Response {
    if let Some(answer) = state.objects.lock().unwrap().clone() {
        return plain(answer);
    }
    let items = all.items.lock().unwrap();
    let is_it = |item: &&Value| {
        item["metadata"]["namespace"] == *namespace && item["metadata"]["name"] == *name
    };
    let found = items.iter().find(is_it).cloned();
    plain(found.map_or(Answer::Status(404), Answer::Json))
}

impl FakeApiServer {
    pub(crate) async fn start(issuer: &str) -> Self {
        let state = Arc::new(Answers {
            review: Mutex::new(Answer::Status(500)),
            reviews: AtomicUsize::new(0),
            jwks: Mutex::new(Answer::Status(500)),
            issuer: issuer.to_owned(),
            pods: Collection::new(),
            accounts: Collection::new(),
            objects: Mutex::default(),
            token: Mutex::default(),
            unauthorized: AtomicUsize::new(0),
        });
        let router = Router::new()
            .route("/version", get(|| async { "{}" }))
            .route(
                "/.well-known/openid-configuration",
                get(|State(state): State<Arc<Answers>>| async move {
                    axum::Json(json!({ "issuer": state.issuer }))
                }),
            )
            .route(
                "/openid/v1/jwks",
                get(|State(state): State<Arc<Answers>>| async move {
                    let set = state.jwks.lock().unwrap().clone();
                    answer(set).await
                }),
            )
            .route(
                "/apis/authentication.k8s.io/v1/tokenreviews",
                post(|State(state): State<Arc<Answers>>| async move {
                    state.reviews.fetch_add(1, Ordering::SeqCst);
                    let review = state.review.lock().unwrap().clone();
                    answer(review).await
                }),
            )
            .route(
                "/api/v1/pods",
                get(
                    |State(state): State<Arc<Answers>>, Query(asked): Query<Asked>| async move {
                        state.pods.answer(asked).await
                    },
                ),
            )
            .route(
                "/api/v1/serviceaccounts",
                get(
                    |State(state): State<Arc<Answers>>, Query(asked): Query<Asked>| async move {
                        state.accounts.answer(asked).await
                    },
                ),
            )
            .route(
                "/api/v1/namespaces/{namespace}/serviceaccounts/{name}",
                get(
                    |State(state): State<Arc<Answers>>,
                     Path(path): Path<(String, String)>| async move {
                        one(&state, &state.accounts, &path)
                    },
                ),
            )
            .route(
                "/api/v1/namespaces/{namespace}/pods/{name}",
                get(
                    |State(state): State<Arc<Answers>>,
                     Path(path): Path<(String, String)>| async move {
                        one(&state, &state.pods, &path)
                    },
                ),
            )
            .layer(middleware::from_fn_with_state(
                Arc::clone(&state),
                authenticate,
            ))
            .with_state(Arc::clone(&state));
        let (port, ca) = serve(router).await;
        Self { port, ca, state }
    }

    pub(crate) fn kubeconfig(&self) -> String {
        let ca = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &self.ca);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{ "name": "t", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority-data": ca,
            }}],
            "users": [{ "name": "t", "user": { "token": "ours" } }],
            "contexts": [{ "name": "t", "context": { "cluster": "t", "user": "t" } }],
        })
        .to_string()
    }

    pub(crate) fn set_review(&self, answer: Answer) {
        *self.review.lock().unwrap() = answer;
    }

    pub(crate) fn reviewed(&self) -> usize {
        self.reviews.load(Ordering::SeqCst)
    }
}

impl std::ops::Deref for FakeApiServer {
    type Target = Answers;
    fn deref(&self) -> &Answers {
        &self.state
    }
}
