//! Operators' HTTP surface: health, readiness and metrics.

mod config;

pub use config::{Config, ConfigError, RawConfig};
