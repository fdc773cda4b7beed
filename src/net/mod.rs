//! Listeners: TLS, limits and the accept loop. Knows nothing of what it serves.

mod accept;
mod first_byte_timeout;
mod peer;
mod tls;
mod write_coalescing;

pub use accept::{Limits, Listener, NetError, Sources};
pub use peer::Peer;
pub use tls::{Certificates, Clients, Entry, TlsError, certified_key, server_config};
