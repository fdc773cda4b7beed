//! The pods and service accounts of a cluster in memory. It may have a hundred thousand pods: names that
//! many share are stored once, UIDs as sixteen bytes, and nothing else is stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::cluster::follower::Versioned;
use crate::cluster::index::objects::{AccountObject, PodObject};
use crate::cluster::index::records::{AccountRecord, PodRecord, Uid, deletion};

/// The longest annotation that is stored, in bytes; a SHA-256 in hex has 64.
const MAX_ANNOTATION: usize = 128;

pub(super) trait Table: Default + Send + Sync + 'static {
    type Object: DeserializeOwned + Versioned + Send;
    /// Of the objects' collection.
    const PATH: &'static str;
    /// For the log.
    const KIND: &'static str;
    /// The most that [`Self::weight`] may be.
    const MAX_WEIGHT: usize;
    fn insert(&mut self, object: Self::Object);
    fn remove(&mut self, object: &Self::Object);
    fn len(&self) -> usize;
    /// About how many bytes it takes, and rather more: names that are shared count for each object.
    fn weight(&self) -> usize;
}

/// Of an object without its texts.
const BASE_WEIGHT: usize = 256;

type ByName<V> = HashMap<Arc<str>, HashMap<Arc<str>, V>>;

#[derive(Debug, Default)]
pub(super) struct Pods {
    by_name: ByName<Arc<PodRecord>>,
    by_node: HashMap<Arc<str>, Vec<Arc<PodRecord>>>,
    pool: StringPool,
    count: usize,
    weight: usize,
}

#[derive(Debug, Default)]
pub(super) struct Accounts {
    by_name: ByName<AccountRecord>,
    pool: StringPool,
    count: usize,
    weight: usize,
}

impl Pods {
    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<&Arc<PodRecord>> {
        self.by_name.get(namespace)?.get(name)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<PodRecord>> {
        self.by_name.values().flat_map(HashMap::values)
    }

    pub(super) fn on_node(&self, node: &str) -> &[Arc<PodRecord>] {
        self.by_node.get(node).map_or(&[], Vec::as_slice)
    }

    fn remove_named(&mut self, namespace: &str, name: &str) {
        let Some(within) = self.by_name.get_mut(namespace) else {
            return;
        };
        let Some(gone) = within.remove(name) else {
            return;
        };
        self.weight -= pod_weight(&gone);
        if within.is_empty() {
            self.by_name.remove(namespace);
        }
        if let Some(node) = &gone.node
            && let Some(pods) = self.by_node.get_mut(node)
        {
            pods.retain(|each| !Arc::ptr_eq(each, &gone));
            if pods.is_empty() {
                self.by_node.remove(node);
            }
        }
        self.count -= 1;
        let freed = [
            Some(&gone.namespace),
            Some(&gone.account),
            gone.node.as_ref(),
        ];
        let freed: Vec<_> = freed
            .into_iter()
            .chain([gone.trust_root.as_ref()])
            .flatten()
            .cloned()
            .collect();
        drop(gone);
        freed.into_iter().for_each(|text| self.pool.release(text));
    }
}

impl Table for Pods {
    type Object = PodObject;
    const PATH: &'static str = "/api/v1/pods";
    const KIND: &'static str = "pods";
    /// More than 100,000 pods. A new list is held beside the table that it replaces.
    const MAX_WEIGHT: usize = 40 * 1024 * 1024;

