//! How clusters verify callers, with an API server whose answers the test sets. `tests/k8s` runs a
//! real one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

mod exec;
mod fake_api_server;
mod fake_collection;
mod fixture;
mod kubeconfigs;
mod missing_nodes;
mod nodes;
mod offline;
mod offline_keys;
mod renewal;
mod reviews;
mod strangers;
