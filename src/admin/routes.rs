//! The routes, and which of them are public.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::callers::{AdminCallers, NotAllowed};
use super::health_state::TokenHealth;
use super::rotations;
use super::state::{Admin, Operator};
use crate::authn::AuthnError;
use crate::issuance::AuthorityStatus;
use crate::trust::TargetStatus;
use crate::upstream::RequestStatus;

/// `/v1/status`.
#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    ready: bool,
    reasons: Vec<String>,
    authorities: Vec<AuthorityStatus>,
    tokens: std::collections::BTreeMap<String, TokenHealth>,
    bundle_targets: Vec<TargetStatus>,
    upstream: Vec<RequestStatus>,
    /// What this server alone does among those of the ledger.
    work: Vec<String>,
}

/// Public for GET and HEAD: they name no workload.
const PUBLIC: [&str; 5] = ["/livez", "/readyz", "/metrics", "/ping", "/ready"];

/// Those that Kubernetes asks, and restarts a server that does not answer.
const PROBES: [&str; 4] = ["/livez", "/readyz", "/ping", "/ready"];
/// Other requests at a time: one worker thread at least is left for probes.
const OTHERS: usize = 1;

/// A route requires a credential unless it is in [`PUBLIC`]; `callers` says whose.
pub fn router(admin: Arc<Admin>, callers: Arc<dyn AdminCallers>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        // The probes of Linkerd's identity controller use these names.
        .route("/ping", get(|| async { "pong\n" }))
        .route("/ready", get(readyz))
        .route("/v1/status", get(status))
        .route("/v1/rotations", get(rotations::list))
        .route("/v1/rotations/start", post(rotations::start))
        .route("/v1/rotations/advance", post(rotations::advance))
        .route("/v1/rotations/back", post(rotations::back))
        .route("/v1/rotations/compromised", post(rotations::compromised))
        .route("/v1/rotations/gone", post(rotations::gone))
        .route("/v1/rotations/forget", post(rotations::forget))
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such page\n") })
        .layer(from_fn_with_state(callers, require_operator))
        .layer(from_fn_with_state(
            Arc::new(Semaphore::new(OTHERS)),
            probes_first,
        ))
        .with_state(admin)
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let reasons = admin.not_ready();
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    let lines: Vec<_> = reasons.into_iter().map(|reason| reason.public).collect();
    let text = format!("not ready\n{}\n", lines.join("\n"));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let now = admin.clock.now();
    let text = admin.metrics.scrape(
        &admin.health_state,
        &admin.authorities.status(),
        (
            admin.pipeline.queued_outcomes(),
            &admin.pipeline.work_leases().held(),
        ),
        &admin.distribution.all(),
        &admin.listeners,
        now,
    );
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, format)], text).into_response()
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<Status> {
    let reasons = admin.not_ready();
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        ready: reasons.is_empty(),
        reasons: reasons.into_iter().map(|reason| reason.detail).collect(),
        authorities: admin.authorities.status(),
        tokens: admin.health_state.tokens(),
        bundle_targets: admin.distribution.all(),
        upstream: admin.renewing.all(),
        work: admin.pipeline.work_leases().held(),
    })
}

/// Lets requests that are no probes wait for each other.
async fn probes_first(
    State(others): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let _turn = match PROBES.contains(&request.uri().path()) {
        true => None,
        // It is never closed.
        false => others.acquire().await.ok(),
    };
    next.run(request).await
}

/// Requires a credential of somebody who may, except for public routes.
async fn require_operator(
    State(callers): State<Arc<dyn AdminCallers>>,
    mut request: Request,
    next: Next,
) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads && PUBLIC.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let authenticated = callers.authenticate(request.headers(), request.extensions());
    match authenticated.await {
        Ok(name) => {
            request.extensions_mut().insert(Operator(name));
            next.run(request).await
        }
        Err(NotAllowed::Unauthenticated(AuthnError::Unavailable(_) | AuthnError::Timeout(_))) => {
            let text = "the credential cannot be verified now; try again\n";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        Err(error) => {
            tracing::info!(%error, path = %request.uri().path(), "admin call refused");
            match error {
                NotAllowed::Unauthorized(_) => {
                    let text = "this caller is not one of the listener's admins\n";
                    (StatusCode::FORBIDDEN, text).into_response()
                }
                NotAllowed::Unauthenticated(_) => {
                    let challenge = [(WWW_AUTHENTICATE, "Bearer")];
                    let text = "an operator's credential is required\n";
                    (StatusCode::UNAUTHORIZED, challenge, text).into_response()
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Body;
    use futures_util::poll;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_probe_waits_for_no_other_request() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&begun);
        let endless = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<&str>()
        };
        let router = Router::new()
            .route("/livez", get(|| async { "live" }))
            .route("/metrics", get(endless))
            .layer(from_fn_with_state(
                Arc::new(Semaphore::new(OTHERS)),
                probes_first,
            ));
        let ask = |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            Box::pin(router.clone().oneshot(request))
        };
        let mut others: Vec<_> = (0..3).map(|_| ask("/metrics")).collect();
        for other in &mut others {
            assert!(poll!(other).is_pending());
        }
        assert_eq!(begun.load(Ordering::Relaxed), OTHERS);
        assert_eq!(ask("/livez").await.unwrap().status(), StatusCode::OK);
    }
}