    fn insert(&mut self, object: PodObject) {
        let PodObject {
            metadata,
            spec,
            status,
        } = object;
        self.remove_named(&metadata.namespace, &metadata.name);
        let trust_root = metadata
            .annotations
            .as_ref()
            .and_then(|all| all.trust_root_sha256.as_deref())
            .filter(|text| (1..=MAX_ANNOTATION).contains(&text.len()))
            // Operators see it, and it must not control their terminals.
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        let node = Some(spec.node_name.as_str()).filter(|node| !node.is_empty());
        let pod = Arc::new(PodRecord {
            namespace: self.pool.intern(&metadata.namespace),
            name: metadata.name.as_str().into(),
            uid: Uid::of(&metadata.uid),
            account: self.pool.intern(&spec.service_account_name),
            node: node.map(|node| self.pool.intern(node)),
            trust_root: trust_root.map(|text| self.pool.intern(text)),
            in_linkerd: metadata.labels.as_ref().is_some_and(|labels| {
                labels.linkerd_namespace.is_some() && labels.linkerd_component.is_none()
            }),
            deletion: deletion(&metadata),
            ended: matches!(status.phase.as_str(), "Failed" | "Succeeded"),
        });
        self.weight += pod_weight(&pod);
        if let Some(node) = &pod.node {
            let there = self.by_node.entry(Arc::clone(node)).or_default();
            there.push(Arc::clone(&pod));
        }
        let within = self.by_name.entry(Arc::clone(&pod.namespace)).or_default();
        within.insert(Arc::clone(&pod.name), pod);
        self.count += 1;
    }

    fn remove(&mut self, object: &PodObject) {
        self.remove_named(&object.metadata.namespace, &object.metadata.name);
    }

    fn len(&self) -> usize {
        self.count
    }

    fn weight(&self) -> usize {
        self.weight
    }
}

impl Accounts {
    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<&AccountRecord> {
        self.by_name.get(namespace)?.get(name)
    }
}

impl Table for Accounts {
    type Object = AccountObject;
    const PATH: &'static str = "/api/v1/serviceaccounts";
    const KIND: &'static str = "service accounts";
    const MAX_WEIGHT: usize = 8 * 1024 * 1024;

    fn insert(&mut self, object: AccountObject) {
        let meta = object.metadata;
        let namespace = self.pool.intern(&meta.namespace);
        let account = AccountRecord {
            uid: Uid::of(&meta.uid),
            deletion: deletion(&meta),
        };
        self.weight += account_weight(&namespace, &meta.name, &account.uid);
        let within = self.by_name.entry(namespace).or_default();
        match within.insert(meta.name.as_str().into(), account) {
            None => self.count += 1,
            Some(before) => {
                self.weight -= account_weight(&meta.namespace, &meta.name, &before.uid);
            }
        }
    }

    fn remove(&mut self, object: &AccountObject) {
        let meta = &object.metadata;
        let Some((namespace, _)) = self.by_name.get_key_value(meta.namespace.as_str()) else {
            return;
        };
        let namespace = Arc::clone(namespace);
        if let Some(within) = self.by_name.get_mut(&namespace) {
            if let Some(gone) = within.remove(meta.name.as_str()) {
                self.count -= 1;
                self.weight -= account_weight(&namespace, &meta.name, &gone.uid);
            }
            if within.is_empty() {
                self.by_name.remove(&namespace);
            }
        }
        self.pool.release(namespace);
    }

    fn len(&self) -> usize {
        self.count
    }

    fn weight(&self) -> usize {
        self.weight
    }
}

fn pod_weight(pod: &PodRecord) -> usize {
    let texts = [Some(&pod.namespace), Some(&pod.name), Some(&pod.account)];
    let texts = texts
        .into_iter()
        .chain([pod.node.as_ref(), pod.trust_root.as_ref()]);
    let length: usize = texts.flatten().map(|text| text.len()).sum();
    BASE_WEIGHT + length + pod.uid.weight()
}

fn account_weight(namespace: &str, name: &str, uid: &Uid) -> usize {
    BASE_WEIGHT / 2 + namespace.len() + name.len() + uid.weight()
}

/// Strings that entries share, each stored once.
#[derive(Debug, Default)]
struct StringPool(HashSet<Arc<str>>);

impl StringPool {
    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }

    /// Removes `text` when no other entry uses it.
    fn release(&mut self, text: Arc<str>) {
        if Arc::strong_count(&text) <= 2 {
            self.0.remove(&text);
        }
    }
}

#[cfg(test)]
mod tests;
