//! `dev`: a CA for one developer's machine, in one command.
//!
//! Everything a production server has, made on the spot: a token with a random PIN, an operator's
//! credential, a configuration. Nothing is trusted for being local, and a second start finds it all.

mod make;
mod module;
mod state;

use std::path::{Path, PathBuf};

use super::environment;
use super::failure::{Exit, Failure};
use super::output;
use super::place::dev_dir;
use super::serve::runtime;
use super::show::fingerprint;
use crate::app;
use crate::config::Config;
use crate::x509::Certificate;
use state::State;

#[derive(Debug, clap::Args)]
pub(super) struct DevArgs {
    /// Where everything is kept. Default: $XDG_STATE_HOME/rootbridge/dev. Remove it to start over.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The port to serve on. Default: 8443, or a free one when that is taken.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// SoftHSM's PKCS#11 module. Default: where distributions put it.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
}

pub(super) fn run(args: &DevArgs) -> Result<(), Failure> {
    let dir = match (&args.dir, dev_dir()) {
        (Some(dir), _) => std::path::absolute(dir).map_err(|e| Failure::file("find", dir, &e))?,
        (None, Some(dir)) => dir,
        (None, None) => {
            let what = "neither XDG_STATE_HOME nor HOME is set: nowhere to keep the token";
            return Err(Failure::new(Exit::Usage, what).next("give --dir DIR"));
        }
    };
    let state = State::prepare(&dir, args.port, args.module.as_deref())?;
    let config = Config::load(&state.config())?;
    environment::ensure(&config.hsm().missing_environment())?;
    let root = make::token_and_ca(&config, &state)?;
    let screen = screen(&state, &config, &root, args.dir.is_some());
    let served = app::serve(state.config(), false, move || {
        drop(output::raw(screen.as_bytes()))
    });
    runtime()?.block_on(served).map_err(|error| {
        Failure::from(error)
            .next("a port that is taken? `rootbridge dev --dir DIR` makes another one")
    })
}

/// One screen of next steps.
fn screen(state: &State, config: &Config, root: &Certificate, elsewhere: bool) -> String {
    let address = config
        .listeners()
        .first()
        .map(|l| l.address().to_string())
        .unwrap_or_default();
    let quoted = |path: &Path| path.display().to_string();
    let exports = match elsewhere {
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

Ctrl-C stops it; the next `rootbridge dev` goes on from here.

",
        domain = state::TRUST_DOMAIN,
        admin = config.admin().address(),
        print = fingerprint(root),
        dir = quoted(state.dir()),
    )
}
