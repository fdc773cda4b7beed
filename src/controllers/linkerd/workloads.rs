//! Which roots a pod's proxy holds, and which workload the pod belongs to, from the pod's object alone.
//!
//! A proxy reads its roots once, when it starts. The injector writes their SHA-256 into an annotation.
//! Pods of the control plane are not injected: helm writes their annotation from a value that is empty
//! where the roots come from a ConfigMap, and they read the ConfigMap itself when they start. For them
//! it counts whether they were created after it last changed.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

const ROOTS: &str = "/metadata/annotations/linkerd.io~1trust-root-sha256";
const CONTROL_PLANE: &str = "/metadata/labels/linkerd.io~1control-plane-ns";
const COMPONENT: &str = "/metadata/labels/linkerd.io~1control-plane-component";
const TEMPLATE: &str = "/metadata/labels/pod-template-hash";
const PROXY: &str = "linkerd-proxy";

/// The roots in a control plane's ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublishedRoots {
    /// The control plane's.
    pub(super) namespace: String,
    /// SHA-256 of the value, in lower-case hexadecimal.
    pub(super) sha256: String,
    /// By the API server's clock.
    pub(super) changed_at: Option<Timestamp>,
}

/// The roots that a proxy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The published ones.
    Current,
    /// Earlier ones.
    Old,
    Unknown,
}

/// Pods that are started and restarted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Workload {
    pub namespace: String,
    /// `Deployment`, `StatefulSet`, `DaemonSet`, another owner's kind, or `Pod`.
    pub kind: String,
    pub name: String,
}

impl Workload {
    /// The command that restarts its pods; `None` where `kubectl` has none.
    pub fn restart(&self) -> Option<String> {
        let kind = match self.kind.as_str() {
            "Deployment" => "deployment",
            "StatefulSet" => "statefulset",
            "DaemonSet" => "daemonset",
            _ => return None,
        };
        // Users copy it into a shell.
        let plain = |text: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
            !text.starts_with('-') && text.bytes().all(plain)
        };
        (plain(&self.name) && plain(&self.namespace)).then(|| {
            let Self {
                name, namespace, ..
            } = self;
            format!("kubectl rollout restart {kind}/{name} -n {namespace}")
        })
    }
}

/// The pods of a workload by the roots that they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub current: usize,
    pub old: usize,
    pub unknown: usize,
}

impl Counts {
    pub fn needs_restart(self) -> bool {
        self.old + self.unknown > 0
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            current: self.current + other.current,
            old: self.old + other.old,
            unknown: self.unknown + other.unknown,
        }
    }
}

/// Counts a pod that is in this mesh and has not ended.
pub(super) fn count(found: &mut BTreeMap<Workload, Counts>, pod: &Value, roots: &PublishedRoots) {
    if !is_meshed(pod, &roots.namespace) {
        return;
    }
    let Some(workload) = workload(pod) else {
        return;
    };
    let counts = found.entry(workload).or_default();
    match state(pod, roots) {
        State::Current => counts.current += 1,
        State::Old => counts.old += 1,
        State::Unknown => counts.unknown += 1,
    }
}

/// Whether the pod has a proxy of the control plane in `namespace` and has not ended.
fn is_meshed(pod: &Value, namespace: &str) -> bool {
    if matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed")) {
        return false;
    }
    let labelled = text(pod, CONTROL_PLANE);
    if labelled.is_some_and(|named| named != namespace) {
        return false;
    }
    // The control plane's pods have the label although some of them have no proxy.
    (labelled.is_some() && text(pod, COMPONENT).is_none()) || has_proxy(pod)
}

fn has_proxy(pod: &Value) -> bool {
    let containers = ["/spec/containers", "/spec/initContainers"];
    let all = containers
        .iter()
        .filter_map(|at| pod.pointer(at)?.as_array());
    all.flatten().any(|each| text(each, "/name") == Some(PROXY))
}

