//! Listeners: TLS, limits and the accept loop, for any router.

mod accept;
mod first_byte_timeout;
mod limits;
mod peer;
mod tls;
mod write_coalescing;

pub use accept::{AllowedClients, ListenError, Listener};
pub use limits::Limits;
pub use peer::Peer;
pub use tls::{Certificates, Clients, Entry, TlsError, certified_key, server_config};
