//! `rootbridge-bench`: what one certificate costs on this machine, from the token's own speed to the
//! whole call over TLS, relative to the CPU time that no implementation can avoid.
//!
//! Token, ledger and authority are made in a temporary directory. Servers are processes of their own;
//! this process makes the calls. A third process measures the token and ends before any call is
//! measured, so that only the server has the PKCS#11 module loaded.
// It reports on its standard output and standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod answers;
mod baseline;
mod connection;
mod cpu_time;
mod ledger_rows;
mod load;
mod report;
mod requests;
mod run;
mod sandbox;
mod server;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

/// Measure what one certificate costs on this machine, with a throwaway token and ledger.
#[derive(Debug, Parser)]
#[command(name = "rootbridge-bench", version)]
struct Args {
    /// The server's program. Default: `rootbridge` in this program's directory.
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,
    /// The PKCS#11 module, which must be SoftHSM's. Default: where packages put that.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Length of the measured window, after one second of warming up.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Persistent connections, with one call at a time on each.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Callers present a certificate instead of a token: each connection gets one by a token before the load
    /// starts, and renews it at each call.
    #[arg(long)]
    renew: bool,
    /// Issued certificates in the ledger before the load starts.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rows: u64,
    /// Compare instead: N windows on each of two servers, in turn; the second one's ledger holds
    /// --rows, the first one's nothing.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pairs: u32,
    /// With --pairs: the first server is this program, both ledgers hold --rows.
    #[arg(long, value_name = "PROGRAM", requires = "pairs")]
    against: Option<PathBuf>,
    /// Where the throwaway token and ledger are made. On a file system in memory syncing would cost
    /// nothing.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// The form of the result.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
    /// Measures the token in a process of its own, with this module.
    #[arg(long, value_name = "FILE", hide = true)]
    measure_token: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.pairs > 0 && args.rows == 0 && args.against.is_none() {
        let what =
            "--pairs compares ledgers: give the size of the second one, such as --rows 1000000";
        let error = Args::command().error(ErrorKind::MissingRequiredArgument, what);
        error.exit();
    }
    let result = match &args.measure_token {
        Some(module) => {
            baseline::measure(module).and_then(|baseline| report::print_json(&baseline))
        }
        None => run_until_signal(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// On a signal the run is dropped, which kills its servers and removes its directory.
fn run_until_signal(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = run(args) => result,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    });
    // Threads that still prepare requests do not delay the end.
    runtime.shutdown_background();
    result
}

async fn run(args: &Args) -> Result<()> {
    let sandbox = sandbox::Sandbox::create(args)?;
    note("measuring the token and the floor");
    let baseline = baseline::in_child_process(&sandbox).await?;
    let authorities = server::init_authorities(&sandbox).await?;
    let count = baseline.requests(args.seconds);
    note(&format!("preparing {count} keys, CSRs and tokens"));
    let issuer = requests::TokenIssuer::generate()?;
    sandbox.write("jwks.json", &issuer.jwks()?.to_string())?;
    let requests = tokio::task::spawn_blocking(move || requests::prepare(&issuer, count));
    let requests = Arc::new(requests.await??);
    if args.pairs > 0 {
        let pairs = run::pairs(args, &authorities, &requests).await?;
        return report::comparison(args, &pairs);
    }
    let Some(authority) = authorities.first() else {
        bail!("there is no server to measure");
    };
    note(&format!("{} s of load", args.seconds));
    let run = run::once(args, authority, &requests).await?;
    report::single(args, requests.len(), &baseline, &run)
}

/// Progress, on standard error.
fn note(text: &str) {
    eprintln!("rootbridge-bench: {text}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_option_is_documented() {
        let page = include_str!("../../../docs/reference/cli.md");
        let (_, section) = page.split_once("\n## rootbridge-bench\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let documented: BTreeSet<&str> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .filter_map(|line| line.split('`').find_map(|part| part.strip_prefix("--")))
            .filter_map(|part| part.split(' ').next())
            .collect();
        let command = Args::command();
        let shown = command.get_arguments().filter(|each| !each.is_hide_set());
        let options: BTreeSet<&str> = shown.filter_map(clap::Arg::get_long).collect();
        assert_eq!(options, documented);
    }
}
