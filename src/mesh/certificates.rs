//! This server's own gRPC API for certificates: `rootbridge.v1.CertificateService`.

use std::sync::Arc;
use std::time::Duration;

use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::authentication::CallerAuthenticator;
use super::bundles::message;
use super::proto::rootbridge_v1::certificate_service_server::CertificateService;
use super::proto::rootbridge_v1::{SignCertificateRequest, SignCertificateResponse};
use super::request_id::RequestId;
use super::status::CallError;
use crate::authn::{Api, Caller};
use crate::clock::UnixTime;
use crate::issuance::{Authorities, IssuanceRequest, Issued, Naming};
use crate::net::Peer;
use crate::policy::Scope;
use crate::x509::{Certificate, Csr, San};

/// The longest idempotency key, in bytes.
const MAX_IDEMPOTENCY_KEY_LEN: usize = 128;
/// The most names that are read from a request; the policy sets a lower limit.
const MAX_NAMES: usize = 64;

/// The service on one listener.
#[derive(Debug, Clone)]
pub(super) struct Certificates {
    pub authenticator: CallerAuthenticator,
    pub authorities: Arc<Authorities>,
}

#[tonic::async_trait]
impl CertificateService for Certificates {
    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        let (metadata, extensions, body) = request.into_parts();
        let headers = metadata.into_headers();
        let request_id = RequestId::new(&headers);
        let call = async {
            let peer = extensions.get::<Peer>();
            let caller = self
                .authenticator
                .authenticate(&headers, peer, Api::Certificates)
                .await?;
            self.authorities.look(&caller, false)?;
            let request = issuance_request(body, caller, &request_id)?;
            Ok(response(&self.authorities.issue(request).await?))
        };
        call.await.map(Response::new).map_err(|error: CallError| {
            let peer = extensions.get::<Peer>();
            let log = &self.authenticator;
            log.log_refusal("SignCertificate", &request_id, peer, &error);
            error.status(&request_id)
        })
    }
}

pub(super) fn issuance_request(
    body: SignCertificateRequest,
    caller: Caller,
    request_id: &str,
) -> Result<IssuanceRequest, CallError> {
    let field = |field, why: &str| CallError::Field {
        field,
        why: why.to_owned(),
    };
    if body.names.len() > MAX_NAMES {
        return Err(field("names", "too many names"));
    }
    let mut names = Vec::with_capacity(body.names.len());
    for name in &body.names {
        let name = name.parse::<San>();
        names.push(name.map_err(|error| field("names", &error.to_string()))?);
    }
    let ttl = lifetime(body.ttl).ok_or_else(|| field("ttl", "is not a duration from 0 up"))?;
    let key = body.idempotency_key;
    if key.len() > MAX_IDEMPOTENCY_KEY_LEN || key.bytes().any(|b| b.is_ascii_control()) {
        return Err(field(
            "idempotency_key",
            "at most 128 bytes, no control characters",
        ));
    }
    // Scoped to the caller. The length of its identity separates identity and key, so two callers'
    // keys never collide.
    let idempotency_key = (!key.is_empty()).then(|| {
        let identity = caller.identity.to_string();
        let (domain, length) = (&caller.trust_domain, identity.len());
        format!("{domain}|{length}|{identity}|{key}")
    });
    let csr = match body.csr.first() {
        Some(b'-') => Csr::from_pem(&body.csr)?,
        _ => Csr::from_der(&body.csr)?,
    };
    Ok(IssuanceRequest {
        caller,
        csr,
        profile: body.profile,
        names,
        ttl,
        naming: Naming::Spiffe,
        scope: Scope::Requested,
        node_authorization: None,
        idempotency_key,
        request_id: request_id.to_owned(),
        lease: None,
    })
}

/// The requested lifetime, if any; `None` when it is invalid. prost-types' own conversion overflows
/// on `i64::MIN` seconds.
fn lifetime(ttl: Option<prost_types::Duration>) -> Option<Option<Duration>> {
    let Some(ttl) = ttl else { return Some(None) };
    let seconds = u64::try_from(ttl.seconds).ok()?;
    let nanos = u32::try_from(ttl.nanos)
        .ok()
        .filter(|n| *n < 1_000_000_000)?;
    let ttl = Duration::new(seconds, nanos);
    Some(Some(ttl).filter(|ttl| !ttl.is_zero()))
}

fn response(issued: &Issued) -> SignCertificateResponse {
    let certificate = issued.certificate();
    let der = |each: &Certificate| each.der().to_vec();
    SignCertificateResponse {
        chain: issued.chain().map(der).collect(),
        trust_bundle: Some(message(issued.bundle())),
        serial_number: certificate.serial().to_string(),
        not_before: Some(timestamp(certificate.not_before())),
        not_after: Some(timestamp(certificate.not_after())),
    }
}

fn timestamp(at: UnixTime) -> Timestamp {
    Timestamp {
        seconds: at.secs(),
        nanos: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_a_lifetime_or_none() {
        let read = |seconds, nanos| lifetime(Some(prost_types::Duration { seconds, nanos }));
        assert_eq!(lifetime(None), Some(None));
        assert_eq!(read(0, 0), Some(None));
        assert_eq!(read(1, 5), Some(Some(Duration::new(1, 5))));
        let longest = Duration::from_secs(i64::MAX.unsigned_abs());
        assert_eq!(read(i64::MAX, 0), Some(Some(longest)));
        for (seconds, nanos) in [
            (-1, 0),
            (0, -1),
            (1, -1),
            (0, 1_000_000_000),
            (i64::MIN, i32::MIN),
            (i64::MAX, i32::MAX),
        ] {
            assert_eq!(read(seconds, nanos), None, "{seconds} {nanos}");
        }
    }
}
