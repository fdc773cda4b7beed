//! The `x509` module with the tools and the mistakes of others: openssl, webpki, rcgen, x509-cert,
//! Wycheproof and the vectors of Python's cryptography.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

mod certificates;
mod differential;
mod differential_files;
mod differential_variants;
mod files;
mod foreign_roots;
mod issued;
mod malformed_requests;
mod openssl_paths;
mod paths;
mod properties;
mod refused_requests;
mod requests;
mod spoiled_certificates;
mod vectors;
mod verifiers;
mod wycheproof_vectors;
