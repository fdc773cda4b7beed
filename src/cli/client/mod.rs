//! Commands that talk to a server.

mod admin;
pub(super) mod bundle;
mod bundle_fetch;
mod bundle_status;
mod compromised;
mod config;
mod connect;
mod keypair;
mod presence;
pub(super) mod rotate;
pub(super) mod sign;

use std::path::Path;

use super::failure::Failure;
use config::{ClientArgs, ClientConfig};

/// Whether the server of a client file answers over TLS.
pub(super) async fn answers(client: &Path) -> Result<(), Failure> {
    let server = ClientConfig::new(&ClientArgs::file(client))?;
    bundle::trust_bundle(&server, None).await.map(drop)
}
