//! Linkerd beside its own control plane: which roots its proxies hold.

mod roots;
mod workloads;

pub use roots::{ControlPlane, look};
pub use workloads::{Counts, Workload};