fn state(pod: &Value, roots: &PublishedRoots) -> State {
    let own = text(pod, "/metadata/namespace") == Some(&roots.namespace);
    if own && text(pod, COMPONENT).is_some() {
        let created = text(pod, "/metadata/creationTimestamp");
        let created = created.and_then(|at| at.parse::<Timestamp>().ok());
        return match (created, roots.changed_at) {
            // Both are whole seconds: within the same second the pod may have been first.
            (Some(created), Some(changed)) if created > changed => State::Current,
            (Some(_), Some(_)) => State::Old,
            _ => State::Unknown,
        };
    }
    match text(pod, ROOTS) {
        Some(held) if held == roots.sha256 => State::Current,
        Some(_) => State::Old,
        None => State::Unknown,
    }
}

fn workload(pod: &Value) -> Option<Workload> {
    let namespace = text(pod, "/metadata/namespace")?.to_owned();
    let owners = pod.pointer("/metadata/ownerReferences");
    let mut owners = owners.and_then(Value::as_array).into_iter().flatten();
    let owner = owners.find(|each| each.get("controller") == Some(&Value::Bool(true)));
    let (kind, name) = match owner {
        Some(owner) => (text(owner, "/kind")?, text(owner, "/name")?),
        None => ("Pod", text(pod, "/metadata/name")?),
    };
    // A Deployment's ReplicaSets have its name and the hash of the pod template.
    let deployment = text(pod, TEMPLATE)
        .filter(|_| kind == "ReplicaSet")
        .and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
    Some(Workload {
        namespace,
        kind: deployment.map_or(kind, |_| "Deployment").to_owned(),
        name: deployment.unwrap_or(name).to_owned(),
    })
}

