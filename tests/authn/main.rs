//! Authentication of callers, through the public API of `authn` alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod certificates;
mod config;
mod dates;
mod keys;
mod known_certificates;
mod operators;
mod outage;
mod properties;
mod rotation;
mod service_accounts;
mod support;
mod tokens;
mod types;
mod verifiers;
