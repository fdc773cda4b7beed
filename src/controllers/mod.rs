//! What Rootbridge does in Kubernetes clusters: it signs their requests and keeps its own objects
//! there. How clusters are reached is the business of `cluster`.

pub mod agent;
mod config;
mod csr;
mod dependencies;
mod istiod;
pub mod linkerd;
mod managed_secret;
mod metrics;
mod pod;
pub mod publisher;
mod queue;
mod signer;
mod signing_error;
mod startup;
mod watch;

pub use config::{
    Config, CsrSigner, IstiodTls, LinkerdIssuer, PodSigner, RawConfig, RawCsrSigner, RawIstiodTls,
    RawLinkerdIssuer, RawPodSigner,
};
pub use dependencies::Dependencies;
pub use istiod::{ISTIOD_CALLER, ISTIOD_PROFILE, ISTIOD_TTL};
pub use linkerd::{event_permission, start_events};
pub use metrics::Metrics;
pub use startup::start;
