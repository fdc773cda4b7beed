//! Commands that talk to a server.

pub(super) mod bundle;
mod connect;
mod fetch;
mod keypair;
mod profile;
pub(super) mod sign;
mod targets;

use std::path::Path;

use super::failure::Failure;
use profile::{ClientArgs, Profile};

/// Whether the server of a client file answers, TLS and all.
pub(super) async fn answers(client: &Path) -> Result<(), Failure> {
    let profile = Profile::new(&ClientArgs::file(client))?;
    bundle::get(&profile, None).await.map(drop)
}
