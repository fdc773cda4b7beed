//! Linkerd beside its own control plane: which roots its proxies hold, an issuer for the stock
//! controller, and its events where this server stands in its place.

mod events;
mod gauge;
mod issuer;
mod roots;
mod taken;
mod workloads;

pub use events::{announce, event_permission};
pub use gauge::register_pods;
pub(super) use issuer::terms;
pub use issuer::{LINKERD_ISSUER_CALLER, LINKERD_ISSUER_PROFILE};
pub use roots::{ControlPlane, look};
pub(super) use taken::Takers;
pub use workloads::{Counts, Workload};
