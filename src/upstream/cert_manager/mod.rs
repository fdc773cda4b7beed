//! cert-manager in a cluster: a `CertificateRequest` with `isCA`, for any issuer that is set up there.
//!
//! The request is an object, which is there for everybody to see, approve and deny. It is created and
//! read, and never changed or deleted: what became of it stays in the cluster.

mod config;
mod object;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable, one_line};
use crate::clock::SystemClock;
use crate::cluster::{ApiClient, ApiError, Inspector, connect_once};

pub(super) use config::CertManagerConfig;
use object::{CertificateRequest, GROUP, IssuerRef, KIND, SHOWN, name};

/// How long an object that has been decided is the answer to a request that is sent again, as after a
/// crash. A later one is another attempt, and gets an object of its own.
const RECENT: Duration = Duration::from_secs(15 * 60);
/// Objects for one request.
const MOST: u32 = 50;

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
            Err(self.failed(&format!("timed out: no answer within {after} s")))
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
            let issuer = self.0.issuer.clone();
            let object = CertificateRequest::new(&name, &csr, request.ttl, issuer);
            match client.create(&path, &object).await {
                Ok(created) => return Ok(created.answer()),
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
            let answer = found.answer();
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
            Some(found) if found.metadata.uid == uid => Ok(found.answer()),
            _ => Ok(Answer::Forgotten),
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
