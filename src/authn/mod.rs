//! Who is calling: every way of authentication yields one [`Caller`].
//!
//! A credential is judged by exactly one verifier, and its no is final: a bearer token by the
//! operators when it starts with [`OPERATOR_PREFIX`], else by the one JWT verifier that its `iss`
//! names among those of the listener, or else by the cluster that the call chose (`cluster`); a
//! client certificate by the ledger of its trust domain.

mod caller;
mod certificate;
mod claims;
mod config;
mod error;
mod jwks;
mod jwt;
mod key;
mod keys;
mod operator;
mod service_account;
mod source;
mod strict;
mod subject;

pub use caller::{Api, Caller, Identity, Method, Pod, bearer};
pub use certificate::{CertificateCallers, CertificateStatus, IssuedCertificates, LookupError};
pub use config::{
    Callers, ClientCertificatesConfig, Config, JwtConfig, OperatorConfig, RawAudiences, RawCallers,
    RawClientCertificates, RawConfig, RawJwtConfig, RawOperatorConfig, SubjectForm,
};
pub use error::{AuthnError, Quoted};
pub use jwt::{JwtVerifiers, MAX_TOKEN_BYTES};
pub use keys::KeysReport;
pub use operator::{
    CredentialError, OPERATOR_PREFIX, Operators, create_credential, read_credential,
};
pub use service_account::{BoundToken, ServiceAccountKeys, Unsure};
pub use source::KeySource;
pub use subject::service_account;
