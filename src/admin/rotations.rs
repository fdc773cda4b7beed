//! `/v1/rotations`: rotations, for operators.

use std::sync::Arc;

use axum::extract::{Extension, Json, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::state::{Admin, Operator};
use crate::digest::from_hex;
use crate::issuance::CeremonyError;
use crate::ledger::{Actor, IssuerId, LedgerError, RotationKind};
use crate::rotation::{Remedy, RotationError, RotationStatus, StartOptions};
use crate::trust::rotation::Reason;
use crate::x509::{KeyKind, TrustDomain};

/// `GET /v1/rotations`.
#[derive(Debug, Serialize)]
struct Rotations {
    rotations: Vec<RotationStatus>,
}

/// `POST /v1/rotations/start`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    trust_domain: String,
    kind: String,
    key: Option<String>,
    token: Option<String>,
    /// SHA-256 in hexadecimal.
    anchor: Option<String>,
}

/// `POST /v1/rotations/advance`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Advance {
    trust_domain: String,
    /// Why it is moved in spite of what holds it back.
    force: Option<String>,
}

/// `POST /v1/rotations/back`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Back {
    trust_domain: String,
    reason: String,
}

/// `POST /v1/rotations/compromised`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compromised {
    trust_domain: String,
    /// Default: the one that signs.
    issuer: Option<String>,
    reason: String,
    /// The old keys are lost: a new root is made in this token.
    new_root_in: Option<String>,
    /// Otherwise nothing is changed, and the answer says what would be.
    confirmed: bool,
}

/// `POST /v1/rotations/gone`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gone {
    cluster: String,
    reason: String,
}

/// `POST /v1/rotations/forget`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forget {
    trust_domain: String,
    watcher: String,
    reason: String,
}

pub(super) async fn gone(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
    Json(gone): Json<Gone>,
) -> Response {
    if is_blank(&gone.reason) {
        return answer(StatusCode::BAD_REQUEST, NO_REASON, &[]);
    }
    let (rotations, by) = (&admin.rotations, actor(operator));
    let cluster = gone.cluster.trim();
    match rotations.declare_gone(cluster, &gone.reason, &by).await {
        Ok(()) => Json(json!({ "cluster": cluster })).into_response(),
        Err(error) => refused(&error),
    }
}

pub(super) async fn forget(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
    Json(forget): Json<Forget>,
) -> Response {
    let domain = match trust_domain(&forget.trust_domain) {
        Ok(domain) => domain,
        Err(why) => return answer(StatusCode::BAD_REQUEST, &why, &[]),
    };
    if is_blank(&forget.reason) {
        return answer(StatusCode::BAD_REQUEST, NO_REASON, &[]);
    }
    let (rotations, by) = (&admin.rotations, actor(operator));
    let (watcher, reason) = (&forget.watcher, &forget.reason);
    let done = rotations.forget_watcher(&domain, watcher, reason, &by);
    match done.await {
        Ok(()) => Json(json!({ "watcher": watcher })).into_response(),
        Err(error) => refused(&error),
    }
}

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response {
    match admin.rotations.status().await {
        Ok(rotations) => Json(Rotations { rotations }).into_response(),
        Err(error) => refused(&error),
    }
}

pub(super) async fn start(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
    Json(start): Json<Start>,
) -> Response {
    let options = match start.options() {
        Ok(options) => options,
        Err(why) => return answer(StatusCode::BAD_REQUEST, &why, &[]),
    };
    match admin.rotations.start(&options, &actor(operator)).await {
        Ok(id) => Json(json!({ "rotation": id.get() })).into_response(),
        Err(error) => refused(&error),
    }
}

pub(super) async fn advance(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
    Json(advance): Json<Advance>,
) -> Response {
    let domain = match trust_domain(&advance.trust_domain) {
        Ok(domain) => domain,
        Err(why) => return answer(StatusCode::BAD_REQUEST, &why, &[]),
    };
    let force = advance.force.as_deref();
    if force.is_some_and(is_blank) {
        return answer(StatusCode::BAD_REQUEST, NO_REASON, &[]);
    }
    let by = actor(operator);
    match admin.rotations.advance(&domain, force, &by).await {
        Ok(phase) => Json(json!({ "phase": phase.as_str() })).into_response(),
        Err(error) => refused(&error),
    }
}

