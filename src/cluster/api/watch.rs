//! One watch: the events of a collection, one on each line, until the API server ends it.

use std::error::Error;
use std::io;
use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, HeaderValue};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kube::core::WatchEvent;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::body::read;
use super::client::{ApiClient, LONGEST};
use super::collection::Collection;
use super::error::ApiError;
use crate::error_chain::error_chain;

/// The description of an error.
const MAX_STATUS: usize = 64 * 1024;

pub(in crate::cluster) struct Watch<T> {
    client: ApiClient,
    body: Incoming,
    /// What was read and not returned yet.
    buffer: BytesMut,
    /// So much of it holds no end of a line.
    searched: usize,
    held: Option<OwnedSemaphorePermit>,
    object: PhantomData<fn() -> T>,
}

impl ApiClient {
    /// Starts a watch that lasts `seconds`. The caller bounds how long it waits.
    pub(in crate::cluster) async fn watch<T>(
        &self,
        collection: &Collection,
        version: &str,
        seconds: u32,
    ) -> Result<Watch<T>, ApiError> {
        let mut request = collection.watch_request(version, seconds)?;
        // Kubernetes 1.37 compresses each event on its own, which kube's decompression does not read
        // (tower-rs/tower-http#737).
        let identity = HeaderValue::from_static("identity");
        request.headers_mut().insert(ACCEPT_ENCODING, identity);
        let (parts, body) = self.open(request).await?.into_parts();
        if !parts.status.is_success() {
            let body = read(body, MAX_STATUS, self.large_answers()).await;
            let body = body.as_deref().unwrap_or_default();
            return Err(ApiError::refusal(parts.status, body));
        }
        Ok(Watch {
            client: self.clone(),
            body,
            buffer: BytesMut::new(),
            searched: 0,
            held: None,
            object: PhantomData,
        })
    }
}

/// `None` for the last line, when it was cut.
pub(in crate::cluster) fn parse_event<T: DeserializeOwned>(
    line: &[u8],
) -> Result<Option<WatchEvent<T>>, ApiError> {
    match serde_json::from_slice(line) {
        Ok(event) => Ok(Some(event)),
        Err(error) if error.is_eof() => Ok(None),
        Err(error) => Err(ApiError::from_json(&error)),
    }
}

impl<T: DeserializeOwned> Watch<T> {
    /// `None` when the watch has ended. Cancel safe.
    pub(in crate::cluster) async fn next(&mut self) -> Result<Option<WatchEvent<T>>, ApiError> {
        let Some(line) = self.line().await? else {
            return Ok(None);
        };
        let event = parse_event(&line);
        if self.buffer.is_empty() {
            // It keeps the memory of the longest line, and the right to it.
            (self.buffer, self.held) = (BytesMut::new(), None);
        }
        event
    }

    async fn line(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                return Ok(Some(line.freeze()));
            }
            self.searched = self.buffer.len();
            if self.searched > LONGEST {
                let error = ApiError::TooLarge(LONGEST);
                self.client.distrust(&error);
                return Err(error);
            }
            let large = self.client.large_answers();
            large.admit(self.searched, &mut self.held).await;
            let frame = match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => {
                    self.searched = 0;
                    return Ok(Some(self.buffer.split().freeze()));
                }
                Some(Ok(frame)) => frame,
                // A server that stops, or a proxy on the way, cuts the stream.
                Some(Err(error)) if is_unexpected_end(&error) => return Ok(None),
                Some(Err(error)) => {
                    let error = error_chain(&error);
                    return Err(ApiError::Unreachable(format!(
                        "the watch broke off: {error}"
                    )));
                }
            };
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

fn is_unexpected_end(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = error.source();
    }
    false
}
