//! From a section of the configuration to the CA that it describes.

use std::sync::Arc;

use super::UpstreamCa;
use super::command::CommandCa;
use super::config::{Kind, UpstreamConfig};
use super::vault::VaultCa;

/// The CA that is reached as `config` says. Nothing is sent yet.
pub fn connect(config: &UpstreamConfig) -> Arc<dyn UpstreamCa> {
    match &config.kind {
        Kind::Command(command) => Arc::new(CommandCa::new(command.clone())),
        Kind::Vault(vault) => Arc::new(VaultCa::new(vault.clone())),
    }
}
