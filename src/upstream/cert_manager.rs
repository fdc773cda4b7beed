//! cert-manager in a cluster: a `CertificateRequest` with `isCA`, for any issuer that is set up there.
//!
//! The request is an object, which is there for everybody to see, approve and deny. It is created and
//! read, and never changed or deleted: what became of it stays in the cluster.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable, one_line};
use super::raw::{RawUpstream, required};
use crate::clock::SystemClock;
use crate::cluster::{
    ApiClient, ApiError, ClusterConfig, Inspector, Permission, connect_once, is_label, is_subdomain,
};
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::digest::{hex, sha256};

const GROUP: &str = "cert-manager.io";
const KIND: &str = "CertificateRequest";
const SHOWN: usize = 1000;
/// How long an object that has been decided is the answer to a request that is sent again, as after a
/// crash. A later one is another attempt, and gets an object of its own.
const RECENT: Duration = Duration::from_secs(15 * 60);
/// Objects for one request.
const MOST: u32 = 50;

/// `kind = "cert-manager"` of `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertManagerConfig {
    cluster: String,
    /// Once it is known that there is one of that name.
    target: Option<ClusterConfig>,
    namespace: String,
    issuer: IssuerRef,
    timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
struct IssuerRef {
    name: String,
    kind: String,
    group: String,
}

impl CertManagerConfig {
    pub(super) fn from_raw(raw: &mut RawUpstream, timeout: Duration) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let cluster = issues.collect(required(raw.cluster.take(), "cluster"));
        let namespace = issues.collect(required(raw.namespace.take(), "namespace"));
        let name = issues.collect(required(raw.issuer.take(), "issuer"));
        let kind = raw
            .issuer_kind
            .take()
            .unwrap_or_else(|| "Issuer".to_owned());
        let group = raw.issuer_group.take().unwrap_or_else(|| GROUP.to_owned());
        for (key, value, fits) in [
            ("namespace", &namespace, is_label as fn(&str) -> bool),
            ("issuer", &name, is_subdomain),
            ("issuer_group", &Some(group.clone()), is_subdomain),
        ] {
            if let Some(value) = value.as_ref().filter(|value| !fits(value)) {
                let problem = format_args!("{value:?} is no name in a cluster");
                issues.push(ConfigIssue::new(key, problem));
            }
        }
        let is_kind = kind.starts_with(|c: char| c.is_ascii_uppercase())
            && kind.chars().all(|c| c.is_ascii_alphanumeric());
        issues.require(
            is_kind,
            "issuer_kind",
            "is no kind, such as Issuer or ClusterIssuer",
        );
        let value = || {
            Some(Self {
                cluster: cluster?,
                target: None,
                namespace: namespace?,
                issuer: IssuerRef {
                    name: name?,
                    kind,
                    group,
                },
                timeout,
            })
        };
        issues.into_result(value())
    }

    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    pub(super) fn set_target(&mut self, target: &ClusterConfig) {
        self.target = Some(target.clone());
    }

    pub(super) fn permissions(&self, why: &str) -> [Permission; 2] {
        ["create", "get"].map(|verb| {
            Permission::new(verb, GROUP, "certificaterequests", why).within(&self.namespace)
        })
    }

    pub(super) fn permissions(&self, why: &str) -> [Permission; 2] {
        ["create", "get"].map(|verb| {
            Permission::new(verb, GROUP, "certificaterequests", why).within(&self.namespace)
        })
    }

    fn path(&self) -> String {
        format!(
            "/apis/{GROUP}/v1/namespaces/{}/certificaterequests",
            self.namespace
        )
    }
}

/// The part of a CertificateRequest that is used here.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateRequest {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
    #[serde(default, skip_serializing)]
    status: Status,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(default, skip_serializing)]
    creation_timestamp: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    /// Base64 of the PEM.
    request: String,
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

#[derive(Debug)]
pub(super) struct CertManagerCa(CertManagerConfig);

impl CertManagerCa {
    pub(super) fn new(config: CertManagerConfig) -> Self {
        Self(config)
    }

    /// With the kubeconfig as it is now.
    async fn client(&self) -> Result<ApiClient, Unreachable> {
        let client = async {
            let target = self
                .0
                .target
                .as_ref()
                .ok_or("it is not in the configuration")?;
            connect_once(target, std::sync::Arc::new(SystemClock)).await
        };
        client.await.map_err(|why: String| self.failed(&why))
    }

    fn failed(&self, why: &str) -> Unreachable {
        Unreachable::new(format!("cluster {}: {why}", self.0.cluster))
    }

    fn refused(&self, error: &ApiError) -> Unreachable {
        self.failed(&error.to_string())
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, Unreachable>>,
    ) -> Result<T, Unreachable> {
        let answer = tokio::time::timeout(self.0.timeout, call).await;
        answer.unwrap_or_else(|_| {
            let after = self.0.timeout.as_secs();
            Err(self.failed(&format!("no answer within {after} s")))
        })
    }

