//! The client of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::authn::ClientCertificate;

/// The client of a connection, in the extensions of each of its requests.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    /// The certificate that the client presented.
    ///
    /// The handshake proves only that the client holds its key. Each call verifies the
    /// certificate, because connections outlive certificates.
    pub certificate: Option<Arc<ClientCertificate>>,
}
