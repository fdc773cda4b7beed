//! The limits of the admin listener: small, and such that a probe always gets through.

use std::time::Duration;

use crate::net::Limits;

/// Sockets of probes, metrics and operators.
pub const SOCKETS: usize = 64;

/// Of a listener that may have so many sockets.
pub fn limits(sockets: usize) -> Limits {
    let max_handshakes = (sockets / 4).max(1);
    Limits {
        max_connections: (sockets - max_handshakes.min(sockets)).max(1),
        max_connections_per_source: (sockets / 8).max(2),
        max_handshakes,
        request_memory_bytes: 4 * 1024 * 1024,
        max_message_bytes: 32 * 1024,
        max_header_bytes: 20 * 1024,
        max_streams: 10,
        handshake_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        max_connection_age: Duration::from_secs(600),
        ..Limits::default()
    }
}
