//! Where things are when nobody says so.

use std::env;
use std::path::PathBuf;

use super::failure::{Exit, Failure};
use crate::config::Config;

/// Where packages put the server's configuration.
const SYSTEM_CONFIG: &str = "/etc/rootbridge/rootbridge.toml";

/// Chooses the server's configuration.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ConfigArg {
    /// The server's configuration. Default: /etc/rootbridge/rootbridge.toml, or else that of
    /// `rootbridge dev`.
    #[arg(short, long, value_name = "FILE", env = "ROOTBRIDGE_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

impl ConfigArg {
    /// The file: what was said, or the first of the usual places that has one. Never the working
    /// directory: the file names a library that is loaded.
    pub(super) fn file(&self) -> Result<PathBuf, Failure> {
        if let Some(file) = &self.config {
            return Ok(file.clone());
        }
        let usual = [
            Some(PathBuf::from(SYSTEM_CONFIG)),
            dev_dir().map(|dir| dir.join("rootbridge.toml")),
        ];
        let usual: Vec<PathBuf> = usual.into_iter().flatten().collect();
        if let Some(file) = usual.iter().find(|file| file.exists()) {
            return Ok(file.clone());
        }
        let looked: Vec<_> = usual
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        Err(Failure::new(
            Exit::Config,
            format!("no configuration: looked for {}", looked.join(", ")),
        )
        .next("name one with --config FILE or ROOTBRIDGE_CONFIG")
        .next("or run `rootbridge dev`, which makes one that works"))
    }

    /// The checked configuration.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.file()?)?)
    }
}

/// `rootbridge dev`'s directory: `$XDG_STATE_HOME/rootbridge/dev`.
pub(super) fn dev_dir() -> Option<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    // XDG Base Directory Specification: relative paths are to be ignored.
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    state.map(|state| state.join("rootbridge/dev"))
}
