//! The size of every request's body, and the status of one that does not arrive whole.

use std::error::Error;

use axum::body::Body;
use axum::extract::Request;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tonic::Status;

use super::sds;
use crate::net::BodyError;

/// For health and reflection, which anyone may call: names of services.
pub(super) const SMALL: usize = 4 * 1024;
/// What gRPC puts before a message.
const PREFIX: usize = 5;
/// The services that have the small limit.
const SMALL_SERVICES: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];

/// Limits the body to one message of `limit` bytes. A stream of messages has the same limit as a whole,
/// but for those that go on for as long as the connection: their service limits each message.
pub(super) async fn bounded(limit: usize, request: Request) -> Request {
    let path = request.uri().path();
    if sds::STREAMS.contains(&path) {
        return request.map(|body| Body::new(body.map_err(|error| status(&error))));
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::stream;
    use tonic::Code;

    use super::*;

    /// What is read of a body in two parts.
    async fn read(path: &str, bytes: usize) -> Result<usize, Code> {
        let parts = [vec![0_u8; bytes / 2], vec![0_u8; bytes - bytes / 2]];
        let parts = parts.map(Ok::<_, std::io::Error>);
        let body = Body::from_stream(stream::iter(parts));
        let request = Request::post(path).body(body).unwrap();
        let body = bounded(65_536, request).await.into_body();
        let collected = body.collect().await.map(|body| body.to_bytes().len());
        collected.map_err(|error| error.into_inner().downcast::<Status>().unwrap().code())
    }

    #[tokio::test]
    async fn a_body_ends_at_its_limit() {
        for (path, limit) in [
            ("/grpc.health.v1.Health/Check", 4096 + 5),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                4096 + 5,
            ),
            (
                "/istio.v1.auth.IstioCertificateService/CreateCertificate",
                65_536 + 5,
            ),
            ("/v1/pki/sign/web", 65_536 + 5),
        ] {
            assert_eq!(read(path, limit).await, Ok(limit), "{path}");
            assert_eq!(read(path, limit + 1).await, Err(Code::OutOfRange), "{path}");
        }
    }
}
