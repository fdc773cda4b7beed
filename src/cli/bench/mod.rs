//! `bench`: what one certificate costs on this machine, from the token's own speed to the whole
//! call over TLS, with the CPU time that none of it can do without as the measure.
//!
//! Token, ledger and authority are made for the occasion in a directory that is removed at the
//! end. The server is a process of its own, this process is its callers, and a third one, gone
//! before anything is measured end to end, is the only one beside the server that loads the module.

mod checks;
mod connection;
mod floor;
mod load;
mod place;
mod prepare;
mod report;
mod requests;
mod rows;
mod run;
mod server;

use std::path::PathBuf;
use std::sync::Arc;

use super::failure::{Exit, Failure};
use super::output::{self, FormatArg};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct BenchArgs {
    /// The PKCS#11 module, which must be SoftHSM's. Default: where packages put that.
    #[arg(long, value_name = "PATH")]
    module: Option<PathBuf>,
    /// Length of the measured window, after one second of warming up.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Persistent connections, with one call at a time on each.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Issued certificates that the ledger holds beforehand.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rows: u64,
    /// Compare instead: N windows on each of two servers, in turn; the second one's ledger holds
    /// --rows, the first one's nothing.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pairs: u32,
    /// With --pairs: the first server is this program, both ledgers hold --rows.
    #[arg(long, value_name = "PROGRAM", hide = true)]
    against: Option<PathBuf>,
    /// Where the throwaway token and ledger are made. A file system in memory would make syncing
    /// cost nothing.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    #[command(flatten)]
    format: FormatArg,
    /// The part that needs the module, in a process of its own.
    #[arg(long, value_name = "DIR", hide = true)]
    prepare: Option<PathBuf>,
}

pub(super) fn run(args: &BenchArgs) -> Result<(), Failure> {
    if let Some(dir) = &args.prepare {
        return prepare::run(dir);
    }
    if args.pairs > 0 && args.rows == 0 && args.against.is_none() {
        return Err(Failure::new(Exit::Usage, "--pairs compares ledgers")
            .next("say how full the other one is, with --rows 1000000"));
    }
    let place = place::Place::make(args)?;
    output::note("bench: making a token and an authority, measuring the token and the floor")?;
    let found = prepare::in_another_process(&place)?;
    let wanted = requests::wanted(&found, args.seconds);
    output::note(&format!(
        "bench: making {wanted} keys, CSRs and tokens, each different"
    ))?;
    let issuer = requests::TokenIssuer::new()?;
    place.write_jwks(&issuer.jwks()?)?;
    let requests = Arc::new(requests::make(&issuer, wanted)?);
    let json = args.format.is_json();
    if args.pairs > 0 {
        return report::compare(args, &run::pairs(args, &place, &requests)?, json);
    }
    let Some(site) = place.plan().sites.first() else {
        return Err(place::failed("there is nothing to measure"));
    };
    output::note(&format!("bench: {} s of load", args.seconds))?;
    let run = run::once(args, &place, site, &requests)?;
    let said = &run.window.outcome.said;
    report::Report::new(args, requests.len(), &found, &run).print(json, said)
}
