//! The value that an object is to hold: one version of a bundle in the format of one target.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::object_state::{FIELD_MANAGER, Observed};
use super::target::{BundleFormat, TargetConfig, TargetKind};
use super::truststore::{self, ANNOTATION};
use crate::digest::sha256;
use crate::trust::PublishedBundle;
use crate::x509::TrustBundle;

/// The API server's limit for a ClusterTrustBundle, and for what an object in etcd can hold.
const MAX_SIZE: usize = 1024 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Desired {
    pub(super) bundle: Arc<PublishedBundle>,
    value: String,
    hash: [u8; 32],
    /// For a binary value: what it was made from.
    annotation: Option<String>,
}

impl TargetConfig {
    /// Whether an object of this target can hold a bundle.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn can_hold(&self, bundle: &TrustBundle) -> Result<(), String> {
        let bundle = Arc::new(PublishedBundle::new(bundle.clone()));
        Desired::new(&bundle, self)
            .map(drop)
            .map_err(|why| format!("target {}: {why}", self.name()))
    }
}

impl Desired {
    /// # Errors
    /// Why the bundle cannot be published; existing objects are then unchanged.
    pub(super) fn new(
        bundle: &Arc<PublishedBundle>,
        target: &TargetConfig,
    ) -> Result<Self, String> {
        let anchors = bundle.bundle.anchors();
        if anchors.is_empty() {
            return Err("the bundle is empty".to_owned());
        }
        if let Some(anchor) = anchors.iter().find(|anchor| !anchor.is_ca()) {
            return Err(format!(
                "{} is not a CA certificate (CA:TRUE)",
                anchor.subject()
            ));
        }
        let (value, hash, annotation) = match target.kind() {
            TargetKind::ConfigMap {
                format: BundleFormat::Truststore { kind, password },
                ..
            } => {
                let bytes = kind.write(bundle, password)?;
                let source = kind.source(bundle, password);
                let annotation = truststore::annotation(&source, &bytes);
                (STANDARD.encode(bytes), source, Some(annotation))
            }
            TargetKind::ConfigMap {
                format: BundleFormat::Pem,
                ..
            }
            | TargetKind::ClusterTrustBundle { .. } => {
                (bundle.pem.clone(), sha256(bundle.pem.as_bytes()), None)
            }
        };
        if value.len() > MAX_SIZE {
            return Err(format!(
                "{} bytes of anchors do not fit into an object",
                value.len()
            ));
        }
        Ok(Self {
            bundle: Arc::clone(bundle),
            value,
            hash,
            annotation,
        })
    }

    /// Whether an object holds the value and the target's labels.
    pub(super) fn is_in(&self, found: &Observed) -> bool {
        found.labels_match && found.value_hash == Some(self.hash)
    }

    /// The object for server-side apply: only the fields that this server manages.
    pub(super) fn object(&self, target: &TargetConfig, namespace: Option<&str>) -> Value {
        let mut metadata = json!({ "name": target.object() });
        if let Some(map) = metadata.as_object_mut() {
            if let Some(namespace) = namespace {
                map.insert("namespace".to_owned(), namespace.into());
            }
            if !target.labels().is_empty() {
                map.insert("labels".to_owned(), json!(target.labels()));
            }
        }
        if let (Some(map), Some(annotation)) = (metadata.as_object_mut(), &self.annotation) {
            map.insert("annotations".to_owned(), json!({ ANNOTATION: annotation }));
        }
        let field = if self.annotation.is_some() {
            "binaryData"
        } else {
            "data"
        };
        match target.kind() {
            TargetKind::ConfigMap { key, .. } => json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata,
                field: { key.as_str(): self.value },
            }),
            TargetKind::ClusterTrustBundle { signer_name } => {
                let mut spec = json!({ "trustBundle": self.value });
                if let (Some(spec), Some(signer)) = (spec.as_object_mut(), signer_name) {
                    spec.insert("signerName".to_owned(), signer.as_str().into());
                }
                json!({ "kind": "ClusterTrustBundle", "metadata": metadata, "spec": spec })
            }
        }
    }
}

/// Reads the fields of an object that a target manages.
pub(super) fn observe(target: &TargetConfig, object: &DynamicObject) -> Observed {
    let text = |field: &str, key: &str| {
        let value = object.data.get(field).and_then(|data| data.get(key));
        value.and_then(Value::as_str)
    };
    let value = match target.kind() {
        TargetKind::ConfigMap {
            key,
            format: BundleFormat::Truststore { .. },
            ..
        } => text("binaryData", key).and_then(|value| {
            let annotations = object.metadata.annotations.as_ref()?;
            let bytes = STANDARD.decode(value).ok()?;
            truststore::source_of(annotations.get(ANNOTATION)?, &bytes)
        }),
        TargetKind::ConfigMap { key, .. } => text("data", key).map(|text| sha256(text.as_bytes())),
        TargetKind::ClusterTrustBundle { .. } => {
            text("spec", "trustBundle").map(|text| sha256(text.as_bytes()))
        }
    };
    let labels = object.metadata.labels.as_ref();
    let has =
        |(label, value): (&String, &String)| labels.and_then(|all| all.get(label)) == Some(value);
    Observed {
        version: version(object),
        value_hash: value,
        labels_match: target.labels().iter().all(has),
        other_manager: other_manager(object),
    }
}

/// The resourceVersion, which grows with every change; 0 where it is not a number.
fn version(object: &DynamicObject) -> u64 {
    let version = object.metadata.resource_version.as_deref();
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The last field manager other than this server.
fn other_manager(object: &DynamicObject) -> Option<String> {
    let entries = object.metadata.managed_fields.as_ref()?.iter();
    let others = entries.filter(|entry| {
        entry
            .manager
            .as_deref()
            .is_some_and(|name| name != FIELD_MANAGER)
    });
    others
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
        .and_then(|entry| entry.manager.clone())
}
