//! What is kept of pods and service accounts. A hundred thousand pods are held, so names that many
//! share are kept once, UIDs as the sixteen bytes that they are, and nothing else at all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::objects::{AccountObject, PodObject};
use super::records::{AccountRecord, PodRecord, Uid, deletion};
use crate::cluster::follower::Versioned;

/// The longest annotation that is kept, in bytes; a SHA-256 in hex has 64.
const MAX_ANNOTATION: usize = 128;

/// A table that a watch keeps.
pub(super) trait Table: Default + Send + Sync + 'static {
    type Object: DeserializeOwned + Versioned + Send;
    /// Where its objects are listed.
    const PATH: &'static str;
    /// What they are called, for the log.
    const KIND: &'static str;
    fn insert(&mut self, object: Self::Object);
    fn remove(&mut self, object: &Self::Object);
    fn len(&self) -> usize;
}

type ByName<V> = HashMap<Arc<str>, HashMap<Arc<str>, V>>;

/// Every pod, by name and by node.
#[derive(Debug, Default)]
pub(super) struct Pods {
    by_name: ByName<Arc<PodRecord>>,
    by_node: HashMap<Arc<str>, Vec<Arc<PodRecord>>>,
    pool: StringPool,
    count: usize,
}

/// Every service account, by name.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    by_name: ByName<AccountRecord>,
    pool: StringPool,
    count: usize,
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
            .and_then(|all| all.trust_root.as_deref())
            .filter(|text| (1..=MAX_ANNOTATION).contains(&text.len()))
            // It is shown to operators, in whose terminals it must move nothing.
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
                labels.linkerd.is_some() && labels.linkerd_component.is_none()
            }),
            deletion: deletion(&metadata),
            ended: matches!(status.phase.as_str(), "Failed" | "Succeeded"),
        });
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

    fn insert(&mut self, object: AccountObject) {
        let meta = object.metadata;
        let namespace = self.pool.intern(&meta.namespace);
        let account = AccountRecord {
            uid: Uid::of(&meta.uid),
            deletion: deletion(&meta),
        };
        let within = self.by_name.entry(namespace).or_default();
        if within.insert(meta.name.as_str().into(), account).is_none() {
            self.count += 1;
        }
    }

    fn remove(&mut self, object: &AccountObject) {
        let meta = &object.metadata;
        let Some((namespace, _)) = self.by_name.get_key_value(meta.namespace.as_str()) else {
            return;
        };
        let namespace = Arc::clone(namespace);
        if let Some(within) = self.by_name.get_mut(&namespace) {
            if within.remove(meta.name.as_str()).is_some() {
                self.count -= 1;
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
}

/// Texts that many entries have in common, each kept once.
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

    /// Forgets `text` when the caller was the last that had it: nodes come and go.
    fn release(&mut self, text: Arc<str>) {
        if Arc::strong_count(&text) <= 2 {
            self.0.remove(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use serde_json::json;

    use super::*;
    use crate::clock::UnixTime;

    const UID: &str = "0b5a3f3e-1111-4222-8333-0123456789ab";

    fn pod(name: &str, node: &str, phase: &str) -> PodObject {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "shop", "uid": UID, "resourceVersion": "1",
                "deletionTimestamp": "1970-01-01T00:01:00Z",
                "annotations": { "linkerd.io/trust-root-sha256": "ab", "other": "x" },
                "labels": { "linkerd.io/control-plane-ns": "linkerd", "other": "x" },
            },
            "spec": { "serviceAccountName": "cart", "nodeName": node, "containers": [] },
            "status": { "phase": phase },
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_is_found_by_name_and_by_node() {
        let mut pods = Pods::default();
        pods.insert(pod("a", "", "Pending"));
        assert_eq!(pods.find("shop", "a").unwrap().node(), None);
        pods.insert(pod("a", "n1", "Running"));
        pods.insert(pod("b", "n1", "Succeeded"));
        assert_eq!((pods.len(), pods.on_node("n1").len()), (2, 2));
        let found = pods.find("shop", "a").unwrap();
        assert!(found.has_uid(UID) && !found.has_uid(&UID.to_uppercase()));
        assert_eq!(found.uid(), UID);
        assert_eq!(found.account(), "cart");
        assert_eq!(found.trust_root(), Some("ab"));
        assert!(found.is_injected_by_linkerd() && pods.all().count() == 2);
        assert_eq!(found.deletion(), Some(UnixTime::from_secs(60)));
        assert!(!found.has_ended() && pods.find("shop", "b").unwrap().has_ended());
        assert!(pods.find("shop", "c").is_none() && pods.find("other", "a").is_none());
    }

    /// The pod's author writes it: it is kept only where it could be a digest that somebody shows.
    #[test]
    fn odd_annotations_are_not_kept() {
        let of = |annotations: serde_json::Value| {
            let mut pods = Pods::default();
            let object: PodObject = serde_json::from_value(json!({
                "metadata": {
                    "name": "a", "namespace": "shop", "uid": UID, "resourceVersion": "1",
                    "annotations": annotations,
                },
            }))
            .unwrap();
            pods.insert(object);
            let found = pods.find("shop", "a").unwrap();
            let pooled = pods.pool.0.iter().map(|text| text.len()).sum::<usize>();
            assert!(pooled <= 200, "{pooled} bytes");
            found.trust_root().map(str::to_owned)
        };
        let digest = "0f".repeat(32);
        let key = "linkerd.io/trust-root-sha256";
        assert_eq!(of(json!({ key: digest.as_str() })), Some(digest.clone()));
        for odd in [
            String::new(),
            "ab".repeat(32) + "\n",
            "\u{1b}[31m".to_owned(),
            "a b".to_owned(),
            "\u{e4}".to_owned(),
            "\0".to_owned(),
            "a".repeat(129),
            "a".repeat(256 * 1024),
        ] {
            assert_eq!(of(json!({ key: odd.as_str() })), None, "{odd:.80?}");
        }
        for none in [
            json!(null),
            json!({}),
            json!({ key: null }),
            json!({ "linkerd.io/trust-root-sha256 ": digest.as_str() }),
            json!({ "Linkerd.io/trust-root-sha256": digest.as_str() }),
            json!({ "x".repeat(100_000): "y".repeat(100_000) }),
        ] {
            assert_eq!(of(none.clone()), None);
        }
    }

    /// This process in memory, in MiB.
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let number = line.split_whitespace().nth(1).unwrap();
        number.parse::<usize>().unwrap() / 1024
    }

    const ALONE: &str = "cluster::index::tables::tests::a_hundred_thousand_pods";

    /// In a process of its own, whose memory is nobody else's.
    #[test]
    fn a_hundred_thousand_pods_fit() {
        let run = Command::new(std::env::current_exe().unwrap())
            .args([ALONE, "--exact", "--ignored"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
    }

    /// Names as long as real ones: a deployment's pod has its replica set's hash and its own.
    #[test]
    #[ignore = "run by the test above, alone"]
    fn a_hundred_thousand_pods() {
        let before = resident();
        let mut pods = Pods::default();
        for n in 0..100_000_u32 {
            let object: PodObject = serde_json::from_value(json!({
                "metadata": {
                    "name": format!("checkout-service-{:04}-7d9c5b8f6d-{n:05}", n % 2000),
                    "namespace": format!("team-namespace-{:03}", n % 500),
                    "uid": format!("0b5a3f3e-1111-4222-8333-{n:012x}"),
                    "resourceVersion": n.to_string(),
                    "annotations": { "linkerd.io/trust-root-sha256": "ab".repeat(32) },
                },
                "spec": {
                    "serviceAccountName": format!("checkout-service-{:04}", n % 2000),
                    "nodeName": format!("ip-10-0-{}-{}.eu-west-1.compute.internal", n % 20, n % 50),
                },
                "status": { "phase": "Running" },
            }))
            .unwrap();
            pods.insert(object);
        }
        let grown = resident().saturating_sub(before);
        assert_eq!(pods.len(), 100_000);
        assert!(
            pods.find(
                "team-namespace-007",
                "checkout-service-0007-7d9c5b8f6d-00007"
            )
            .is_some()
        );
        // Kept well below the promise, because a list is held beside the table that it replaces.
        assert!(grown < 50, "{grown} MiB");
    }

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let mut pods = Pods::default();
        for round in 0..3 {
            let node = format!("n{round}");
            pods.insert(pod("a", &node, "Running"));
            pods.insert(pod("a", &node, "Running"));
            pods.remove(&pod("a", &node, "Running"));
            pods.remove(&pod("a", &node, "Running"));
        }
        assert_eq!(pods.len(), 0);
        assert!(pods.by_name.is_empty() && pods.by_node.is_empty());
        assert!(pods.pool.0.is_empty(), "{:?}", pods.pool);
        let mut accounts = Accounts::default();
        let object: AccountObject = serde_json::from_value(json!({
            "metadata": { "name": "cart", "namespace": "shop", "uid": "odd", "resourceVersion": "1" }
        }))
        .unwrap();
        accounts.insert(object.clone());
        accounts.insert(object.clone());
        assert!(accounts.find("shop", "cart").unwrap().has_uid("odd"));
        assert_eq!(accounts.len(), 1);
        accounts.remove(&object);
        assert_eq!(accounts.len(), 0);
        assert!(accounts.by_name.is_empty() && accounts.pool.0.is_empty());
    }
}
