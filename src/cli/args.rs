//! The command line for clap.

use clap::{CommandFactory as _, Parser, Subcommand};

use super::{
    agent, anchors, authority, ca, cert, check, client, config, dev, generate, hsm, keys, ledger,
    linkerd, operator, serve, upstream,
};

const AFTER_HELP: &str = "\
Exit codes: 0 done · 1 failed · 2 usage · 3 configuration · 4 HSM · 5 ledger · 6 refused · \
7 unavailable

Start here: `rootbridge dev`, then `rootbridge sign spiffe://cluster.local/ns/foo/sa/bar --out bar/`";

/// A mesh CA whose issuing key stays in an HSM.
#[derive(Debug, Parser)]
#[command(name = "rootbridge", version, after_help = AFTER_HELP, propagate_version = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start a CA on this machine: token, root, issuing CA and server in one command.
    Dev(dev::DevArgs),
    /// Serve the configured listeners.
    Serve(serve::ServeArgs),
    /// Publish a server's trust bundle in a cluster that the server cannot reach.
    Agent(agent::AgentArgs),
    /// Request a certificate: this command creates the key and CSR, the server signs.
    Sign(client::sign::SignArgs),
    /// Show a server's trust bundle, or fetch a first one.
    #[command(subcommand)]
    Bundle(client::bundle::BundleCommand),
    /// Create or import the CA's own keys and certificates.
    #[command(subcommand)]
    Ca(Box<ca::CaCommand>),
    /// List authorities, or remove one that has never issued.
    #[command(subcommand)]
    Authority(authority::AuthorityCommand),
    /// Manage roots of other CAs in the trust bundles.
    #[command(subcommand)]
    Anchors(anchors::AnchorsCommand),
    /// Change a root or an issuing CA in every cluster.
    #[command(subcommand)]
    Rotate(client::rotate::RotateCommand),
    /// Ask the CAs that certify the issuing keys.
    #[command(subcommand)]
    Upstream(upstream::UpstreamCommand),
    /// List and show issued certificates.
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Show what the tokens are and can do.
    #[command(subcommand)]
    Hsm(hsm::HsmCommand),
    /// List the keys in the tokens.
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Copy the ledger, or check a copy.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Make the credentials of operators.
    #[command(subcommand)]
    Operator(operator::OperatorCommand),
    /// Show the state of Linkerd's meshes.
    #[command(subcommand)]
    Linkerd(linkerd::LinkerdCommand),
    /// Check configuration, HSM, ledger and clusters, and print how to fix what fails.
    Check(check::CheckArgs),
    /// Check a configuration file.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a completion script for a shell.
    Completions(generate::CompletionsArgs),
    /// Print the manual page, or write one for each command.
    Man(generate::ManArgs),
}

/// The complete command line, for completions, manual pages and the test of its reference.
pub fn command() -> clap::Command {
    Args::command()
}
