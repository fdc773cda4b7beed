//! Clusters as judges of callers, against an API server that can be told to misbehave. What a real
//! one does is the business of `tests/k8s`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

mod fake;
mod nodes;
mod offline;
mod reviews;
mod world;
