//! Listeners: TLS, limits and the accept loop, for any router.

mod accept;
mod call;
mod connection;
mod first_byte_timeout;
mod handshake_failures;
mod limits;
mod memory;
mod metrics;
mod peer;
mod pool;
mod port_holder;
mod request_memory;
mod source;
mod tls;
mod write_coalescing;

pub use accept::{AllowedClients, ListenError, Listener};
pub use call::{BodyError, RequestStream};
pub use limits::Limits;
pub use metrics::Metrics;
pub use peer::Peer;
pub use tls::{Certificates, Clients, Entry, TlsError, certified_key, server_config};