    async fn create(&self, request: &Submission) -> Result<Answer, Unreachable> {
        let client = self.client().await?;
        let csr = STANDARD.encode(request.csr_pem());
        let (base, path) = (name(request), self.0.path());
        for number in 1..=MOST {
            let name = match number {
                1 => base.clone(),
                number => format!("{base}-{number}"),
            };
            let object = CertificateRequest {
                api_version: format!("{GROUP}/v1"),
                kind: KIND.to_owned(),
                metadata: Metadata {
                    name: name.clone(),
                    uid: String::new(),
                    creation_timestamp: String::new(),
                },
                spec: Spec {
                    request: csr.clone(),
                    is_ca: true,
                    duration: format!("{}s", request.ttl.as_secs()),
                    usages: ["cert sign", "crl sign"].map(str::to_owned).to_vec(),
                    issuer_ref: self.0.issuer.clone(),
                },
                status: Status::default(),
            };
            match client.create(&path, &object).await {
                Ok(created) => return Ok(self.answer(&created)),
                Err(error) if error.code() == Some(409) => {}
                // What the API server's schema or a webhook does not accept.
                Err(error) if matches!(error.code(), Some(400 | 422)) => {
                    return Ok(Answer::Refused(one_line(&error.to_string(), SHOWN)));
                }
                Err(error) => return Err(self.refused(&error)),
            }
            let found = client.get_with_date::<CertificateRequest>(&path, &name);
            let Some((found, now)) = found.await.map_err(|error| self.refused(&error))? else {
                // Deleted in between.
                return Err(self.failed(&format!("{KIND} {name} came and went")));
            };
            if found.spec.request != csr {
                return Err(self.failed(&format!("{KIND} {name} is there, with another CSR")));
            }
            let answer = self.answer(&found);
            let created: Option<jiff::Timestamp> = found.metadata.creation_timestamp.parse().ok();
            let age = created.map_or(i64::MAX, |at| now.secs().saturating_sub(at.as_second()));
            let is_recent = age < RECENT.as_secs().cast_signed();
            if is_recent || matches!(answer, Answer::Pending { .. }) {
                return Ok(answer);
            }
        }
        let why = format!("there are {MOST} objects {KIND} for this request: delete {base}*");
        Err(self.failed(&why))
    }

    async fn look(&self, reference: &str) -> Result<Answer, Unreachable> {
        let client = self.client().await?;
        let parts: Vec<&str> = reference.split('/').collect();
        // Of another namespace, where the configuration has changed.
        let [namespace, name, uid] = parts[..] else {
            return Ok(Answer::Forgotten);
        };
        if namespace != self.0.namespace {
            return Ok(Answer::Forgotten);
        }
        let found = client.get::<CertificateRequest>(&self.0.path(), name).await;
        match found.map_err(|error| self.refused(&error))? {
            // One that was deleted and made again by somebody else is another request.
            Some(found) if found.metadata.uid == uid => Ok(self.answer(&found)),
            _ => Ok(Answer::Forgotten),
        }
    }

    fn answer(&self, object: &CertificateRequest) -> Answer {
        let Metadata { name, uid, .. } = &object.metadata;
        let conditions = || object.status.conditions.iter();
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
                } = &object.status;
                let parts = [certificate, ca].map(|part| STANDARD.decode(part).unwrap_or_default());
                Answer::Issued(parts.join(&b'\n'))
            }
            None => Answer::Pending {
                reference: format!("{}/{name}/{uid}", self.0.namespace),
                retry_after: None,
            },
        }
    }

    async fn found(&self) -> Result<Vec<String>, Unreachable> {
        let Some(target) = &self.0.target else {
            return Err(self.failed("it is not in the configuration"));
        };
        let inspector = Inspector::new(target, std::sync::Arc::new(SystemClock)).await;
        let inspector = inspector.map_err(|why| self.failed(&why))?;
        let server = inspector.server_info().await;
        let server = server.map_err(|why| self.failed(&why))?;
        let mut found = vec![format!("it answers: Kubernetes {}", server.version)];
        for needed in self.0.permissions("") {
            let has = inspector.has_permission(&needed).await;
            if !has.map_err(|why| self.failed(&why))? {
                return Err(self.failed(&format!("this server's account may not {needed}")));
            }
        }
        found.push("the credential may create and get certificaterequests".to_owned());
        // The kind of the group that decides which signer; who may not read it can still ask.
        let client = self.client().await?;
        client
            .get_path::<serde_json::Value>(&format!("/apis/{GROUP}/v1"))
            .await
            .map_err(|error| self.refused(&error))?
            .ok_or_else(|| self.failed("cert-manager's resources are not installed"))?;
        let IssuerRef { name, kind, .. } = &self.0.issuer;
        found.push(format!(
            "cert-manager is installed; whether {kind} {name} signs CAs is only seen by a request"
        ));
        Ok(found)
    }
}

/// Of the object: the same whenever the request is sent again, and another for each CSR.
fn name(request: &Submission) -> String {
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

impl UpstreamCa for CertManagerCa {
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.within(self.create(request)).boxed()
    }

    fn poll<'a>(
        &'a self,
        _: &'a Submission,
        reference: &'a str,
    ) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.within(self.look(reference)).boxed()
    }

    fn test(&self) -> BoxFuture<'_, Result<Vec<String>, Unreachable>> {
        self.within(self.found()).boxed()
    }
}
