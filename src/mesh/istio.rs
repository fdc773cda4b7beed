//! Istio's CA: `istio.v1.auth.IstioCertificateService` as istiod serves it.

use std::sync::Arc;
use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tonic::{Request, Response, Status};

use super::authentication::CallerAuthenticator;
use super::proto::istio::istio_certificate_service_server::IstioCertificateService;
use super::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use super::request_id::RequestId;
use super::status::CallError;
use crate::authn::Api;
use crate::issuance::{Authorities, IssuanceRequest, Issued, Naming};
use crate::net::Peer;
use crate::policy::Scope;
use crate::x509::Csr;

/// Selects a profile other than the default.
const CERT_SIGNER: &str = "CertSigner";
/// The workload for which a node's proxy requests a certificate.
const IMPERSONATED: &str = "ImpersonatedIdentity";

/// The service on one listener.
#[derive(Debug, Clone)]
pub(super) struct Istio {
    pub authenticator: CallerAuthenticator,
    pub authorities: Arc<Authorities>,
    /// The profile when no `CertSigner` is given.
    pub profile: String,
}

#[tonic::async_trait]
impl IstioCertificateService for Istio {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let (metadata, extensions, body) = request.into_parts();
        let headers = metadata.into_headers();
        let request_id = RequestId::new(&headers);
        let call = async {
            let peer = extensions.get::<Peer>();
            let caller = self
                .authenticator
                .authenticate(&headers, peer, Api::Istio)
                .await?;
            let options = RequestOptions::read(&body, &self.profile)?;
            let for_another = options.impersonated.is_some();
            self.authorities.look(&caller, for_another)?;
            if self.authorities.profile(options.profile).is_none() {
                return Err(CallError::Field {
                    field: CERT_SIGNER,
                    why: "no profile of that name; leave it empty for the default".to_owned(),
                });
            }
            let delegation = match options.impersonated {
                Some(identity) => Some(
                    self.authenticator
                        .authorize_node_proxy(&caller, identity, Api::Istio)
                        .await?,
                ),
                None => None,
            };
            let issued = self
                .authorities
                .issue(IssuanceRequest {
                    caller,
                    csr: Csr::from_pem(body.csr.as_bytes())?,
                    profile: options.profile.to_owned(),
                    names: Vec::new(),
                    ttl: options.ttl,
                    naming: Naming::Spiffe,
                    scope: options.scope,
                    node_authorization: delegation,
                    idempotency_key: None,
                    request_id: request_id.to_string(),
                    lease: None,
                })
                .await?;
            Ok(answer(&issued))
        };
        match call.await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(error) => {
                let peer = extensions.get::<Peer>();
                let log = &self.authenticator;
                log.log_refusal("CreateCertificate", &request_id, peer, &error);
                Err(error.status(&request_id))
            }
        }
    }
}

/// What the message requests beside the CSR.
pub(super) struct RequestOptions<'a> {
    pub(super) profile: &'a str,
    pub(super) ttl: Option<Duration>,
    scope: Scope,
    pub(super) impersonated: Option<&'a str>,
}

impl<'a> RequestOptions<'a> {
    pub(super) fn read(
        body: &'a IstioCertificateRequest,
        default: &'a str,
    ) -> Result<Self, CallError> {
        let metadata = body.metadata.as_ref();
        let impersonated = text(metadata, IMPERSONATED)?.filter(|identity| !identity.is_empty());
        let (profile, scope) = match text(metadata, CERT_SIGNER)? {
            None | Some("") => (default, Scope::CallerName),
            Some(signer) => (signer, Scope::CallerNameByRule),
        };
        // A rule that allows the proxy a profile does not allow it to other workloads of its node.
        if impersonated.is_some() && scope != Scope::CallerName {
            return Err(CallError::Field {
                field: CERT_SIGNER,
                why: "excludes ImpersonatedIdentity".to_owned(),
            });
        }
        // Zero and negative values mean the default, as in istiod.
        let ttl = u64::try_from(body.validity_duration)
            .ok()
            .filter(|secs| *secs > 0);
        Ok(Self {
            profile,
            ttl: ttl.map(Duration::from_secs),
            scope,
            impersonated,
        })
    }
}

