//! Answers with data: Vault's envelope, whole in each of them.

use axum::response::{IntoResponse as _, Json, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

/// What a call is answered with.
#[derive(Debug)]
pub(super) enum Answer {
    /// An object in the envelope, with what was not taken of the request.
    Data { data: Value, warnings: Vec<String> },
    /// A login or a renewal.
    Auth(Value),
    /// 204.
    Nothing,
    /// Without an envelope.
    Raw {
        content_type: &'static str,
        body: Vec<u8>,
    },
    /// `sys/health` and `sys/seal-status`: an object without an envelope.
    Plain(StatusCode, Value),
}

impl Answer {
    pub(super) fn data(data: Value) -> Self {
        Self::Data {
            data,
            warnings: Vec::new(),
        }
    }

    pub(super) fn into_response(self, request_id: &str) -> Response {
        let (data, auth, warnings) = match self {
            Self::Data { data, warnings } => {
                let warnings = (!warnings.is_empty()).then_some(warnings);
                (data, Value::Null, json!(warnings))
            }
            Self::Auth(auth) => (Value::Null, auth, Value::Null),
            Self::Nothing => return StatusCode::NO_CONTENT.into_response(),
            Self::Raw { content_type, body } => {
                return ([(CONTENT_TYPE, content_type)], body).into_response();
            }
            Self::Plain(status, body) => return (status, Json(body)).into_response(),
        };
        Json(json!({
            "request_id": request_id,
            "lease_id": "",
            "renewable": false,
            "lease_duration": 0,
            "data": data,
            "wrap_info": null,
            "warnings": warnings,
            "auth": auth,
        }))
        .into_response()
    }
}
