//! Vault's HTTP API: every call, every credential, and the clients that it is for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod bad_input;
mod clients;
mod consul;
mod differential;
mod faults;
mod harness;
mod intermediates;
mod leaves;
mod logins;
mod matrix;
mod spire;
