//! The routes, and who may have which.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;

use super::health_state::{HealthState, TokenHealth};
use super::metrics::Metrics;
use crate::authn::{AuthnError, Operators, bearer};
use crate::clock::Clock;
use crate::issuance::{Authorities, AuthorityStatus, SigningPipeline};
use crate::net::Certificates;
use crate::trust::{Distribution, TargetStatus};

/// What the admin surface reads.
#[derive(Debug)]
pub struct Admin {
    /// The authorities and whether they can sign.
    pub authorities: Arc<Authorities>,
    /// What is owed to the ledger.
    pub pipeline: SigningPipeline,
    /// The prober's findings.
    pub health_state: Arc<HealthState>,
    /// How far the trust bundle has come in clusters.
    pub distribution: Arc<Distribution>,
    /// What each listener shows, by its name: without a certificate no handshake succeeds.
    pub listeners: Vec<(String, Arc<Certificates>)>,
    /// Counters and gauges.
    pub metrics: Metrics,
    /// Every operator credential.
    pub operators: arc_swap::ArcSwap<Operators>,
    /// Those that are taken here, by name.
    pub operator_names: Vec<String>,
    /// For times that are left.
    pub clock: Arc<dyn Clock>,
}

/// `/v1/status`.
#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    ready: bool,
    reasons: Vec<String>,
    authorities: Vec<AuthorityStatus>,
    tokens: std::collections::BTreeMap<String, TokenHealth>,
    bundle_targets: Vec<TargetStatus>,
}

/// What is open to anybody, for GET and HEAD: it names no workload.
const OPEN: [&str; 5] = ["/livez", "/readyz", "/metrics", "/ping", "/ready"];

/// The admin router. A route is guarded unless it stands in [`OPEN`].
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        // By the names that the probes of Linkerd's identity controller use.
        .route("/ping", get(|| async { "pong\n" }))
        .route("/ready", get(readyz))
        .route("/v1/status", get(status))
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such page\n") })
        .layer(from_fn_with_state(Arc::clone(&admin), guard))
        .with_state(admin)
}

/// Why traffic should not come yet: in words for anybody, and for an operator, which may name
/// tokens and files.
struct Reason {
    public: String,
    detail: String,
}

impl Admin {
    /// Empty when traffic may come. An HSM that hiccups is no reason: bundles are still to be had,
    /// and calls for certificates answer UNAVAILABLE by themselves.
    fn not_ready(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if let Some(error) = self.health_state.ledger_error() {
            reasons.push(Reason {
                public: "ledger: it does not answer or takes no records: see the log".to_owned(),
                detail: format!("ledger: {error}"),
            });
        }
        let authorities = self.authorities.status();
        if authorities.is_empty() {
            let what =
                "no authority yet: run `rootbridge ca init`, or `ca request` and `ca import`";
            reasons.push(Reason {
                public: what.to_owned(),
                detail: what.to_owned(),
            });
        }
        if authorities.iter().all(|each| each.issuer.is_none()) {
            let reason = |authority: AuthorityStatus| Reason {
                public: format!(
                    "{}: {}",
                    authority.trust_domain,
                    authority.public_why.unwrap_or_default()
                ),
                detail: format!(
                    "{}: {}",
                    authority.trust_domain,
                    authority.why.unwrap_or_default()
                ),
            };
            reasons.extend(authorities.into_iter().map(reason));
        }
        let bare = self.listeners.iter().filter(|(_, shown)| shown.is_empty());
        reasons.extend(bare.map(|(name, _)| {
            let what = format!("listener {name}: it has no certificate of its own yet");
            Reason {
                public: what.clone(),
                detail: what,
            }
        }));
        reasons
    }
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
        admin.pipeline.queued_outcomes(),
        &admin.distribution.all(),
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
    })
}

/// Lets operators through, and others to what is open.
async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads && OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let known = authenticate(&admin, request.headers()).await;
    match known {
        Ok(()) => next.run(request).await,
        Err(AuthnError::Unavailable(_) | AuthnError::Timeout(_)) => {
            let text = "the credential cannot be judged now; try again\n";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        Err(error) => {
            tracing::info!(%error, path = %request.uri().path(), "admin call refused");
            let challenge = [(WWW_AUTHENTICATE, "Bearer")];
            (
                StatusCode::UNAUTHORIZED,
                challenge,
                "an operator's credential is needed\n",
            )
                .into_response()
        }
    }
}

async fn authenticate(admin: &Admin, headers: &HeaderMap) -> Result<(), AuthnError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let header = values.next().ok_or(AuthnError::Missing)?;
    if values.next().is_some() {
        return Err(AuthnError::rejected("more than one authorization header"));
    }
    let text = header
        .to_str()
        .map_err(|_| AuthnError::rejected("authorization is not ASCII"))?;
    let operators = admin.operators.load_full();
    operators
        .authenticate(bearer(text)?, &admin.operator_names)
        .await
        .map(|_| ())
}
