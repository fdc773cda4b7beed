//! Builds the server from its components.

mod agent;
mod core;
mod descriptors;
mod federation;
mod high_water;
mod linkerd_events;
mod listen;
mod listener_admins;
mod log;
mod log_lines;
mod policy;
mod prober;
mod publisher;
mod records;
mod reload;
mod renewals;
mod rotations;
mod serve;
mod service_manager;
mod stuck;
mod token_mark;

pub use agent::agent;
pub use core::{Core, StartError};
pub use high_water::{AcceptOlder, MarkFile};
pub use log::init as init_log;
pub use log_lines::LogGuard;
pub use serve::{ServeOptions, serve};
