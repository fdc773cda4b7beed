//! Bodies of answers: bounded each, and together for each API server.

use std::ops::Deref;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;
use crate::error_chain::error_chain;

/// What each answer may hold in bytes while others are large.
const SMALL: usize = 256 * 1024;

/// One answer or event at a time may be larger than a small one, from its reading until it is parsed:
/// what an API server can make this process hold does not grow with the number of requests.
#[derive(Clone, Debug)]
pub(super) struct LargeAnswers(Arc<Semaphore>);

impl Default for LargeAnswers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl LargeAnswers {
    /// Waits for the right to hold `length` bytes, if they are many. The caller bounds the time.
    pub(super) async fn admit(&self, length: usize, held: &mut Option<OwnedSemaphorePermit>) {
        if length > SMALL && held.is_none() {
            // The semaphore is never closed.
            *held = Arc::clone(&self.0).acquire_owned().await.ok();
        }
    }
}

/// A body that was read.
#[derive(Debug)]
pub(in crate::cluster) struct Body {
    pub(super) bytes: Bytes,
    _large: Option<OwnedSemaphorePermit>,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

pub(super) async fn read(
    mut body: Incoming,
    most: usize,
    large: &LargeAnswers,
) -> Result<Body, ApiError> {
    let (mut bytes, mut held) = (BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::Unreachable(error_chain(&error)))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = bytes.len() + data.len();
        if length > most {
            return Err(ApiError::TooLarge(most));
        }
        large.admit(length, &mut held).await;
        bytes.extend_from_slice(&data);
    }
    Ok(Body {
        bytes: bytes.freeze(),
        _large: held,
    })
}
