//! TLS as listeners speak it, with clients that do not keep to the protocol.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod client_certificates;
mod handshake;
mod server_certificates;
