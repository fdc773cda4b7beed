//! The APIs for workloads and meshes.

mod authentication;
mod bodies;
mod bundles;
mod certificate_pair;
mod certificates;
mod config;
mod download;
mod istio;
mod kept_certificate;
mod linkerd;
pub mod proto;
mod read_message;
mod reauthentication;
mod refusals;
mod request_id;
mod router;
mod sds;
mod serving;
mod status;
mod tls_files;
mod vault;

pub use authentication::{CallerAuthenticator, Verifiers};
pub use certificate_pair::{CertificatePair, TlsFileError};
pub use config::{
    Api, ListenerConfig, OwnCertificate, RawIstio, RawListener, RawSni, RawTls, TlsConfig,
};
pub use kept_certificate::KeptCertificate;
pub use linkerd::{
    LinkerdConfig, RawLinkerd, Schedule, linkerd_check_problems, warn_of_algorithms,
};
pub use read_message::{Asked, Service, read_message};
pub use refusals::Metrics;
pub use request_id::RequestId;
pub use router::{Services, router};
pub use sds::SdsMetrics;
pub use serving::{SERVING_PROFILE, ServingCertificate};
pub use status::{Answer, CallError};
pub use tls_files::{TlsFilePaths, TlsFiles};
pub use vault::{Mount, Presents, RawMount, RawVault, TokenKeyError, VaultConfig, VaultState};
