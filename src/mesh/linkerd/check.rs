//! What a proxy asks for, before anybody is asked who it is.

use super::super::proto::linkerd::CertifyRequest;
use super::super::status::CallError;
use crate::x509::{Csr, CsrError, San};

/// The parts of a request, found to agree with each other.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// The name that is asked for; nobody's yet.
    pub identity: &'a str,
    /// The credential.
    pub token: &'a [u8],
    /// Whose one name is `identity`.
    pub csr: Csr,
}

impl<'a> Asked<'a> {
    /// Reads a request. Proxies send DER and use one key for all of a container's life.
    pub(super) fn read(body: &'a CertifyRequest) -> Result<Self, CallError> {
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
        let csr = Csr::from_der(&body.certificate_signing_request)?;
        let differs = |why| CallError::Mismatch {
            field: "certificate_signing_request",
            why,
        };
        match csr.names() {
            // As it stands there: DNS names that differ in case are not the same identity.
            [San::Dns(name)] if name.as_str() == identity => {}
            [San::Dns(_)] => return Err(differs("names another identity than the one asked for")),
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

/// Whether a request is well formed and its names are what is wrong with it.
pub(super) fn names_something_else(error: &CsrError) -> bool {
    matches!(
        error,
        CsrError::Name(_) | CsrError::NameKind { .. } | CsrError::TooManyNames
    )
}