fn text<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    value.pointer(path).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    const NOW: &str = "aa";

    fn roots() -> PublishedRoots {
        PublishedRoots {
            namespace: "linkerd".to_owned(),
            sha256: NOW.to_owned(),
            changed_at: Some("2026-11-22T10:00:00Z".parse().unwrap()),
        }
    }

    fn pod(roots: Option<&str>) -> Value {
        let mut pod = json!({
            "metadata": {
                "name": "web-7d9c5b8f6d-x2x4z", "namespace": "shop",
                "labels": { "linkerd.io/control-plane-ns": "linkerd", "pod-template-hash": "7d9c5b8f6d" },
                "annotations": {},
                "ownerReferences": [
                    { "kind": "Other", "name": "no" },
                    { "kind": "ReplicaSet", "name": "web-7d9c5b8f6d", "controller": true },
                ],
            },
            "spec": { "containers": [{ "name": "linkerd-proxy" }, { "name": "web" }] },
            "status": { "phase": "Running" },
        });
        if let Some(roots) = roots {
            pod["metadata"]["annotations"]["linkerd.io/trust-root-sha256"] = roots.into();
        }
        pod
    }

    fn tally(pods: &[Value]) -> Vec<(String, (usize, usize, usize))> {
        let mut found = BTreeMap::new();
        for pod in pods {
            count(&mut found, pod, &roots());
        }
        let row = |(of, n): (Workload, Counts)| {
            let Workload {
                namespace,
                kind,
                name,
            } = of;
            (
                format!("{namespace} {kind} {name}"),
                (n.current, n.old, n.unknown),
            )
        };
        found.into_iter().map(row).collect()
    }

    #[test]
    fn pods_are_counted_by_workload() {
        let web = "shop Deployment web".to_owned();
        let pods = [pod(Some(NOW)), pod(Some("bb")), pod(Some("bb")), pod(None)];
        assert_eq!(tally(&pods), [(web.clone(), (1, 2, 1))]);
        for phase in ["Succeeded", "Failed"] {
            let mut ended = pod(Some("bb"));
            ended["status"]["phase"] = phase.into();
            assert_eq!(tally(&[ended]), []);
        }
        let mut pending = pod(Some("bb"));
        pending["status"]["phase"] = "Pending".into();
        assert_eq!(tally(&[pending]), [(web, (0, 1, 0))]);
    }

    #[test]
    fn the_workload_of_a_pod_is_its_controller() {
        for (kind, name, is) in [
            ("StatefulSet", "db", "shop StatefulSet db"),
            ("DaemonSet", "log", "shop DaemonSet log"),
            ("Job", "once", "shop Job once"),
            // Not a Deployment's: the name does not end with the hash.
            ("ReplicaSet", "web", "shop ReplicaSet web"),
            ("ReplicaSet", "7d9c5b8f6d", "shop ReplicaSet 7d9c5b8f6d"),
        ] {
            let mut owned = pod(None);
            let owner = json!({ "kind": kind, "name": name, "controller": true });
            owned["metadata"]["ownerReferences"] = json!([owner]);
            assert_eq!(tally(&[owned])[0].0, is);
        }
        let mut bare = pod(None);
        bare["metadata"]["ownerReferences"] = Value::Null;
        assert_eq!(tally(&[bare])[0].0, "shop Pod web-7d9c5b8f6d-x2x4z");
    }

    /// A native sidecar is an init container. Pods of another mesh, or of none, are not counted.
    #[test]
    fn only_pods_of_this_mesh_are_counted() {
        let mut native = pod(Some(NOW));
        native["metadata"]["labels"] = json!({});
        native["spec"] = json!({ "initContainers": [{ "name": "linkerd-proxy" }] });
        assert_eq!(tally(&[native.clone()]).len(), 1);
        native["spec"] = json!({ "containers": [{ "name": "proxy" }] });
        assert_eq!(tally(&[native.clone()]), []);
        native["metadata"]["labels"] = json!({ "linkerd.io/control-plane-ns": "linkerd" });
        assert_eq!(tally(&[native.clone()]).len(), 1);
        native["metadata"]["labels"]["linkerd.io/control-plane-component"] = "heartbeat".into();
        assert_eq!(tally(&[native]), []);
        let mut other = pod(Some(NOW));
        other["metadata"]["labels"]["linkerd.io/control-plane-ns"] = "linkerd-2".into();
        assert_eq!(tally(&[other]), []);
    }

    /// The annotation of the control plane's own pods is helm's: their age counts instead.
    #[test]
    fn pods_of_the_control_plane_are_classified_by_age() {
        let mut own = pod(Some("e3b0c442"));
        own["metadata"]["namespace"] = "linkerd".into();
        own["metadata"]["labels"]["linkerd.io/control-plane-component"] = "destination".into();
        let mut at = |time: Value| {
            own["metadata"]["creationTimestamp"] = time;
            tally(std::slice::from_ref(&own))[0].1
        };
        assert_eq!(at("2026-11-22T10:00:01Z".into()), (1, 0, 0));
        assert_eq!(at("2026-11-22T10:00:00Z".into()), (0, 1, 0));
        assert_eq!(at("2026-11-22T09:00:00Z".into()), (0, 1, 0));
        assert_eq!(at(Value::Null), (0, 0, 1));
        let mut timeless = roots();
        timeless.changed_at = None;
        own["metadata"]["creationTimestamp"] = "2026-11-22T10:00:01Z".into();
        assert_eq!(state(&own, &timeless), State::Unknown);
        // The label alone does not make a pod one of the control plane.
        own["metadata"]["namespace"] = "shop".into();
        assert_eq!(state(&own, &roots()), State::Old);
    }

    #[test]
    fn names_that_a_shell_would_interpret_make_no_command() {
        let of = |kind: &str, name: &str| {
            let (namespace, kind, name) = ("shop".to_owned(), kind.to_owned(), name.to_owned());
            Workload {
                namespace,
                kind,
                name,
            }
            .restart()
        };
        let command = "kubectl rollout restart deployment/web -n shop";
        assert_eq!(of("Deployment", "web").as_deref(), Some(command));
        assert_eq!(of("Deployment", "web;reboot"), None);
        assert_eq!(of("Deployment", "-x"), None);
        assert_eq!(of("Job", "once"), None);
    }
}
