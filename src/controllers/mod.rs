//! What Rootbridge does in Kubernetes clusters: it signs their requests and keeps its own objects
//! there. How clusters are reached is the business of `cluster`.

mod config;
mod csr;
mod http;
mod istiod;
mod kept;
pub mod linkerd;
mod metrics;
mod parts;
mod pod;
pub mod publisher;
mod queue;
mod signer;
mod start;
mod verdict;
mod watch;

pub use config::{
    Config, CsrSigner, IstiodTls, LinkerdIssuer, PodSigner, RawConfig, RawCsrSigner, RawIstiodTls,
    RawLinkerdIssuer, RawPodSigner,
};
pub use istiod::{ISTIOD_CALLER, ISTIOD_PROFILE, ISTIOD_TTL};
pub use linkerd::{announce, event_right};
pub use metrics::Metrics;
pub use parts::Parts;
pub use start::start;
