//! The client of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

/// The client of a connection, in the extensions of each of its requests.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    /// The certificates that the client presented, leaf first; may be empty.
    ///
    /// The handshake proves only that the client holds the leaf's key. Each call verifies the
    /// certificate, because connections outlive certificates.
    pub certificates: Arc<[CertificateDer<'static>]>,
}
