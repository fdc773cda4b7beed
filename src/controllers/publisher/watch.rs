//! What a cluster says of itself, as one stream that never ends: a watch that breaks is begun
//! again with the client as it then is, later and later while it keeps breaking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};

use super::desired::observe;
use super::error::said;
use super::kinds::Kinds;
use super::object_state::{ObjectKey, Observed};
use super::target::TargetConfig;
use crate::backoff::Backoff;
use crate::cluster::Cluster;

/// A watch ends at the server after so many seconds; one that says nothing for a little longer is
/// taken for dead.
const WATCH_SECS: u32 = 60;
/// Objects in one answer: each may be as large as etcd takes, whatever others have put into it.
const PAGE: u32 = 100;

/// What a watch says of things that are called by their key.
#[derive(Debug)]
pub(super) enum News<T> {
    /// All that exist follow.
    Begin,
    /// It exists, and did when the watch began.
    Listed(ObjectKey, T),
    /// All that exist have been said.
    Complete,
    /// It has come or changed.
    Changed(ObjectKey, T),
    /// It has gone; the version of its end.
    Gone(ObjectKey, u64),
    /// The watch is broken, and why; it comes again with [`News::Begin`].
    Broken(String),
}

/// What counts of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamespaceSeen {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) is_going: bool,
}

/// Every namespace of a cluster.
pub(super) fn namespaces(cluster: Arc<Cluster>) -> BoxStream<'static, News<NamespaceSeen>> {
    let open = move || {
        let client = cluster.connection().client().map_err(|down| down.why)?;
        let watch = watcher(Api::<PartialObjectMeta<Namespace>>::all(client), config());
        let watch = watch.map(|event| event.map(namespace_news).map_err(Failed::of));
        Ok(watch.boxed())
    };
    endless(open, |_| {})
}

fn namespace_news(event: Event<PartialObjectMeta<Namespace>>) -> News<NamespaceSeen> {
    news(event, |object| {
        let metadata = object.metadata;
        let version = metadata.resource_version.and_then(|text| text.parse().ok());
        let seen = NamespaceSeen {
            labels: metadata.labels.unwrap_or_default(),
            is_going: metadata.deletion_timestamp.is_some(),
        };
        (metadata.name, version.unwrap_or(0), seen)
    })
}

/// Every object of a target.
pub(super) fn objects(
    cluster: Arc<Cluster>,
    target: Arc<TargetConfig>,
    kinds: Arc<Kinds>,
) -> BoxStream<'static, News<Observed>> {
    let others = Arc::clone(&kinds);
    let open = move || {
        let client = cluster.connection().client().map_err(|down| down.why)?;
        let api = Api::all_with(client, kinds.resource());
        let name = format!("metadata.name={}", target.object());
        let target = Arc::clone(&target);
        let watch = watcher(api, config().fields(&name)).map(move |event| {
            let target = &target;
            let read = |event| {
                news(event, |object: kube::core::DynamicObject| {
                    let found = observe(target, &object);
                    (object.metadata.namespace, found.version, found)
                })
            };
            event.map(read).map_err(Failed::of)
        });
        Ok(watch.boxed())
    };
    // Where the server does not know one version of the kind, it may know another.
    endless(open, move |code| {
        if code == Some(404) {
            others.try_another();
        }
    })
}

fn news<K, T>(event: Event<K>, read: impl FnOnce(K) -> (ObjectKey, u64, T)) -> News<T> {
    match event {
        Event::Init => News::Begin,
        Event::InitApply(object) => {
            let (key, _, seen) = read(object);
            News::Listed(key, seen)
        }
        Event::InitDone => News::Complete,
        Event::Apply(object) => {
            let (key, _, seen) = read(object);
            News::Changed(key, seen)
        }
        Event::Delete(object) => {
            let (key, version, _) = read(object);
            News::Gone(key, version)
        }
    }
}

fn config() -> watcher::Config {
    watcher::Config::default()
        .timeout(WATCH_SECS)
        .page_size(PAGE)
}

/// A watch's failure: the status code where the server gave one, and what was said.
struct Failed(Option<u16>, String);

impl Failed {
    fn of(error: watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => {
                let code = match &error {
                    kube::Error::Api(status) => Some(status.code),
                    _ => None,
                };
                Self(code, said(&error))
            }
            watcher::Error::WatchError(status) => {
                let error = kube::Error::Api(status);
                Self(None, said(&error))
            }
            watcher::Error::NoResourceVersion => Self(None, error.to_string()),
        }
    }
}

type Watch<T> = BoxStream<'static, Result<News<T>, Failed>>;

fn endless<T: Send + 'static>(
    open: impl FnMut() -> Result<Watch<T>, String> + Send + 'static,
    failed: impl FnMut(Option<u16>) + Send + 'static,
) -> BoxStream<'static, News<T>> {
    let begin = Follow {
        open,
        failed,
        watch: None,
        backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(15)),
        wait: None,
    };
    let next = |mut follow: Follow<_, _, T>| async move {
        let news = follow.next().await;
        Some((news, follow))
    };
    stream::unfold(begin, next).boxed()
}

struct Follow<O, F, T> {
    open: O,
    failed: F,
    watch: Option<Watch<T>>,
    backoff: Backoff,
    wait: Option<Duration>,
}

impl<O, F, T> Follow<O, F, T>
where
    O: FnMut() -> Result<Watch<T>, String>,
    F: FnMut(Option<u16>),
{
    async fn next(&mut self) -> News<T> {
        if let Some(wait) = self.wait.take() {
            tokio::time::sleep(wait).await;
        }
        let watch = match &mut self.watch {
            Some(watch) => watch,
            None => match (self.open)() {
                Ok(watch) => self.watch.insert(watch),
                Err(why) => return self.broken(why),
            },
        };
        match watch.next().await {
            Some(Ok(news)) => {
                if matches!(news, News::Complete | News::Changed(..) | News::Gone(..)) {
                    self.backoff.reset();
                }
                news
            }
            Some(Err(Failed(code, why))) => {
                (self.failed)(code);
                self.broken(why)
            }
            None => self.broken("the watch ended".to_owned()),
        }
    }

    fn broken(&mut self, why: String) -> News<T> {
        self.watch = None;
        self.wait = Some(self.backoff.next_delay());
        News::Broken(why)
    }
}