fn text<'a>(metadata: Option<&'a Struct>, key: &'static str) -> Result<Option<&'a str>, CallError> {
    match metadata.and_then(|metadata| metadata.fields.get(key)) {
        None => Ok(None),
        Some(Value {
            kind: Some(Kind::StringValue(text)),
        }) => Ok(Some(text)),
        Some(_) => Err(CallError::Field {
            field: key,
            why: "must be a string".to_owned(),
        }),
    }
}

/// Leaf, then one element for each intermediate, then one last element that holds every root:
/// agents use the whole last element as the roots, and only the first certificate of the others.
fn answer(issued: &Issued) -> IstioCertificateResponse {
    let chain = std::iter::once(issued.certificate()).chain(issued.intermediates());
    let mut cert_chain: Vec<String> = chain.map(crate::x509::Certificate::to_pem).collect();
    cert_chain.push(issued.bundle().to_pem());
    IstioCertificateResponse { cert_chain }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request(seconds: i64, fields: &[(&str, Kind)]) -> IstioCertificateRequest {
        let value = |kind: &Kind| Value {
            kind: Some(kind.clone()),
        };
        let fields = fields
            .iter()
            .map(|(key, kind)| ((*key).to_owned(), value(kind)))
            .collect();
        IstioCertificateRequest {
            csr: String::new(),
            validity_duration: seconds,
            metadata: Some(Struct { fields }),
        }
    }

    #[test]
    fn no_lifetime_means_the_default() {
        for seconds in [0, -1, i64::MIN] {
            let body = request(seconds, &[]);
            assert_eq!(RequestOptions::read(&body, "workload").unwrap().ttl, None);
        }
        let body = request(i64::MAX, &[]);
        let ttl = RequestOptions::read(&body, "workload").unwrap().ttl;
        assert_eq!(ttl, Some(Duration::from_secs(i64::MAX.unsigned_abs())));
    }

    #[test]
    fn the_metadata_is_read_strictly() {
        let body = request(0, &[(CERT_SIGNER, Kind::StringValue(String::new()))]);
        assert_eq!(
            RequestOptions::read(&body, "workload").unwrap().scope,
            Scope::CallerName
        );
        let body = request(0, &[(CERT_SIGNER, Kind::StringValue("gold".to_owned()))]);
        let options = RequestOptions::read(&body, "workload").unwrap();
        assert_eq!(
            (options.profile, options.scope),
            ("gold", Scope::CallerNameByRule)
        );
        let body = request(0, &[(CERT_SIGNER, Kind::NumberValue(1.0))]);
        assert!(RequestOptions::read(&body, "workload").is_err());
        let spiffe = Kind::StringValue("spiffe://td/ns/a/sa/b".to_owned());
        let body = request(0, &[(IMPERSONATED, spiffe.clone())]);
        let options = RequestOptions::read(&body, "workload").unwrap();
        assert_eq!(options.impersonated, Some("spiffe://td/ns/a/sa/b"));
        assert_eq!(options.scope, Scope::CallerName);
        let body = request(0, &[(IMPERSONATED, Kind::StringValue(String::new()))]);
        assert_eq!(
            RequestOptions::read(&body, "workload")
                .unwrap()
                .impersonated,
            None
        );
        let signer = (CERT_SIGNER, Kind::StringValue("gold".to_owned()));
        let body = request(0, &[(IMPERSONATED, spiffe), signer]);
        assert!(RequestOptions::read(&body, "workload").is_err());
        let body = request(0, &[(IMPERSONATED, Kind::BoolValue(true))]);
        assert!(RequestOptions::read(&body, "workload").is_err());
    }
}
