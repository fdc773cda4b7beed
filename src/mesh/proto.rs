//! The generated messages and services of `proto/`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

/// `rootbridge.v1`.
pub mod rootbridge_v1 {
    tonic::include_proto!("rootbridge.v1");
}

/// `istio.v1.auth`.
pub mod istio {
    tonic::include_proto!("istio.v1.auth");
}

/// `io.linkerd.proxy.identity`.
pub mod linkerd {
    tonic::include_proto!("io.linkerd.proxy.identity");
}

/// The descriptors of all, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
