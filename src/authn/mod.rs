//! Authentication: every method yields a [`Caller`].
//!
//! Exactly one verifier decides on a credential, and its decision is final. A bearer token that
//! starts with [`OPERATOR_PREFIX`] goes to the operators, another one to the listener's JWT verifier
//! for its `iss`, or else to the cluster that the call selects (`cluster`). A client certificate
//! is checked against the ledger of its trust domain.

mod caller;
mod certificate;
mod certificate_status;
mod claims;
mod client_certificate;
mod config;
mod error;
mod jwks;
mod jwt;
mod key;
mod key_cache;
mod key_metrics;
mod operator;
mod read_keys;
mod service_account;
mod source;
mod strict;
mod subject;
mod unverified;

pub use caller::{Api, Caller, Identity, Method, Pod, bearer};
pub use certificate::{CertificateVerifier, is_due_soon};
pub use certificate_status::{CertificateStatus, CertificateStatusSource, LookupError};
pub use client_certificate::ClientCertificate;
pub use config::{
    Callers, ClientCertificatesConfig, Config, JwtConfig, OperatorConfig, RawAudiences, RawCallers,
    RawClientCertificates, RawConfig, RawJwtConfig, RawOperatorConfig, SubjectForm,
};
pub use error::{AuthnError, Quoted};
pub use jwt::{JwtVerifiers, MAX_TOKEN_BYTES};
pub use key_cache::KeyCacheReport;
pub use key_metrics::KeyMetrics;
pub use operator::{
    CredentialError, OPERATOR_PREFIX, Operators, create_credential, read_credential,
};
pub use read_keys::read_keys;
pub use service_account::{BoundToken, NeedsReview, ServiceAccountKeys, Signed};
pub use source::KeySource;
pub use subject::service_account;
pub use unverified::{UnverifiedToken, issuer_of_own};
