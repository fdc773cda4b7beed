//! The command line of the real binary: usage, errors and exit codes, then whole flows with a
//! SoftHSM token, whose certificates openssl verifies.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

mod dev;
mod enterprise;
mod fetch;
mod hardware;
mod import;
mod plan;
mod support;
mod usage;
