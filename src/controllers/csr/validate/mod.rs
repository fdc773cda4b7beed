//! Validates a CertificateSigningRequest and turns it into a request for issuance.

use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use crate::authn::{Caller, Identity, Method};
use crate::cluster::ClusterConfig;
use crate::controllers::config::{Account, CsrSigner};
use crate::controllers::signing_error::{Refusal, SigningError};
use crate::issuance::{IssuanceRequest, Naming};
use crate::policy::{Profile, Scope};
use crate::x509::{Csr, ExtendedKeyUsage, San, SpiffeId};

/// The kind, as the ledger records it.
const KIND: &str = "CertificateSigningRequest";

/// Whether an object is approved and not answered.
pub(super) fn is_open(csr: &CertificateSigningRequest) -> bool {
    let status = csr.status.as_ref();
    let has = |kind: &str| {
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == kind && c.status == "True"))
    };
    let answered = status
        .and_then(|status| status.certificate.as_ref())
        .is_some_and(|pem| !pem.0.is_empty());
    csr.metadata.deletion_timestamp.is_none()
        && has("Approved")
        && !has("Denied")
        && !has("Failed")
        && !answered
}

pub(super) fn validate(
    object: &CertificateSigningRequest,
    config: &CsrSigner,
    cluster: &ClusterConfig,
    profile: &Profile,
) -> Result<IssuanceRequest, SigningError> {
    let uid = object.metadata.uid.clone().unwrap_or_default();
    if uid.is_empty() {
        return Err(SigningError::Retry("the object has no UID".to_owned()));
    }
    let requester = requester(object, config, cluster)?;
    usages(object, profile)?;
    let csr = Csr::from_pem(&object.spec.request.0)
        .map_err(|error| Refusal::failed("MalformedRequest", error.to_string()))?;
    // Without a name the certificate would be for the requester, which forwards the requests of
    // workloads.
    if csr.names().is_empty() {
        let message = "the CSR has no subject alternative name";
        return Err(Refusal::failed("NamesNotAllowed", message).into());
    }
    namespaces(csr.names(), cluster)?;
    let caller = Caller {
        trust_domain: cluster.trust_domain().clone(),
        identity: Identity::Workload(requester),
        method: Method::Object {
            kind: KIND,
            uid: uid.clone(),
        },
        cluster: Some(cluster.name().to_owned()),
        pod: None,
        node: None,
        token_authenticated_at: None,
    };
    Ok(IssuanceRequest {
        caller,
        // Explicit: a profile that ignores the CSR's names would otherwise use the requester's.
        names: csr.names().to_vec(),
        csr,
        profile: profile.name().to_owned(),
        ttl: lifetime(object, profile),
        naming: Naming::Spiffe,
        scope: Scope::Requested,
        node_authorization: None,
        idempotency_key: Some(format!("{}|{KIND}|{uid}", cluster.name())),
        request_id: format!("csr-{uid}"),
        lease: None,
    })
}

/// The SPIFFE ID of the account that created the object.
fn requester(
    object: &CertificateSigningRequest,
    config: &CsrSigner,
    cluster: &ClusterConfig,
) -> Result<SpiffeId, Refusal> {
    let not_trusted = || {
        Refusal::denied(
            "RequesterNotTrusted",
            "this signer does not answer its requester",
        )
    };
    let username = object.spec.username.as_deref().unwrap_or_default();
    let groups = object.spec.groups.as_deref().unwrap_or_default();
    let account = Account::of_user(username)
        .filter(|account| config.requesters.contains(account))
        .filter(|_| groups.iter().any(|group| group == "system:serviceaccounts"))
        .ok_or_else(not_trusted)?;
    if !cluster.allows_namespace(&account.namespace) {
        return Err(not_trusted());
    }
    SpiffeId::service_account(cluster.trust_domain(), &account.namespace, &account.name)
        .map_err(|_| not_trusted())
}

/// Every requested usage must be in the profile.
fn usages(object: &CertificateSigningRequest, profile: &Profile) -> Result<(), Refusal> {
    let given = profile.usage();
    for usage in object.spec.usages.as_deref().unwrap_or_default() {
        let fits = match usage.as_str() {
            // `signing` is its older name. Key encipherment is for RSA keys only; istiod requests it
            // for every key.
            "digital signature" | "signing" | "key encipherment" => true,
            "server auth" => given.contains(ExtendedKeyUsage::SERVER_AUTH),
            "client auth" => given.contains(ExtendedKeyUsage::CLIENT_AUTH),
            _ => false,
        };
        if !fits {
            // The API server checks usages against a list; the length is bounded here all the same.
            let usage: String = usage.chars().take(64).collect();
            let message = format!("the usage \"{}\" is not given here", usage.escape_default());
            return Err(Refusal::denied("UsageNotAllowed", message));
        }
    }
    Ok(())
}

/// Every identity must be in a namespace that the cluster may authenticate.
fn namespaces(names: &[San], cluster: &ClusterConfig) -> Result<(), Refusal> {
    for name in names {
        let San::Spiffe(id) = name else { continue };
        let namespace = match id.path().split('/').collect::<Vec<_>>().as_slice() {
            ["", "ns", namespace, "sa", _] => (*namespace).to_owned(),
            // An identity without a namespace: only for a cluster without a list of namespaces.
            _ => String::new(),
        };
        if !cluster.allows_namespace(&namespace) {
            let message = "the cluster may not speak for this namespace";
            return Err(Refusal::denied("NamesNotAllowed", message));
        }
    }
    Ok(())
}

/// The requested lifetime, at most the profile's: Kubernetes allows a signer to shorten it.
fn lifetime(object: &CertificateSigningRequest, profile: &Profile) -> Option<Duration> {
    let seconds = u64::try_from(object.spec.expiration_seconds?).ok()?;
    Some(Duration::from_secs(seconds.max(600)).min(profile.max_ttl()))
}

#[cfg(test)]
mod tests;
