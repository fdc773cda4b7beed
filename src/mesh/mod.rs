//! The APIs that workloads and meshes speak.

mod authentication;
mod bundles;
mod certificates;
mod config;
mod download;
mod istio;
mod linkerd;
pub mod proto;
mod refusals;
mod router;
mod serving;
mod status;
mod tls_files;

pub use authentication::{CallerAuthenticator, Verifiers};
pub use config::{
    Api, ListenerConfig, OwnCertificate, RawIstio, RawListener, RawSni, RawTls, TlsConfig,
};
pub use linkerd::{
    LinkerdConfig, RawLinkerd, Schedule, warn_of_algorithms, what_linkerd_check_says,
};
pub use refusals::Metrics;
pub use router::{Services, router};
pub use serving::{SERVING_PROFILE, ServingCertificate};
pub use status::{Answer, CallError};
pub use tls_files::{TlsFileError, TlsFiles};
