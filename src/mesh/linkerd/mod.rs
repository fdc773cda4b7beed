//! Linkerd's identity service: `io.linkerd.proxy.identity.Identity`, in the order and with the
//! codes of Linkerd's own controller.
//!
//! Two things differ on purpose: the CSR must prove possession of its key, and a token for another
//! audience is never given a second try without one.

mod account;
mod algorithms;
mod check;
mod config;
mod schedule;

use std::sync::Arc;

use axum::response::Response as HttpResponse;
use http::HeaderValue;
use prost_types::Timestamp;
use tonic::{Code, Request, Response, Status};

use super::authentication::CallerAuthenticator;
use super::proto::linkerd::identity_server::Identity;
use super::proto::linkerd::{CertifyRequest, CertifyResponse};
use super::request_id::RequestId;
use super::status::CallError;
use crate::authn::{Api, AuthnError, Caller, Identity as CallerIdentity};
use crate::clock::{Clock, UnixTime};
use crate::cluster::Notices;
use crate::issuance::{Authorities, Category, IssuanceRequest, Issued, Naming};
use crate::net::Peer;
use crate::policy::Scope;
use crate::x509::{Certificate, LinkerdMesh};

use account::Account;
pub use algorithms::{linkerd_check_problems, warn as warn_of_algorithms};
pub(super) use check::CheckedRequest;
pub use config::{LinkerdConfig, RawLinkerd};
pub use schedule::Schedule;

const GRPC_STATUS: &str = "grpc-status";

/// The service on one listener.
#[derive(Debug, Clone)]
pub(super) struct Linkerd {
    pub authenticator: CallerAuthenticator,
    pub authorities: Arc<Authorities>,
    pub clock: Arc<dyn Clock>,
    pub config: LinkerdConfig,
    pub notices: Notices,
}

#[tonic::async_trait]
impl Identity for Linkerd {
    async fn certify(
        &self,
        request: Request<CertifyRequest>,
    ) -> Result<Response<CertifyResponse>, Status> {
        let (metadata, extensions, body) = request.into_parts();
        let request_id = RequestId::new(&metadata.into_headers());
        let within = self.config.answer_within();
        // A proxy sets no deadline: a call that is not answered would hang for ever.
        let peer = extensions.get::<Peer>();
        let answered = tokio::time::timeout(within, self.answer(&body, peer, &request_id)).await;
        let outcome = answered.unwrap_or(Err(CallError::Timeout(within)));
        outcome.map(Response::new).map_err(|error| {
            let log = &self.authenticator;
            log.log_refusal("Certify", &request_id, peer, &error);
            status(&error, &request_id)
        })
    }
}

impl Linkerd {
    async fn answer(
        &self,
        body: &CertifyRequest,
        peer: Option<&Peer>,
        request_id: &str,
    ) -> Result<CertifyResponse, CallError> {
        let checked = CheckedRequest::read(body)?;
        let caller = self
            .authenticator
            .authenticate_token(checked.token, peer, Api::Linkerd)
            .await?;
        let mesh = self.mesh_of(&caller, checked.identity)?;
        self.authorities.look(&caller, false)?;
        let csr = checked.csr.verify()?;
        let profile = self.authorities.profile(self.config.profile());
        let schedule = profile
            .as_ref()
            .map(|profile| self.config.schedule(profile));
        let account = self
            .config
            .writes_events()
            .then(|| Account::of(&caller))
            .flatten();
        let issued = self
            .authorities
            .issue(IssuanceRequest {
                caller,
                csr,
                profile: self.config.profile().to_owned(),
                names: Vec::new(),
                // The allowance for clock skew is the same at both ends.
                ttl: profile.map(|profile| {
                    let skew = profile.backdate();
                    profile
                        .default_ttl()
                        .saturating_add(skew)
                        .min(profile.max_ttl())
                }),
                naming: Naming::Linkerd(mesh),
                scope: Scope::CallerName,
                node_authorization: None,
                idempotency_key: None,
                request_id: request_id.to_owned(),
                lease: None,
            })
            .await?;
        if let Some(account) = account {
            account.tell(&self.notices, checked.identity, issued.certificate());
        }
        let not_after = issued.certificate().not_after();
        let valid_until = match schedule {
            Some(schedule) => schedule.valid_until(self.clock.now(), not_after, random()),
            None => not_after,
        };
        Ok(response(&issued, valid_until))
    }

    /// The caller's mesh, if `identity` is the caller's name in it.
    fn mesh_of(&self, caller: &Caller, identity: &str) -> Result<LinkerdMesh, CallError> {
        let own = |mesh: &LinkerdMesh| match &caller.identity {
            CallerIdentity::Workload(id) => mesh.workload_of(id).ok(),
            _ => None,
        };
        let mesh = self.config.mesh(&caller.trust_domain).ok();
        mesh.filter(|mesh| own(mesh).is_some_and(|name| name.as_str() == identity))
            .ok_or(CallError::Mismatch {
                field: "identity",
                why: "is not the name of the token's service account in this mesh",
            })
    }
}

/// For a message above the size limit, Linkerd's controller returns INVALID_ARGUMENT, tonic
/// OUT_OF_RANGE.
pub(super) async fn with_linkerd_codes(mut response: HttpResponse) -> HttpResponse {
    let is = |code: Code| HeaderValue::from(i32::from(code));
    if let Some(code) = response.headers_mut().get_mut(GRPC_STATUS)
        && *code == is(Code::OutOfRange)
    {
        *code = is(Code::InvalidArgument);
    }
    response
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness no serial could have been made: nothing is issued then.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

fn response(issued: &Issued, valid_until: UnixTime) -> CertifyResponse {
    let der = |certificate: &Certificate| certificate.der().to_vec();
    CertifyResponse {
        leaf_certificate: der(issued.certificate()),
        intermediate_certificates: issued.intermediates().map(der).collect(),
        valid_until: Some(Timestamp {
            seconds: valid_until.secs(),
            nanos: 0,
        }),
    }
}

/// The answer under the codes of Linkerd's controller, where they differ from everybody's.
fn status(error: &CallError, request_id: &str) -> Status {
    let code = match error {
        CallError::Authn(AuthnError::Missing | AuthnError::Rejected { .. })
        | CallError::Mismatch { .. } => Some(Code::FailedPrecondition),
        CallError::Authn(AuthnError::Unavailable(_)) => Some(Code::Internal),
        CallError::Authn(AuthnError::Busy { .. }) => Some(Code::Unavailable),
        CallError::Csr(error) if check::has_invalid_names(error) => Some(Code::FailedPrecondition),
        CallError::Issue(error) => match error.category() {
            Category::HsmBusy | Category::Limited => Some(Code::Unavailable),
            Category::CsrNamesDiffer | Category::NameDenied => Some(Code::FailedPrecondition),
            _ => None,
        },
        _ => None,
    };
    error.status_as(code, request_id)
}
