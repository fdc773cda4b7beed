//! Validates a PodCertificateRequest, and checks before signing that the API server will accept the
//! certificate.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use kube::core::DynamicObject;
use serde::Deserialize;

use crate::authn::{Caller, Identity, Method, Pod};
use crate::clock::UnixTime;
use crate::cluster::ClusterConfig;
use crate::controllers::config::PodSigner;
use crate::controllers::signing_error::{Refusal, SigningError};
use crate::issuance::{IssuanceRequest, Issuer, Naming};
use crate::policy::{Profile, Scope};
use crate::x509::{Certificate, Csr, CsrError, CsrSubject, KeyError, KeyKind, San, SpiffeId};

/// The kind, as the ledger records it.
const KIND: &str = "PodCertificateRequest";
/// The shortest lifetime of a pod certificate.
pub(super) const SHORTEST: Duration = Duration::from_secs(3600);
/// The API server requires notBefore within five minutes of its clock; ten seconds are for signing and
/// for the request.
pub(super) const NEAR: Duration = Duration::from_secs(290);
/// The longest chain, in bytes of PEM.
const CHAIN: usize = 100 * 1024;
/// An upper bound for a leaf with the most names and the largest key, in bytes of PEM.
const LEAF: usize = 8 * 1024;
/// For the time between validation and signing.
const SLACK: Duration = Duration::from_secs(30);

/// The `spec` of v1 and v1beta1.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    signer_name: String,
    pod_name: String,
    #[serde(rename = "podUID")]
    pod_uid: String,
    service_account_name: String,
    node_name: String,
    max_expiration_seconds: Option<i64>,
    #[serde(rename = "stubPKCS10Request")]
    stub: Option<ByteString>,
    /// v1beta1's older form: a key, and its signature over the pod's UID.
    pkix_public_key: Option<ByteString>,
    proof_of_possession: Option<ByteString>,
    #[serde(default)]
    unverified_user_annotations: BTreeMap<String, String>,
}

/// The current time by two clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) now: UnixTime,
    pub(super) server: UnixTime,
}

/// A validated request; policy has not decided yet.
#[derive(Debug)]
pub(super) struct ValidRequest {
    caller: Caller,
    csr: Csr,
    names: Vec<San>,
    longest: Duration,
    uid: String,
}

/// Whether an object is not answered yet.
pub(super) fn is_open(object: &DynamicObject) -> bool {
    let conditions = object.data.pointer("/status/conditions");
    let answered = conditions.and_then(|list| list.as_array());
    object.metadata.deletion_timestamp.is_none() && answered.is_none_or(Vec::is_empty)
}

pub(super) fn validate(
    object: &DynamicObject,
    config: &PodSigner,
    cluster: &ClusterConfig,
    profile: &Profile,
) -> Result<ValidRequest, SigningError> {
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let uid = object.metadata.uid.clone().unwrap_or_default();
    if uid.is_empty() {
        return Err(SigningError::Retry("the object has no UID".to_owned()));
    }
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let spec: Spec = serde_json::from_value(spec)
        .map_err(|_| Refusal::failed("MalformedRequest", "its spec cannot be read"))?;
    if spec.signer_name != config.signer_name {
        return Err(SigningError::Retry("another signer's".to_owned()));
    }
    if !cluster.allows_namespace(&namespace) {
        let message = "the cluster may not speak for this namespace";
        return Err(Refusal::denied("NamespaceNotAllowed", message).into());
    }
    if let Some(name) = spec.unverified_user_annotations.keys().next() {
        let name = name.chars().take(100).collect::<String>();
        let message = format!("this signer knows no annotations, and not {name:?}");
        return Err(Refusal::denied("InvalidUnverifiedUserAnnotations", message).into());
    }
    let longest = spec.max_expiration_seconds.unwrap_or_default();
    let longest = Duration::from_secs(u64::try_from(longest).unwrap_or_default());
    let csr = key(&spec, profile)?;
    let own = SpiffeId::service_account(
        cluster.trust_domain(),
        &namespace,
        &spec.service_account_name,
    )
    .map_err(|error| Refusal::failed("MalformedRequest", error.to_string()))?;
    let mut names = Vec::new();
    for template in &config.dns_names {
        let name = template.fill(&namespace, &spec.service_account_name);
        names.push(San::Dns(name.map_err(|_| {
            Refusal::failed("NamesNotAllowed", "its account makes no DNS name")
        })?));
    }
    if !names.is_empty() {
        names.insert(0, San::Spiffe(own.clone()));
    }
    let caller = Caller {
        trust_domain: cluster.trust_domain().clone(),
        identity: Identity::Workload(own),
        method: Method::Object {
            kind: KIND,
            uid: uid.clone(),
        },
        cluster: Some(cluster.name().to_owned()),
        pod: Some(Pod {
            name: spec.pod_name,
            uid: spec.pod_uid,
            namespace,
        }),
        node: Some(spec.node_name),
        token_authenticated_at: None,
    };
    Ok(ValidRequest {
        caller,
        csr,
        names,
        longest,
        uid,
    })
}

