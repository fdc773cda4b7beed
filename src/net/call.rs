//! A request in flight: what it holds, how much, and until when its body must have arrived.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::pool::Slot;
use super::request_memory::Share;

/// What a call costs beside its headers and bodies: its task, and the buffers of HTTP and gRPC.
pub(super) const CALL_BYTES: usize = 12 * 1024;
/// What a header costs beside its text.
const HEADER_BYTES: usize = 192;
/// The most that HTTP/2 gets of an answer at a time, since it keeps it until the client reads it.
const PART: usize = 16 * 1024;

/// Why a request's body does not arrive whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the request did not arrive whole within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("the memory for requests in flight is used up; try again")]
    Memory,
}

/// What a request costs without its body.
pub(super) fn head_bytes(headers: &HeaderMap) -> usize {
    let of = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        name.as_str().len() + value.len() + HEADER_BYTES
    };
    CALL_BYTES + headers.iter().map(of).sum::<usize>()
}

/// Held by a request's body, by the future of its answer, and by the answer's body.
#[derive(Debug)]
pub(super) struct Call {
    slot: Arc<Slot>,
    held: Mutex<Held>,
    head: usize,
}

#[derive(Debug)]
struct Held {
    share: Share,
    /// The bytes of a stream's messages that are not read yet; `None` while the body is one message.
    streamed: Option<usize>,
}

impl Call {
    /// `share` is of `head` bytes.
    pub(super) fn start(slot: Arc<Slot>, share: Share, head: usize) -> Arc<Self> {
        slot.call_starts();
        Arc::new(Self {
            slot,
            held: Mutex::new(Held {
                share,
                streamed: None,
            }),
            head,
        })
    }

    fn grow(&self, bytes: usize) -> bool {
        self.edit(|held| held.share.grow(bytes))
    }

    /// Bytes of the request's body have come.
    fn receive(&self, bytes: usize) -> bool {
        self.edit(|held| {
            let is_held = held.share.grow(bytes);
            if let (true, Some(streamed)) = (is_held, &mut held.streamed) {
                *streamed += bytes;
            }
            is_held
        })
    }

    /// The request is answered, so that its body is gone, unless it goes on beside the answer.
    fn answered(&self) {
        self.edit(|held| {
            let left = self.head + held.streamed.unwrap_or_default();
            held.share.shrink_to(left);
        });
    }

    fn is_stream(&self) -> bool {
        self.edit(|held| held.streamed.is_some())
    }

    fn edit<T>(&self, edit: impl FnOnce(&mut Held) -> T) -> T {
        edit(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.slot.call_ends();
    }
}

/// For an API whose request is a stream of messages that goes on beside the answer: in the extensions of
/// each request.
#[derive(Debug, Clone)]
pub struct RequestStream(Weak<Call>);

impl RequestStream {
    pub(super) fn new(call: &Arc<Call>) -> Self {
        Self(Arc::downgrade(call))
    }

    /// From now on the body has all the time of its connection. Its bytes are counted until
    /// [`Self::message_read`].
    pub fn begin(&self) {
        if let Some(call) = self.0.upgrade() {
            call.edit(|held| held.streamed = held.streamed.or(Some(0)));
        }
    }

    /// What has come of the body is read.
    pub fn message_read(&self) {
        if let Some(call) = self.0.upgrade() {
            call.edit(|held| {
                let read = held.streamed.as_mut().map(std::mem::take);
                let left = held.share.bytes().saturating_sub(read.unwrap_or_default());
                held.share.shrink_to(left);
            });
        }
    }
}

/// A request's body that counts what it holds, and ends in time.
#[derive(Debug)]
pub(super) struct RequestBody {
    inner: Incoming,
    call: Arc<Call>,
    within: Duration,
    deadline: Instant,
    /// Made when the body is waited for.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, call: Arc<Call>, within: Duration) -> Self {
        Self {
            inner,
            call,
            within,
            deadline: Instant::now() + within,
            sleep: None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            if self.call.is_stream() {
                return Poll::Pending;
            }
            let deadline = self.deadline;
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            ready!(sleep.as_mut().poll(cx));
            return Poll::Ready(Some(Err(BodyError::Timeout(self.within).into())));
        };
        let bytes = frame
            .as_ref()
            .and_then(|frame| frame.as_ref().ok()?.data_ref().map(Bytes::len));
        if !self.call.receive(bytes.unwrap_or_default()) {
            return Poll::Ready(Some(Err(BodyError::Memory.into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body that is given to HTTP/2 in parts, and counted until the last one is.
#[derive(Debug)]
pub(super) struct ResponseBody<B> {
    inner: B,
    rest: Bytes,
    call: Option<Arc<Call>>,
}

impl<B> ResponseBody<B> {
    pub(super) fn new(inner: B, call: Option<Arc<Call>>) -> Self {
        if let Some(call) = &call {
            call.answered();
        }
        Self {
            inner,
            rest: Bytes::new(),
            call,
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            };
            match frame.into_data() {
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                Ok(data) if data.len() <= PART => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(data)
                    if self
                        .call
                        .as_ref()
                        .is_some_and(|call| !call.grow(data.len())) =>
                {
                    return Poll::Ready(Some(Err(BodyError::Memory.into())));
                }
                Ok(data) => self.rest = data,
            }
        }
        let part = self.rest.len().min(PART);
        let part = self.rest.split_to(part);
        if let (true, Some(call)) = (self.rest.is_empty(), &self.call) {
            call.answered();
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.size_hint();
        let rest = self.rest.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
