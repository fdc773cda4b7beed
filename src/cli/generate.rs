//! `completions` and `man`.

use std::path::{Path, PathBuf};

use clap_complete::Shell;

use super::failure::Failure;
use super::output;

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell of the script.
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Write rootbridge.1 and a page for each command into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn completions(
    args: &CompletionsArgs,
    mut command: clap::Command,
) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "rootbridge", &mut script);
    output::raw(script)
}

pub(super) fn man(args: &ManArgs, command: clap::Command) -> Result<(), Failure> {
    let Some(dir) = &args.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut page)
            .map_err(|error| Failure::file("create", Path::new("rootbridge.1"), &error))?;
        return output::raw(page);
    };
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(command, dir))
        .map_err(|error| Failure::file("write manual pages into", dir, &error))
}
