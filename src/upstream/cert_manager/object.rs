//! A CertificateRequest, and what its conditions say.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::digest::{hex, sha256};
use crate::upstream::answer::{Answer, Submission, one_line};

pub(super) const GROUP: &str = "cert-manager.io";
pub(super) const KIND: &str = "CertificateRequest";
pub(super) const SHOWN: usize = 1000;

/// The part of a CertificateRequest that is used here.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CertificateRequest {
    api_version: String,
    kind: String,
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
    #[serde(default, skip_serializing)]
    status: Status,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    name: String,
    #[serde(default, skip_serializing)]
    namespace: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) uid: String,
    #[serde(default, skip_serializing)]
    pub(super) creation_timestamp: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    /// Base64 of the PEM.
    pub(super) request: String,
    #[serde(rename = "isCA", default)]
    is_ca: bool,
    #[serde(default)]
    duration: String,
    #[serde(default)]
    usages: Vec<String>,
    issuer_ref: IssuerRef,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
    /// Base64 of PEM, as `ca`.
    certificate: String,
    ca: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub(super) struct IssuerRef {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) group: String,
}

impl CertificateRequest {
    pub(super) fn new(name: &str, csr: &str, ttl: Duration, issuer_ref: IssuerRef) -> Self {
        Self {
            api_version: format!("{GROUP}/v1"),
            kind: KIND.to_owned(),
            metadata: Metadata {
                name: name.to_owned(),
                namespace: String::new(),
                uid: String::new(),
                creation_timestamp: String::new(),
            },
            spec: Spec {
                request: csr.to_owned(),
                is_ca: true,
                duration: format!("{}s", ttl.as_secs()),
                usages: ["cert sign", "crl sign"].map(str::to_owned).to_vec(),
                issuer_ref,
            },
            status: Status::default(),
        }
    }

    /// What its conditions say.
    pub(super) fn answer(&self) -> Answer {
        let Metadata { name, uid, .. } = &self.metadata;
        let conditions = || self.status.conditions.iter();
        let is_set =
            |kind: &str| conditions().find(|each| each.r#type == kind && each.status == "True");
        let ready = conditions().find(|each| each.r#type == "Ready");
        let failed = ready.filter(|ready| matches!(ready.reason.as_str(), "Failed" | "Denied"));
        // Denied first: its message is the approver's, and Ready's only repeats it.
        let refused = is_set("Denied")
            .or_else(|| is_set("InvalidRequest"))
            .or(failed);
        if let Some(refused) = refused {
            let Condition {
                reason, message, ..
            } = refused;
            let text = format!("{KIND} {name}: {} ({reason}): {message}", refused.r#type);
            return Answer::Refused(one_line(&text, SHOWN));
        }
        match ready.filter(|ready| ready.status == "True") {
            Some(_) => {
                let Status {
                    certificate, ca, ..
                } = &self.status;
                let parts = [certificate, ca].map(|part| STANDARD.decode(part).unwrap_or_default());
                Answer::Issued(parts.join(&b'\n'))
            }
            None => Answer::Pending {
                reference: format!("{}/{name}/{uid}", self.metadata.namespace),
                retry_after: None,
            },
        }
    }
}

/// Of the object: the same whenever the request is sent again, and another for each CSR.
pub(super) fn name(request: &Submission) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '-',
    };
    let id: String = request.id.chars().map(plain).collect();
    let digest = hex(&sha256(&request.csr));
    let short: String = id.chars().take(150).collect();
    format!(
        "rootbridge-{short}-{}",
        digest.get(..10).unwrap_or_default()
    )
}