pub(super) async fn back(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
    Json(back): Json<Back>,
) -> Response {
    let domain = match trust_domain(&back.trust_domain) {
        Ok(domain) => domain,
        Err(why) => return answer(StatusCode::BAD_REQUEST, &why, &[]),
    };
    if is_blank(&back.reason) {
        return answer(StatusCode::BAD_REQUEST, NO_REASON, &[]);
    }
    let by = actor(operator);
    match admin.rotations.back(&domain, &back.reason, &by).await {
        Ok(phase) => Json(json!({ "phase": phase.as_str() })).into_response(),
        Err(error) => refused(&error),
    }
}

pub(super) async fn compromised(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
    Json(call): Json<Compromised>,
) -> Response {
    let issuer = call.issuer.map(|id| id.parse::<IssuerId>()).transpose();
    let issuer = issuer.map_err(|error| error.to_string());
    let parsed = trust_domain(&call.trust_domain).and_then(|domain| Ok((domain, issuer?)));
    let (domain, issuer) = match parsed {
        Ok(parsed) => parsed,
        Err(why) => return answer(StatusCode::BAD_REQUEST, &why, &[]),
    };
    if is_blank(&call.reason) {
        return answer(StatusCode::BAD_REQUEST, NO_REASON, &[]);
    }
    let (rotations, by) = (&admin.rotations, actor(operator));
    let issuer = issuer.as_ref();
    let remedy = match call.new_root_in {
        Some(token) => Remedy::NewRoot { token },
        None => Remedy::SameRoot,
    };
    let done = match call.confirmed {
        true => {
            rotations
                .compromised(&domain, issuer, &remedy, &call.reason, &by)
                .await
        }
        false => rotations.compromise(&domain, issuer, &remedy).await,
    };
    match done {
        Ok(compromise) => Json(compromise).into_response(),
        Err(error) => refused(&error),
    }
}

impl Start {
    fn options(self) -> Result<StartOptions, String> {
        let anchor = |text: String| {
            let sha256 = from_hex(&text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            sha256.ok_or_else(|| format!("{text:?} is no SHA-256: 64 hexadecimal digits"))
        };
        let key = self.key.map(|key| KeyKind::for_ca(&key));
        Ok(StartOptions {
            trust_domain: trust_domain(&self.trust_domain)?,
            kind: self.kind.parse::<RotationKind>()?,
            key: key.transpose().map_err(|error| error.to_string())?,
            token: self.token,
            anchor: self.anchor.map(anchor).transpose()?,
        })
    }
}

const NO_REASON: &str = "the reason is empty: it is kept with what an operator does";

fn is_blank(reason: &str) -> bool {
    reason.trim().is_empty()
}

fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    TrustDomain::parse(text).map_err(|error| error.to_string())
}

fn actor(operator: Operator) -> Actor {
    Actor {
        name: operator.0,
        via: "admin".to_owned(),
        lease: None,
    }
}

fn refused(error: &RotationError) -> Response {
    let (status, held): (_, &[Reason]) = match error {
        RotationError::Held(held) | RotationError::NotForced(held) => {
            (StatusCode::CONFLICT, held.as_slice())
        }
        RotationError::Ledger(LedgerError::Unavailable { .. })
        | RotationError::Ceremony(CeremonyError::Hsm(_) | CeremonyError::Issue(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, &[])
        }
        RotationError::Ledger(LedgerError::Damaged(_)) => (StatusCode::INTERNAL_SERVER_ERROR, &[]),
        _ => (StatusCode::CONFLICT, &[]),
    };
    answer(status, &error.to_string(), held)
}

fn answer(status: StatusCode, error: &str, held: &[Reason]) -> Response {
    tracing::info!(error, "a rotation was not changed");
    (status, Json(json!({ "error": error, "held": held }))).into_response()
}
