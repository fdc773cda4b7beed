//! The command line, as clap reads it.

use clap::{CommandFactory as _, Parser, Subcommand};

use super::{anchors, ca, cert, check, client, config, dev, generate, keys, linkerd, serve};

const AFTER_HELP: &str = "\
Exit codes: 0 done · 1 failed · 2 usage · 3 configuration · 4 HSM · 5 ledger · 6 refused · \
7 unavailable

Start here: `rootbridge dev`, then `rootbridge sign spiffe://cluster.local/ns/foo/sa/bar --out bar/`";

/// A mesh CA whose issuing key lives in an HSM.
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
    /// Get a certificate: the key and CSR are made here, the server signs.
    Sign(client::sign::SignArgs),
    /// Show a server's trust bundle, or fetch the first one.
    #[command(subcommand)]
    Bundle(client::bundle::BundleCommand),
    /// Make or import the CA's own keys and certificates.
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Say which other CAs' roots the trust bundles show.
    #[command(subcommand)]
    Anchors(anchors::AnchorsCommand),
    /// Look at what was issued.
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Look at the keys in the tokens.
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Look at Linkerd's meshes.
    #[command(subcommand)]
    Linkerd(linkerd::LinkerdCommand),
    /// Look whether everything is well, and say what to do.
    Check(check::CheckArgs),
    /// Check a configuration file.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a completion script for a shell.
    Completions(generate::CompletionsArgs),
    /// Print the manual page, or write one for each command.
    Man(generate::ManArgs),
}

/// The whole command line, for completions, manual pages and the test of the reference.
pub fn command() -> clap::Command {
    Args::command()
}
