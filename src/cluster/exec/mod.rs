//! Programs that a kubeconfig names for its credential (client.authentication.k8s.io), run without a
//! shell, and only those that the configuration allows.

mod config;
mod credential;
mod error;
mod plugin;
mod run;

pub use config::ExecConfig;
pub(super) use credential::{ExecCredential, Granted};
pub use error::ExecError;
pub(super) use plugin::{Plugin, Request};
