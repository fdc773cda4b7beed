//! `--config` and `--output`, and where the configuration is by default.

use std::env;
use std::path::PathBuf;

use super::failure::{Exit, Failure};
use super::output::FormatArg;
use crate::config::Config;

/// Where packages install the server's configuration.
const SYSTEM_CONFIG: &str = "/etc/rootbridge/rootbridge.toml";

#[derive(Debug, Clone, clap::Args)]
pub(super) struct ConfigArg {
    /// The server's configuration. Default: /etc/rootbridge/rootbridge.toml, or else that of
    /// `rootbridge dev`.
    #[arg(short, long, value_name = "FILE", env = "ROOTBRIDGE_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

/// What most commands on the server's host accept.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct CommonArgs {
    #[command(flatten)]
    pub(super) config: ConfigArg,
    #[command(flatten)]
    pub(super) format: FormatArg,
}

impl ConfigArg {
    /// The file given, or the first default that exists. The working directory is not searched: the
    /// file names a library that is loaded.
    pub(super) fn file(&self) -> Result<PathBuf, Failure> {
        if let Some(file) = &self.config {
            return Ok(file.clone());
        }
        let dev = dev_dir().map(|dir| dir.join("rootbridge.toml"));
        let defaults: Vec<_> = [PathBuf::from(SYSTEM_CONFIG)]
            .into_iter()
            .chain(dev)
            .collect();
        if let Some(file) = defaults.iter().find(|file| file.exists()) {
            return Ok(file.clone());
        }
        let tried: Vec<_> = defaults
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let message = format!("no configuration: looked for {}", tried.join(", "));
        Err(Failure::new(Exit::Config, message)
            .next("name one with --config FILE or ROOTBRIDGE_CONFIG")
            .next("or run `rootbridge dev`, which creates one that works"))
    }

    pub(super) fn load(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.file()?)?)
    }
}

/// The directory of `rootbridge dev`: `$XDG_STATE_HOME/rootbridge/dev`.
pub(super) fn dev_dir() -> Option<PathBuf> {
    // XDG Base Directory Specification: relative paths are ignored.
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    state.map(|state| state.join("rootbridge/dev"))
}
