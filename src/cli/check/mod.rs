//! `check`: looks at everything the server needs, from the outside in, and says what to do.
//!
//! A running server is not disturbed: the ledger is only read, one test signature is made for each
//! issuing key in use, and a PIN that the token refuses is not tried again.

mod clusters;
mod hsm;
mod istiod;
mod linkerd;
mod records;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::config_arg::ConfigArg;
use super::environment;
use super::failure::{Exit, Failure};
use super::format::count;
use super::open::block_on;
use super::output;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::hsm::Hsm;
use crate::ledger::{Ledger, OpenMode, Snapshot, Sqlite};
use report::Report;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// The form of the result.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: CheckFormat,
    /// Check again until nothing fails, at most so long.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[arg(num_args = 0..=1, default_missing_value = "5m")]
    wait: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum CheckFormat {
    /// Everything, with hints.
    #[default]
    Table,
    /// For programs.
    Json,
    /// Only what is not well, a line each.
    Short,
}

/// What is found in clusters is reported under this.
const CLUSTERS: &str = "clusters";
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(failure) => {
            if args.output == CheckFormat::Json {
                let mut report = Report::default();
                report.fail("config", "configuration", failure.message());
                output::json(&report)?;
            }
            return Err(failure);
        }
    };
    environment::ensure(&config.hsm().missing_environment())?;
    let report = block_on(check_until_passing(&config, args.wait))?;
    match args.output {
        CheckFormat::Table => {
            output::raw(report.table(output::colored(&std::io::stdout())).as_bytes())?
        }
        CheckFormat::Short => output::raw(report.short().as_bytes())?,
        CheckFormat::Json => output::json(&report)?,
    }
    match report.failures() {
        0 => Ok(()),
        // All is said above; the code is what is left to say.
        failed => Err(Failure::new(
            Exit::Failed,
            format!("{} failed", count(failed, "check")),
        )),
    }
}

/// The module is loaded once and a token logged in to once, however often the rest is looked at.
async fn check_until_passing(config: &Config, wait: Option<Duration>) -> Report {
    let end = Instant::now() + wait.unwrap_or_default();
    let mut opened = None;
    loop {
        let report = check_once(config, &mut opened).await;
        let done = report.failures() == 0 || report.is_final() || Instant::now() >= end;
        if done {
            return report;
        }
        if output::is_interactive() {
            let _ = output::note(&format!("{} checks fail; looking again", report.failures()));
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn check_once(config: &Config, opened: &mut Option<Arc<Hsm>>) -> Report {
    let mut report = Report::default();
    report.pass(
        "config",
        "configuration",
        &config.file().display().to_string(),
    );
    let records = ledger(config, &mut report).await;
    let module = hsm::module(config, opened, &mut report);
    if let Some(module) = module {
        hsm::tokens(config, &module, records.as_ref(), &mut report).await;
    }
    if let Some(records) = &records {
        records::chains(records, SystemClock.now(), &mut report);
        linkerd::authorities(config, records, &mut report);
        linkerd::issuers(config, records, &mut report);
    }
    clusters::clusters(config, records.as_ref(), &mut report).await;
    report
}

/// The ledger's own examination, and the clock against what was last recorded.
async fn ledger(config: &Config, report: &mut Report) -> Option<Snapshot> {
    let path = config.ledger().path();
    if !path.exists() {
        let what = format!("there is no ledger at {} yet", path.display());
        report
            .warn("ledger", "file", &what)
            .hint("`rootbridge ca init` or `rootbridge serve` makes it");
        return None;
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let opened = match Sqlite::open(path, OpenMode::Shared, clock).await {
        Ok(opened) => opened,
        Err(error) => {
            report.fail("ledger", "open", &error.to_string());
            return None;
        }
    };
    report.pass("ledger", "open", &path.display().to_string());
    match opened.check().await {
        Ok(found) if found.problems.is_empty() => {
            let said = format!(
                "schema {}, {} intents, all invariants hold",
                found.schema, found.intents
            );
            report.pass("ledger", "integrity", &said);
        }
        Ok(found) => {
            for problem in &found.problems {
                report
                    .fail("ledger", "integrity", problem)
                    .hint("stop the server and restore a backup");
            }
        }
        Err(error) => {
            report.fail("ledger", "integrity", &error.to_string());
        }
    }
    records::clock(&opened, SystemClock.now(), report).await;
    let records = opened.snapshot().await;
    opened.close().await;
    match records {
        Ok(records) => Some(records),
        Err(error) => {
            report.fail("ledger", "records", &error.to_string());
            None
        }
    }
}
