//! What Rootbridge does in Kubernetes clusters: it signs their requests and keeps its own objects
//! there. How clusters are reached is the business of `cluster`.

mod config;
mod csr;
mod dependencies;
mod http;
mod istiod;
mod kept;
pub mod linkerd;
mod metrics;
mod pod;
pub mod publisher;
mod queue;
mod signer;
mod signing_error;
mod startup;
mod watch;

pub use config::{
    Config, ConfigError, CsrSigner, IstiodTls, LinkerdIssuer, PodSigner, RawConfig, RawCsrSigner,
    RawIstiodTls, RawLinkerdIssuer, RawPodSigner,
};
pub use dependencies::Dependencies;
pub use istiod::{ISTIOD_CALLER, ISTIOD_PROFILE, ISTIOD_TTL};
pub use linkerd::{announce, event_permission};
pub use metrics::Metrics;
pub use startup::start;
