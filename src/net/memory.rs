//! What the limits of a listener allow in memory.

use std::fmt::{self, Display};

use super::limits::Limits;

/// A connection with its TLS session, the client's certificates and HTTP/2's buffers.
const CONNECTION: u64 = 96 * 1024;
/// A handshake, whose messages may have 64 KiB and are kept until they are whole.
const HANDSHAKE: u64 = 128 * 1024;

/// The most that a listener uses.
#[derive(Debug, Clone, Copy)]
pub struct ListenerMemory {
    connections: u64,
    handshakes: u64,
    requests: u64,
}

impl Limits {
    /// The most that a listener of these limits uses.
    pub fn memory(&self) -> ListenerMemory {
        ListenerMemory {
            connections: self.max_connections as u64,
            handshakes: self.max_handshakes as u64,
            requests: self.request_memory_bytes as u64,
        }
    }
}

impl ListenerMemory {
    /// In bytes.
    pub fn total(self) -> u64 {
        self.connections * CONNECTION + self.handshakes * HANDSHAKE + self.requests
    }
}

impl Display for ListenerMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections of {} KiB, {} handshakes of {} KiB, {} MiB for requests",
            self.connections,
            CONNECTION / 1024,
            self.handshakes,
            HANDSHAKE / 1024,
            self.requests.div_ceil(1024 * 1024)
        )
    }
}
