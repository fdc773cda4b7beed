//! The commands: each file holds the arguments and the code of one. All output is in `output`.

mod agent;
mod anchors;
mod args;
mod authority;
mod ca;
mod ca_requests;
mod cert;
mod certificate_files;
mod check;
mod client;
mod config;
mod config_arg;
mod dev;
mod environment;
mod existing_key;
mod failure;
mod failure_from;
mod files;
mod format;
mod generate;
mod hsm;
mod key_prune;
mod key_records;
mod keys;
mod ledger;
mod linkerd;
mod name_constraints;
mod open;
mod operator;
mod output;
mod serve;
mod time;
mod upstream;

use std::process::ExitCode;

use clap::Parser as _;

pub use args::command;
use args::{Args, Command};
pub use failure::{Exit, Failure};

/// Parses the arguments of this process, runs the command, and prints its failure.
pub fn main() -> ExitCode {
    // Usage errors, `--help` and `--version` exit here, with clap's exit codes 2 and 0.
    let args = Args::parse();
    match run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::report(&failure);
            failure.exit().into()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(args) => dev::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Agent(args) => agent::run(args),
        Command::Sign(args) => client::sign::run(args),
        Command::Bundle(args) => client::bundle::run(args),
        Command::Ca(args) => ca::run(*args),
        Command::Authority(args) => authority::run(args),
        Command::Anchors(args) => anchors::run(args),
        Command::Rotate(args) => client::rotate::run(args),
        Command::Upstream(args) => upstream::run(args),
        Command::Cert(args) => cert::run(args),
        Command::Hsm(args) => hsm::run(args),
        Command::Key(args) => keys::run(args),
        Command::Ledger(args) => ledger::run(args),
        Command::Linkerd(args) => linkerd::run(args),
        Command::Operator(args) => operator::run(args),
        Command::Check(args) => check::run(&args),
        Command::Config(args) => config::run(args),
        Command::Completions(args) => generate::completions(&args, self::command()),
        Command::Man(args) => generate::man(&args, self::command()),
    }
}
