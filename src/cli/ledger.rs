//! `ledger backup`, `ledger verify`, `ledger migrate` and `ledger copy`.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::config_arg::CommonArgs;
use super::failure::{Exit, Failure};
use super::ledger_copy::{self, CopyArgs};
use super::open::block_on;
use super::output;
use crate::app::MarkFile;
use crate::clock::SystemClock;
use crate::ledger::OpenMode;
use crate::ledger::sqlite::{backup, verify};

#[derive(Debug, clap::Subcommand)]
pub(super) enum LedgerCommand {
    /// Copy the ledger to a file; the server may run.
    Backup(LedgerArgs),
    /// Say whether a copy of the ledger is whole, and how far it goes.
    Verify(LedgerArgs),
    /// Make the ledger, or upgrade its schema.
    Migrate(CommonArgs),
    /// Copy the ledger to another store, from SQLite to PostgreSQL or back.
    Copy(CopyArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct LedgerArgs {
    /// The copy.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(command: LedgerCommand) -> Result<(), Failure> {
    match command {
        LedgerCommand::Backup(args) => make(&args),
        LedgerCommand::Verify(args) => check_copy(&args),
        LedgerCommand::Migrate(args) => migrate(&args),
        LedgerCommand::Copy(args) => ledger_copy::run(&args),
    }
}

fn migrate(args: &CommonArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let store = config.ledger().store();
    block_on(async {
        let ledger = store.open(OpenMode::Shared, Arc::new(SystemClock)).await?;
        ledger.close().await;
        Ok::<_, Failure>(())
    })??;
    let name = store.name();
    if args.format.is_json() {
        return output::json(&json!({ "ledger": name }));
    }
    output::line(format!("{name} has the schema of this version"))
}

fn make(args: &LedgerArgs) -> Result<(), Failure> {
    let config = args.common.config.load()?;
    let file = &args.file;
    let Some(ledger) = config.ledger().store().file() else {
        let message = format!(
            "the ledger is in a database ({}), which its own tools back up",
            config.ledger().store().name()
        );
        return Err(Failure::new(Exit::Usage, message)
            .at("ledger.url")
            .next("pg_basebackup, or pg_dump: docs/how-to/use-postgresql.md"));
    };
    let reached = block_on(async {
        backup(ledger, file).await?;
        Ok::<_, Failure>(verify(file, None).await?.reached)
    })??;
    if args.common.format.is_json() {
        return output::json(&json!({ "file": file, "reached": reached }));
    }
    output::line(format!("{}: {reached}", file.display()))
}

fn check_copy(args: &LedgerArgs) -> Result<(), Failure> {
    let config = args.common.config.load()?;
    let (file, mark) = (&args.file, MarkFile::new(&config));
    let newest = mark.read()?;
    let found = block_on(verify(file, newest.as_ref()))??;
    let mut problems = found.check.problems;
    // A backup is older than the ledger; a file that a server had open should hold what it recorded.
    match (&newest, &found.behind) {
        _ if found.is_backup => {}
        (Some(newest), Some(_)) => problems.push(format!(
            "it is the file of a ledger in use without the records of its -wal file, or an older one: it \
             ends at {}, and the server's mark is at {newest}",
            found.reached
        )),
        (None, _) => problems.push(format!(
            "it is the file of a ledger in use: records may be missing that were in its -wal file, and no \
             mark of the server is in {}",
            mark.path().display()
        )),
        (Some(_), None) => {}
    }
    if args.common.format.is_json() {
        output::json(&json!({
            "file": file,
            "whole": problems.is_empty(),
            "problems": problems,
            "reached": found.reached,
            "mark": newest,
        }))?;
    }
    match problems.as_slice() {
        [] if args.common.format.is_json() => Ok(()),
        [] => {
            let path = file.display();
            output::line(format!("{path} is whole: {}", found.reached))?;
            match newest.filter(|_| found.behind.is_some()) {
                Some(newest) => output::line(format!("the server has gone on to {newest}")),
                None => Ok(()),
            }
        }
        [first, rest @ ..] => {
            let message = format!("{} is not whole: {first}", file.display());
            let failure = Failure::new(Exit::Ledger, message);
            Err(rest
                .iter()
                .fold(failure, |failure, more| {
                    failure.next(format!("also {more}"))
                })
                .next("rootbridge ledger backup FILE makes a whole copy while the server runs"))
        }
    }
}
