//! Reads the bytes of a request as its service does, up to where a verified caller is needed: for fuzzing.

use prost::Message as _;

use super::certificates::issuance_request;
use super::istio::RequestOptions;
use super::linkerd::CheckedRequest;
use super::proto::istio::IstioCertificateRequest;
use super::proto::linkerd::CertifyRequest;
use super::proto::rootbridge_v1::SignCertificateRequest;
use super::status::CallError;
use crate::authn::Caller;
use crate::x509::{Csr, TrustDomain};

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Istio,
    Certificates,
    Linkerd,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub profile: String,
    pub names: Vec<String>,
    pub ttl: Option<std::time::Duration>,
    pub idempotency_key: Option<String>,
    /// The workload that a node's proxy names.
    pub impersonated: Option<String>,
}

/// `None` when the bytes are no message of that service.
pub fn read_message(service: Service, bytes: &[u8]) -> Option<Result<Asked, CallError>> {
    match service {
        Service::Istio => Some(istio(&IstioCertificateRequest::decode(bytes).ok()?)),
        Service::Certificates => Some(certificates(SignCertificateRequest::decode(bytes).ok()?)),
        Service::Linkerd => Some(linkerd(&CertifyRequest::decode(bytes).ok()?)),
    }
}

fn istio(body: &IstioCertificateRequest) -> Result<Asked, CallError> {
    let options = RequestOptions::read(body, "default")?;
    Csr::from_pem(body.csr.as_bytes())?;
    Ok(Asked {
        profile: options.profile.to_owned(),
        names: Vec::new(),
        ttl: options.ttl,
        idempotency_key: None,
        impersonated: options.impersonated.map(str::to_owned),
    })
}

fn certificates(body: SignCertificateRequest) -> Result<Asked, CallError> {
    let domain = TrustDomain::parse("cluster.local").map_err(|error| CallError::Field {
        field: "trust_domain",
        why: error.to_string(),
    })?;
    let read = issuance_request(body, Caller::local(domain, "fuzz"), "request")?;
    Ok(Asked {
        profile: read.profile,
        names: read.names.iter().map(ToString::to_string).collect(),
        ttl: read.ttl,
        idempotency_key: read.idempotency_key,
        impersonated: None,
    })
}

fn linkerd(body: &CertifyRequest) -> Result<Asked, CallError> {
    let checked = CheckedRequest::read(body)?;
    Ok(Asked {
        profile: String::new(),
        names: checked
            .csr
            .names()
            .iter()
            .map(ToString::to_string)
            .collect(),
        ttl: None,
        idempotency_key: None,
        impersonated: Some(checked.identity.to_owned()),
    })
}
