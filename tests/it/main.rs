//! The real binary on a real token, with the clients and verifiers of others: Istio's client, Envoy,
//! SPIFFE's Go library, grpcurl, pkilint, strace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod certificates;
mod crash;
mod durability;
mod enterprise;
mod envoy;
mod federation;
mod grpcurl;
mod istio;
mod migration;
mod readiness;
mod refused_calls;
mod sds;
mod support;
