//! The tests that look at the house from outside: its walls, and the real binary on a real token
//! with real clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod crash;
mod durability;
mod enterprise;
mod envoy;
mod grpcurl;
mod istio;
mod judges;
mod moving_in;
mod refusals;
mod serving;
mod support;
