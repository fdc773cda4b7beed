//! Linkerd beside its own control plane: which roots its proxies hold, and an issuer for the stock
//! controller.

mod issuer;
mod roots;
mod taken;
mod workloads;

pub(super) use issuer::terms;
pub use issuer::{LINKERD_CALLER, LINKERD_PROFILE};
pub use roots::{ControlPlane, look};
pub(super) use taken::Takers;
pub use workloads::{Counts, Workload};
