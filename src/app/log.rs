//! Structured logs: human on a terminal, JSON otherwise.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts logging to standard error. A second call changes nothing.
pub fn init(config: &LogConfig) {
    let filter = EnvFilter::builder().parse_lossy(config.level());
    let human = match config.format() {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let _ = match human {
        true => builder
            .with_ansi(std::env::var_os("NO_COLOR").is_none())
            .try_init(),
        false => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    };
}
