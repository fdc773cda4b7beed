//! Requests whose answers kube must not read for itself: it logs what it cannot read, and an
//! answer may hold a private key; and it keeps the headers to itself.

use bytes::Bytes;
use http::HeaderMap;
use kube::Client;
use kube::client::Body;
use kube::core::Status;

use crate::cluster::with_causes;

/// An error on one line: what the API server said, or why it was not asked.
pub(super) fn told(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("the API server says {}: {}", status.code, status.message);
    }
    with_causes(error)
}

/// The answer's headers and body; `None` when there is no such object.
pub(super) async fn send(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<Option<(HeaderMap, Bytes)>, kube::Error> {
    let response = client.send(request.map(Body::from)).await?;
    let (dependencies, body) = response.into_parts();
    let body = body.collect_bytes().await?;
    if dependencies.status == http::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if !dependencies.status.is_success() {
        let said = serde_json::from_slice::<Status>(&body).unwrap_or_else(|_| {
            let why = dependencies.status.canonical_reason().unwrap_or_default();
            Status::failure(why, why).with_code(dependencies.status.as_u16())
        });
        return Err(kube::Error::Api(Box::new(said)));
    }
    Ok(Some((dependencies.headers, body)))
}
