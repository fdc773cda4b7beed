//! The Kubernetes API as this process uses it: requests, lists and watches, all bounded.

mod body;
mod client;
mod collection;
mod distrust;
mod error;
mod watch;

pub use client::ApiClient;
pub(super) use client::{Bounds, date, get, post};
pub use collection::Collection;
pub(super) use collection::Pages;
pub use error::ApiError;
pub(super) use watch::{Watch, parse_event};
