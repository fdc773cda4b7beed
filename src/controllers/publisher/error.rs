//! What can be wrong with a target.

pub use crate::controllers::ConfigError;
