//! Wiring, in order.

mod announce;
mod core;
mod listen;
mod log;
mod log_lines;
mod notice;
mod policy;
mod prober;
mod publisher;
mod records;
mod reload;
mod serve;

pub use core::{Core, StartError};
pub use log::init as init_log;
pub use log_lines::LogGuard;
pub use serve::serve;
