//! One watch: the events of a collection, one on each line, until the API server ends it.

use std::error::Error;
use std::io;
use std::marker::PhantomData;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use http::header::{ACCEPT_ENCODING, HeaderValue};
use http_body_util::BodyExt as _;
use kube::core::WatchEvent;
use serde::de::DeserializeOwned;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

use super::client::{ApiClient, read};
use super::collection::Collection;
use super::error::ApiError;

/// The longest event in bytes: one object.
const MAX_EVENT: usize = 16 * 1024 * 1024;

/// The description of an error.
const MAX_STATUS: usize = 64 * 1024;

type Lines = FramedRead<StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>, LinesCodec>;

pub(in crate::cluster) struct Watch<T> {
    lines: Lines,
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
            let body = read(body, MAX_STATUS).await.unwrap_or_default();
            return Err(ApiError::refusal(parts.status, &body));
        }
        let bytes = body.into_data_stream().map_err(|error| {
            let kind = match is_unexpected_end(&error) {
                true => io::ErrorKind::UnexpectedEof,
                false => io::ErrorKind::Other,
            };
            io::Error::new(kind, error)
        });
        let lines = LinesCodec::new_with_max_length(MAX_EVENT);
        Ok(Watch {
            lines: FramedRead::new(StreamReader::new(bytes.boxed()), lines),
            object: PhantomData,
        })
    }
}

impl<T: DeserializeOwned> Watch<T> {
    /// `None` when the watch has ended.
    pub(in crate::cluster) async fn next(&mut self) -> Result<Option<WatchEvent<T>>, ApiError> {
        let line = match self.lines.next().await {
            None => return Ok(None),
            Some(Ok(line)) => line,
            Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
                return Err(ApiError::TooLarge(MAX_EVENT));
            }
            // A server that stops, or a proxy on the way, cuts the stream.
            Some(Err(LinesCodecError::Io(error)))
                if error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                return Ok(None);
            }
            Some(Err(LinesCodecError::Io(error))) => {
                return Err(ApiError::Unreachable(format!(
                    "the watch broke off: {error}"
                )));
            }
        };
        match serde_json::from_str(&line) {
            Ok(event) => Ok(Some(event)),
            // The last line was cut.
            Err(error) if error.is_eof() => Ok(None),
            Err(error) => Err(ApiError::from_json(&error)),
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
