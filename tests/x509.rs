//! The X.509 room against others' tools and others' mistakes: openssl, webpki, rcgen, x509-cert,
//! Wycheproof and the vectors of Python's cryptography.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "x509/support.rs"]
mod support;

#[path = "x509/certificates.rs"]
mod certificates;
#[path = "x509/issued.rs"]
mod issued;
#[path = "x509/malformed_requests.rs"]
mod malformed_requests;
#[path = "x509/openssl_paths.rs"]
mod openssl_paths;
#[path = "x509/paths.rs"]
mod paths;
#[path = "x509/properties.rs"]
mod properties;
#[path = "x509/refused_requests.rs"]
mod refused_requests;
#[path = "x509/requests.rs"]
mod requests;
#[path = "x509/vectors.rs"]
mod vectors;
#[path = "x509/wycheproof.rs"]
mod wycheproof_vectors;
