//! Requests whose answers kube must not read for itself: it logs what it cannot read, and an
//! answer may hold a private key; and it keeps the headers to itself.

use bytes::Bytes;
use http::HeaderMap;
use kube::Client;
use kube::client::Body;
use kube::core::Status;

use crate::error_chain::error_chain;

/// An error on one line: what the API server said, or why it was not asked.
pub(super) fn told(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("the API server says {}: {}", status.code, status.message);
    }
    error_chain(error)
}

/// The answer's headers and body; `None` when there is no such object.
pub(super) async fn send(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<Option<(HeaderMap, Bytes)>, kube::Error> {
    let response = client.send(request.map(Body::from)).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect_bytes().await?;
    if parts.status == http::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if !parts.status.is_success() {
        let said = serde_json::from_slice::<Status>(&body).unwrap_or_else(|_| {
            let why = parts.status.canonical_reason().unwrap_or_default();
            Status::failure(why, why).with_code(parts.status.as_u16())
        });
        return Err(kube::Error::Api(Box::new(said)));
    }
    Ok(Some((parts.headers, body)))
}
