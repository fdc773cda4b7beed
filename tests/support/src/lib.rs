//! What several test suites share: a configured CA and its running server, callers' tokens and
//! requests, clients, openssl, and doubles for what surrounds the server.

pub mod campaign;
pub mod chain;
pub mod command;
pub mod csr;
pub mod fake_clock;
pub mod files;
pub mod grpc;
pub mod jwk;
pub mod jwt;
pub mod mutual_tls;
pub mod openbao;
pub mod openssl;
pub mod p11_kit;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod random;
pub mod running;
pub mod server;
pub mod softhsm;
pub mod stranger;
pub mod tls_client;
pub mod tls_server;
pub mod under_load;
pub mod verifiers;
pub mod wait;

pub use grpc::Client;
pub use running::RunningServer;
pub use server::TestServer;
pub use wait::{PATIENCE, eventually, stays};

/// The trust domain of most tests.
pub const TD: &str = "cluster.local";

/// A port that was free just now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
