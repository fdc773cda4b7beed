//! One request to an API server and its answer, whole and bounded.
//!
//! kube's own helpers write an answer that they do not understand to the log; an answer to a
//! TokenReview may hold the token. Here nothing of an answer is written anywhere.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;

use crate::error_chain::error_chain;

/// Why there is no answer to read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// It could not be reached, or broke off.
    #[error("the API server cannot be asked: {0}")]
    Transport(String),
    /// It answered with another status.
    #[error("the API server answered {status}{hint}", status = .0, hint = hint(*.0))]
    Status(StatusCode),
    /// The answer is longer than anybody expects.
    #[error("the API server's answer is too long or broke off")]
    Length,
    /// It took too long.
    #[error("the API server did not answer within {} ms", .0.as_millis())]
    Slow(Duration),
}

/// The answer's bytes, `most` of them at most, within `time`.
pub(super) async fn ask(
    client: &Client,
    request: Request<Vec<u8>>,
    most: usize,
    time: Duration,
) -> Result<Vec<u8>, RequestError> {
    let answer = async {
        let sent = client.send(request.map(Body::from)).await;
        let response = sent.map_err(|error| RequestError::Transport(error_chain(&error)))?;
        let status = response.status();
        if !status.is_success() {
            return Err(RequestError::Status(status));
        }
        let body = Limited::new(response.into_body(), most).collect().await;
        Ok(body.map_err(|_| RequestError::Length)?.to_bytes().to_vec())
    };
    match tokio::time::timeout(time, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(RequestError::Slow(time)),
    }
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => ": it does not take this server's credential",
        StatusCode::FORBIDDEN => ": this server's account lacks the right (RBAC)",
        StatusCode::TOO_MANY_REQUESTS => ": it is overloaded",
        _ => "",
    }
}