/// The key of a request. A stub request must hold nothing else.
fn key(spec: &Spec, profile: &Profile) -> Result<Csr, Refusal> {
    let unsupported = |what: String| Refusal::denied("UnsupportedKeyType", what);
    let bytes = |field: &Option<ByteString>| field.as_ref().map(|b| b.0.clone());
    let read = match bytes(&spec.stub).filter(|stub| !stub.is_empty()) {
        Some(stub) => Csr::from_der(&stub),
        None => {
            let key = bytes(&spec.pkix_public_key).unwrap_or_default();
            let proof = bytes(&spec.proof_of_possession).unwrap_or_default();
            Csr::from_key(&key, spec.pod_uid.as_bytes(), &proof)
        }
    };
    let csr = read.map_err(|error| {
        match error {
        CsrError::Key(KeyError::Unsupported { .. } | KeyError::RsaSize { .. }) => {
            unsupported(error.to_string())
        }
        // Only in the older form, whose proof is an RSA-PSS signature.
        CsrError::ProofOfPossession(KeyError::AlgorithmMismatch { .. }) => unsupported(
            "RSA keys are certified by stubPKCS10Request only: use ECDSAP256, or update the kubelet"
                .to_owned(),
        ),
        error => Refusal::failed("MalformedRequest", error.to_string()),
    }
    })?;
    if !csr.names().is_empty() || *csr.subject() != CsrSubject::Empty {
        let message = "the stub request is not empty";
        return Err(Refusal::denied("StubRequestNotEmpty", message));
    }
    let kind = csr.public_key().kind();
    if matches!(kind, KeyKind::Rsa { bits } if bits != 3072 && bits != 4096)
        || !profile.certifies(kind)
    {
        return Err(unsupported(format!("{kind} keys are not certified here")));
    }
    Ok(csr)
}

impl ValidRequest {
    /// The object's UID.
    pub(super) fn uid(&self) -> &str {
        &self.uid
    }

    /// `spec.maxExpirationSeconds`.
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// The request for issuance of a certificate that the API server accepts, if it is signed now.
    pub(super) fn request(
        &self,
        profile: &Profile,
        issuer: &Issuer,
        clocks: Clocks,
    ) -> Result<IssuanceRequest, SigningError> {
        let path = issuer.path().map(|each| Certificate::to_pem(each).len());
        let ca = Ca {
            begins: issuer.not_before(),
            ends: issuer.not_after(),
            path: path.sum(),
        };
        let ttl = lifetime(profile, self.longest, ca, clocks)?;
        Ok(IssuanceRequest {
            caller: self.caller.clone(),
            csr: self.csr.clone(),
            profile: profile.name().to_owned(),
            naming: Naming::Spiffe,
            scope: match self.names.is_empty() {
                // Only the account's own SPIFFE ID.
                true => Scope::CallerName,
                false => Scope::Requested,
            },
            names: self.names.clone(),
            ttl: Some(ttl),
            node_authorization: None,
            idempotency_key: Some(format!(
                "{}|{KIND}|{}",
                self.caller.cluster.as_deref().unwrap_or_default(),
                self.uid
            )),
            request_id: format!("pod-{}", self.uid),
            lease: None,
        })
    }
}

/// The properties of an issuer that the API server's rules depend on.
#[derive(Clone, Copy, Debug)]
struct Ca {
    begins: UnixTime,
    ends: UnixTime,
    /// Its path in bytes of PEM.
    path: usize,
}

/// The remaining lifetime of a certificate that the API server accepts, if it is signed now.
fn lifetime(
    profile: &Profile,
    longest: Duration,
    ca: Ca,
    clocks: Clocks,
) -> Result<Duration, SigningError> {
    // The API server counts backdating as part of the lifetime.
    let usual = profile.backdate();
    let ttl = |backdate| profile.max_ttl().min(longest.saturating_sub(backdate));
    if ttl(usual) + usual < SHORTEST {
        let message = "the signer's profile gives less than an hour, which is the least";
        return Err(Refusal::failed("LifetimeNotAllowed", message).into());
    }
    let retry = |why: &str| Err(SigningError::Retry(why.to_owned()));
    let begins = clocks.now.minus(usual);
    // First: with a wrong clock the other checks are wrong too.
    if apart(begins, clocks.server) > NEAR {
        return retry("the API server's clock and this one differ by minutes");
    }
    if ca.begins > clocks.now {
        return retry("the issuing CA is not valid yet");
    }
    let (backdate, ttl) = match ca.begins > begins {
        false => (usual, ttl(usual)),
        // The issuer's notBefore limits backdating, which grows until the certificate is signed.
        true => {
            let backdate = clocks.now.since(ca.begins);
            (backdate, ttl(backdate + SLACK))
        }
    };
    if ttl + backdate < SHORTEST {
        return retry("the issuing CA is younger than the backdating: in a moment");
    }
    if ca.ends.since(clocks.now) + backdate < SHORTEST + SLACK {
        return retry("the issuing CA ends within the hour: its operator must renew it");
    }
    if ca.path + LEAF > CHAIN {
        let message = "the issuing CA's chain is too long for pod certificates";
        return Err(Refusal::failed("ChainTooLong", message).into());
    }
    Ok(ttl)
}

pub(super) fn apart(a: UnixTime, b: UnixTime) -> Duration {
    a.since(b).max(b.since(a))
}

#[cfg(test)]
mod tests;
