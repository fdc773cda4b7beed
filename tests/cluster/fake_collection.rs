//! A collection of a fake API server: it is listed and watched as Kubernetes' are, by versions. An
//! event that is sent between a list and the watch after it is told to that watch.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::fake_api_server::{Answer, plain};

pub(crate) struct Collection {
    pub(crate) items: Mutex<Vec<Value>>,
    pub(crate) list: Mutex<Option<Answer>>,
    pub(crate) lists: AtomicUsize,
    pub(crate) watches: AtomicUsize,
    /// Watches are not answered.
    pub(crate) deaf: AtomicBool,
    /// Watches are refused with 403; lists are answered.
    pub(crate) refuses_watches: AtomicBool,
    /// What was sent; the version of the collection is how much that is.
    sent: watch::Sender<Vec<Sent>>,
}

#[derive(Clone)]
enum Sent {
    /// Told to each watch of an earlier version.
    Event(String),
    /// Told to one watch: an error, what cannot be read, or `None`, the watch's end.
    Once(Option<String>, Arc<AtomicBool>),
}

/// The query of a list or a watch.
#[derive(serde::Deserialize)]
pub(crate) struct Asked {
    watch: Option<String>,
    #[serde(default, rename = "timeoutSeconds")]
    seconds: u64,
    #[serde(default, rename = "resourceVersion")]
    version: String,
}

impl Collection {
    pub(crate) fn new() -> Self {
        Self {
            items: Mutex::default(),
            list: Mutex::default(),
            lists: AtomicUsize::new(0),
            watches: AtomicUsize::new(0),
            deaf: AtomicBool::new(false),
            refuses_watches: AtomicBool::new(false),
            sent: watch::channel(Vec::new()).0,
        }
    }

    /// Adds an object, and sends the event to watches.
    pub(crate) fn add(&self, object: Value) {
        let event = json!({ "type": "ADDED", "object": object });
        let mut items = self.items.lock().unwrap();
        items.push(object);
        self.send(&event);
    }

    /// Sends an event, whose object gets the collection's next version.
    pub(crate) fn send(&self, event: &Value) {
        let mut event = event.clone();
        self.sent.send_modify(|sent| {
            let metadata = event.pointer_mut("/object/metadata");
            let metadata = metadata.and_then(Value::as_object_mut);
            let readable = metadata.is_some();
            if let Some(metadata) = metadata {
                let version = (sent.len() + 1).to_string();
                metadata.insert("resourceVersion".to_owned(), version.into());
            }
            let line = format!("{event}\n");
            sent.push(match readable {
                true => Sent::Event(line),
                false => Sent::Once(Some(line), Arc::default()),
            });
        });
    }

    /// Ends a watch.
    pub(crate) fn cut(&self) {
        self.sent
            .send_modify(|sent| sent.push(Sent::Once(None, Arc::default())));
    }

    pub(crate) async fn answer(&self, asked: Asked) -> Response {
        if asked.watch.is_some() {
            return self.watch(&asked).await;
        }
        self.lists.fetch_add(1, Ordering::SeqCst);
        if let Some(answer) = self.list.lock().unwrap().clone() {
            return plain(answer);
        }
        let items = self.items.lock().unwrap();
        let version = self.sent.borrow().len().to_string();
        axum::Json(json!({ "metadata": { "resourceVersion": version }, "items": *items }))
            .into_response()
    }

    async fn watch(&self, asked: &Asked) -> Response {
        if self.deaf.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        self.watches.fetch_add(1, Ordering::SeqCst);
        if self.refuses_watches.load(Ordering::SeqCst) {
            return plain(Answer::Status(403));
        }
        let from: usize = asked.version.parse().expect("a version of a list");
        let start = (self.sent.subscribe(), from);
        let lines = futures_util::stream::unfold(start, |(mut sent, mut next)| async move {
            loop {
                let known = sent.wait_for(|sent| sent.len() > next).await.ok()?;
                let one = known[next].clone();
                drop(known);
                next += 1;
                let line = match one {
                    Sent::Event(line) => line,
                    Sent::Once(_, told) if told.swap(true, Ordering::SeqCst) => continue,
                    Sent::Once(line, _) => line?,
                };
                return Some((Ok::<_, std::io::Error>(Bytes::from(line)), (sent, next)));
            }
        });
        let end = tokio::time::sleep(Duration::from_secs(asked.seconds));
        Response::new(Body::from_stream(lines.take_until(end).boxed()))
    }
}
