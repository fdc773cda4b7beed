//! Logs to standard error: text on a terminal, otherwise JSON, unless the configuration says which.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::log_lines::{Lines, LogGuard};
use crate::config::{LogConfig, LogFormat};

/// Starts logging to standard error. A thread writes the lines until the guard is dropped; later
/// lines are written directly. A second call changes nothing.
pub fn init(config: &LogConfig) -> LogGuard {
    let filter = EnvFilter::builder().parse_lossy(config.level());
    let is_text = match config.format() {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let (lines, guard) = Lines::start();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines);
    let _ = match is_text {
        true => builder
            .with_ansi(std::env::var_os("NO_COLOR").is_none())
            .try_init(),
        false => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    };
    guard
}
