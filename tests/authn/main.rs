//! Who is calling, through the public door of `authn` alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod certificates;
mod config;
mod keys;
mod operators;
mod outage;
mod properties;
mod rotation;
mod support;
mod tokens;
mod types;
mod verifiers;
