//! The APIs that workloads and meshes speak.

mod config;
mod limits;
pub mod proto;

pub use config::{Api, ConfigError, ListenerConfig, RawIstio, RawListener, RawTls, TlsConfig};
pub use limits::{Limits, RawLimits};
