//! The size of every request's body, and the status of one that does not arrive whole.

use std::error::Error;

use axum::body::Body;
use axum::extract::Request;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tonic::Status;

use crate::net::BodyError;

/// For health and reflection, which anyone may call: names of services.
pub(super) const SMALL: usize = 4 * 1024;
/// What gRPC puts before a message.
const PREFIX: usize = 5;
/// The services that have the small limit.
const SMALL_SERVICES: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];

/// Limits the body to one message of `limit` bytes. A stream of messages has the same limit as a whole.
pub(super) async fn bounded(limit: usize, request: Request) -> Request {
    let path = request.uri().path();
    let is_small = SMALL_SERVICES
        .iter()
        .any(|service| path.starts_with(service));
    let limit = PREFIX + if is_small { SMALL } else { limit };
    request.map(|body| Body::new(Limited::new(body, limit).map_err(|error| status(&*error))))
}

fn status(error: &(dyn Error + Send + Sync + 'static)) -> Status {
    if error.is::<LengthLimitError>() {
        return Status::out_of_range("the request is too large");
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref() {
            Some(BodyError::Timeout(_)) => return Status::deadline_exceeded(error.to_string()),
            Some(BodyError::Memory) => return Status::resource_exhausted(error.to_string()),
            None => cause = error.source(),
        }
    }
    Status::unavailable("the request did not arrive whole")
}
