//! Kubeconfigs, read by client-go's rules: what `kubectl --kubeconfig` uses is used here.
//!
//! Narrower in these, on purpose: TLS is always verified, a program runs only where the configuration
//! allows it, and the legacy auth-providers are refused.

mod address;
mod document;
mod error;
mod in_cluster;
mod material;
mod read;
mod user;

pub use error::KubeconfigError;
pub(super) use in_cluster::in_cluster;
pub(super) use read::parse;
pub use read::read;
