//! The client of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

/// The client of a connection, in the extensions of each of its requests.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    /// The certificate that the client presented. Nothing is kept of those that came with it.
    ///
    /// The handshake proves only that the client holds its key. Each call verifies the
    /// certificate, because connections outlive certificates.
    pub certificate: Option<Arc<CertificateDer<'static>>>,
}
