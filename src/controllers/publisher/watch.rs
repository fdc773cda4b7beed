//! The watches of a publisher's session, as streams that never end.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::Resource as _;
use kube::core::{DynamicObject, PartialObjectMeta};
use serde::de::DeserializeOwned;

use super::desired::observe;
use super::kinds::Kinds;
use super::object_state::{ObjectKey, Observed};
use super::target::TargetConfig;
use crate::cluster::{
    ApiClient, ApiError, Cluster, Collection, Follower, Source, Versioned, WATCH_TIME, WatchEvent,
};

/// Objects in one answer: each may be as large as etcd takes, whatever others have put into it.
const PAGE_SIZE: u32 = 100;

/// What a watch reports of objects and their keys.
pub(super) type KeyedEvent<T> = WatchEvent<(ObjectKey, T)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamespaceState {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) is_terminating: bool,
}

/// Every namespace of a cluster.
pub(super) fn namespaces(cluster: &Cluster) -> BoxStream<'static, KeyedEvent<NamespaceState>> {
    let all = Collection::new(Namespace::url_path(&(), None)).metadata_only();
    let events = follow(cluster, all, "namespaces".to_owned());
    let state = |object: PartialObjectMeta<Namespace>| {
        let metadata = object.metadata;
        let state = NamespaceState {
            labels: metadata.labels.unwrap_or_default(),
            is_terminating: metadata.deletion_timestamp.is_some(),
        };
        (metadata.name, state)
    };
    events.map(move |event| event.map(state)).boxed()
}

/// Every object of a target.
pub(super) fn objects(
    cluster: &Cluster,
    target: Arc<TargetConfig>,
    kinds: Arc<Kinds>,
) -> BoxStream<'static, KeyedEvent<Observed>> {
    let what = format!("objects of bundle target {}", target.name());
    let source = TargetObjects {
        name: target.object().to_owned(),
        kinds: Arc::clone(&kinds),
    };
    let events = follow(cluster, source, what).map(move |event| {
        // The API server may serve another version of the kind.
        if let WatchEvent::Failed(error) = &event
            && error.code() == Some(404)
        {
            kinds.try_another();
        }
        event.map(|object: DynamicObject| {
            let observed = observe(&target, &object);
            (object.metadata.namespace, observed)
        })
    });
    events.boxed()
}

struct TargetObjects {
    name: String,
    kinds: Arc<Kinds>,
}

impl Source for TargetObjects {
    async fn locate(&self, _: &ApiClient) -> Result<Collection, ApiError> {
        let path = DynamicObject::url_path(self.kinds.resource(), None);
        let name = format!("metadata.name={}", self.name);
        Ok(Collection::new(path).fields(name).page_size(PAGE_SIZE))
    }
}

fn follow<T>(
    cluster: &Cluster,
    source: impl Source + Sync + 'static,
    what: String,
) -> BoxStream<'static, WatchEvent<T>>
where
    T: DeserializeOwned + Versioned + Send + 'static,
{
    let follower = Follower::new(cluster.connection(), source, what, WATCH_TIME);
    let next = |mut follower: Follower<T, _>| async move {
        let event = follower.next().await;
        Some((event, follower))
    };
    stream::unfold(follower, next).boxed()
}
