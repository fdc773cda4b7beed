//! Checks of a proxy's request that need no authentication.

use super::super::proto::linkerd::CertifyRequest;
use super::super::status::CallError;
use crate::x509::{CsrError, San, UnverifiedCsr};

/// A request whose parts agree with each other.
#[derive(Debug)]
pub(in crate::mesh) struct CheckedRequest<'a> {
    /// The requested name; the caller is not authenticated yet.
    pub identity: &'a str,
    /// The service account's token.
    pub token: &'a [u8],
    /// Its one name is `identity`. Its signature is verified for callers only.
    pub csr: UnverifiedCsr,
}

impl<'a> CheckedRequest<'a> {
    /// Reads a request. Proxies send DER and use one key for all of a container's life.
    pub(in crate::mesh) fn read(body: &'a CertifyRequest) -> Result<Self, CallError> {
        let missing = |field| CallError::Field {
            field,
            why: "is missing".to_owned(),
        };
        let identity = body.identity.as_str();
        if identity.is_empty() {
            return Err(missing("identity"));
        }
        if body.token.is_empty() {
            return Err(missing("token"));
        }
        if body.certificate_signing_request.is_empty() {
            return Err(missing("certificate_signing_request"));
        }
        let csr = UnverifiedCsr::from_der(&body.certificate_signing_request)?;
        let differs = |why| CallError::Mismatch {
            field: "certificate_signing_request",
            why,
        };
        match csr.names() {
            // Compared as written: names that differ in case are different identities.
            [San::Dns(name)] if name.as_str() == identity => {}
            [San::Dns(_)] => return Err(differs("names another identity than the requested one")),
            _ => {
                return Err(differs(
                    "must have exactly one name: a DNS name, the identity",
                ));
            }
        }
        if !csr.has_no_other_common_name(identity) {
            return Err(differs("has a commonName that is not the identity"));
        }
        Ok(Self {
            identity,
            token: &body.token,
            csr,
        })
    }
}

/// Whether the request is well formed except for its names.
pub(super) fn has_invalid_names(error: &CsrError) -> bool {
    matches!(
        error,
        CsrError::Name(_) | CsrError::UnsupportedNameKind { .. } | CsrError::TooManyNames
    )
}
