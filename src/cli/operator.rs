//! `operator new`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::config_arg::CommonArgs;
use super::failure::{Exit, Failure};
use super::output;
use crate::authn::{CredentialError, create_credential};
use crate::config::Config;
use crate::file_access::give_to_owner_of;

#[derive(Debug, clap::Subcommand)]
pub(super) enum OperatorCommand {
    /// Make the credential of an operator, in the file that the configuration names.
    New(NewArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct NewArgs {
    /// NAME of `[operators.NAME]`.
    #[arg(value_name = "NAME")]
    name: String,
    /// The file, without a configuration: for a Secret, or another machine.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a credential that exists, which revokes it.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(command: OperatorCommand) -> Result<(), Failure> {
    let OperatorCommand::New(args) = command;
    let (path, server_directory) = match &args.out {
        Some(path) => (path.clone(), None),
        None => {
            let config = args.common.config.load()?;
            let path = credential_file(&config, &args.name)?;
            (
                path,
                Some(config.ledger().high_water_directory().to_owned()),
            )
        }
    };
    let write = if args.replace { replace } else { create };
    write(&path, server_directory.as_deref())?;
    if args.common.format.is_json() {
        return output::json(&json!({
            "operator": args.name,
            "credential_file": path,
            "replaced": args.replace,
        }));
    }
    output::line(format!(
        "the credential of {} is in {}",
        args.name,
        path.display()
    ))
}

fn credential_file(config: &Config, name: &str) -> Result<PathBuf, Failure> {
    if let Some(operator) = config.authn().operators().get(name) {
        return Ok(operator.credential_file().to_owned());
    }
    let section = format!("[operators.{name}]");
    Err(Failure::new(Exit::Config, format!("there is no {section}"))
        .at(config.file().display())
        .next(format!(
            "write {section} with `trust_domain` and `credential_file`"
        ))
        .next("name it in `operators` of the listeners, or of [admin], that accept it")
        .next("or --out FILE, for a server whose configuration is elsewhere"))
}

fn create(path: &Path, server_directory: Option<&Path>) -> Result<(), Failure> {
    let file = create_credential(path).map_err(|error| match &error {
        CredentialError::Create { why, .. } if why.kind() == std::io::ErrorKind::AlreadyExists => {
            let message = format!("{} exists already", path.display());
            Failure::new(Exit::Failed, message)
                .next("use it, or add --replace, which revokes what it holds")
        }
        _ => Failure::new(Exit::Failed, error.to_string()),
    })?;
    give_to_server(server_directory, &file)
        .map_err(|error| Failure::file("give away", path, &error))
}

/// The old credential is valid until the new one is whole.
fn replace(path: &Path, server_directory: Option<&Path>) -> Result<(), Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    // Of a command that was interrupted.
    match fs::remove_file(new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::file("remove", new, &error));
        }
        _ => {}
    }
    create(new, server_directory)?;
    fs::rename(new, path).map_err(|error| Failure::file("replace", path, &error))
}

/// A file that root makes is the server's, whose user owns the directory that the server writes.
fn give_to_server(directory: Option<&Path>, file: &File) -> std::io::Result<()> {
    let mut above = directory.into_iter().flat_map(Path::ancestors);
    match above.find(|each| each.is_dir()) {
        Some(directory) => give_to_owner_of(directory, file),
        None => Ok(()),
    }
}
