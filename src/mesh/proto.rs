//! The wire, compiled from `proto/`.

/// Rootbridge's own API.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::indexing_slicing)]
pub mod rootbridge_v1 {
    tonic::include_proto!("rootbridge.v1");
}

/// Istio's CA API.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::indexing_slicing)]
pub mod istio_v1 {
    tonic::include_proto!("istio.v1.auth");
}
