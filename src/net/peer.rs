//! What a connection says about its other end.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

/// The other end of a connection, put into every request's extensions.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where the connection came from.
    pub address: SocketAddr,
    /// The certificates that the client presented, leaf first; empty without any.
    ///
    /// The handshake proved that the client holds the leaf's key and nothing more: whether the
    /// certificate counts is judged at each call, because connections outlive certificates.
    pub certificates: Arc<[CertificateDer<'static>]>,
}
