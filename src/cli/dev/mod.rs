//! `dev`: a CA for one developer's machine, in one command.
//!
//! It creates what a production server has: a token with a random PIN, an operator's credential, a
//! configuration. Local callers authenticate as well, and a second start reuses everything.

mod provision;
mod softhsm;
mod state_dir;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client;
use super::config_arg::dev_dir;
use super::environment;
use super::failure::{Exit, Failure};
use super::format::fingerprint;
use super::output;
use super::serve::runtime;
use crate::app;
use crate::config::Config;
use crate::x509::Certificate;
use state_dir::{Ports, StateDir};

/// How often a starting server is tried, every 50 ms or more.
const START_ATTEMPTS: u32 = 200;

#[derive(Debug, clap::Args)]
pub(super) struct DevArgs {
    /// The directory for all files. Default: $XDG_STATE_HOME/rootbridge/dev. Remove it to start over.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The server's port. Default: 8443, or a free one if that is in use.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The port for health and metrics. Default: 9901, or a free one if that is in use.
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// SoftHSM's PKCS#11 module. Default: where distributions install it.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
}

pub(super) fn run(args: &DevArgs) -> Result<(), Failure> {
    let dir = match (&args.dir, dev_dir()) {
        (Some(dir), _) => std::path::absolute(dir).map_err(|e| Failure::file("find", dir, &e))?,
        (None, Some(dir)) => dir,
        (None, None) => {
            let message =
                "neither XDG_STATE_HOME nor HOME is set: there is no directory for the token";
            return Err(Failure::new(Exit::Usage, message).next("give --dir DIR"));
        }
    };
    let ports = Ports {
        server: args.port,
        admin: args.admin_port,
    };
    let state = StateDir::prepare(&dir, &ports, args.module.as_deref())?;
    let config = Config::load(&state.config())?;
    environment::ensure(&config)?;
    let root = provision::token_and_authority(&config, &state)?;
    let next_steps = next_steps(&state, &config, &root, args.dir.is_some());
    let client = state.client();
    let ready = move || drop(tokio::spawn(print_when_ready(next_steps, client)));
    let served = app::serve(state.config(), app::ServeOptions::default(), ready);
    runtime()?.block_on(served).map_err(|error| {
        Failure::from(error)
            .next("a port in use? `rootbridge dev --dir DIR` creates another server")
    })
}

/// Prints the next steps as soon as they work.
async fn print_when_ready(next_steps: String, client: PathBuf) {
    for _ in 0..START_ATTEMPTS {
        if client::answers(&client).await.is_ok() {
            drop(output::raw(next_steps));
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(output::note(
        "the server does not answer yet; in another terminal: rootbridge check",
    ));
}

fn next_steps(
    state: &StateDir,
    config: &Config,
    root: &Certificate,
    is_custom_dir: bool,
) -> String {
    let address = config
        .listeners()
        .first()
        .map(|l| l.address().to_string())
        .unwrap_or_default();
    let quoted = |path: &Path| path.display().to_string();
    let exports = match is_custom_dir {
        true => format!(
            "  export ROOTBRIDGE_CLIENT={} ROOTBRIDGE_CONFIG={}\n",
            quoted(&state.client()),
            quoted(&state.config())
        ),
        false => String::new(),
    };
    format!(
        "
Rootbridge is ready: trust domain {domain}, keys in a SoftHSM token.

  server   https://{address}
  admin    http://{admin}/readyz
  root     sha256:{print}
  state    {dir}

Next, in another terminal:

{exports}  rootbridge sign spiffe://{domain}/ns/foo/sa/bar --out bar/
  rootbridge bundle show
  rootbridge cert list
  rootbridge check

Ctrl-C stops it; the next `rootbridge dev` continues with the same state.

",
        domain = state_dir::TRUST_DOMAIN,
        admin = config.admin().address(),
        print = fingerprint(root),
        dir = quoted(state.dir()),
    )
}
