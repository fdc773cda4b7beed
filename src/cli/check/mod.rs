//! `check`: checks everything the server needs, and says how to fix what fails.
//!
//! A running server is not disturbed: the ledger is only read, each active issuing key makes one test
//! signature, and a PIN that the token refuses is not tried again.

mod clusters;
mod hsm;
mod istiod;
mod linkerd;
mod listeners;
mod records;
mod renewals;
mod report;
mod secrets;
mod upstream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::config_arg::ConfigArg;
use super::environment;
use super::failure::{Exit, Failure};
use super::format::count;
use super::open::block_on;
use super::output;
use crate::app::MarkFile;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::hsm::Hsm;
use crate::ledger::{Assurance, Ledger, Replication, Snapshot};
use report::Report;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: CheckFormat,
    /// Repeat the checks until none fails, for at most this duration.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[arg(num_args = 0..=1, default_missing_value = "5m")]
    wait: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum CheckFormat {
    /// Every check, with hints.
    #[default]
    Table,
    /// For programs.
    Json,
    /// Warnings and failures, one a line.
    Short,
}

/// The category of the checks in clusters.
const CLUSTERS: &str = "clusters";
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(failure) => {
            if args.output == CheckFormat::Json {
                let mut report = Report::default();
                report.error("config", "configuration", failure.message());
                output::json(&report)?;
            }
            return Err(failure);
        }
    };
    environment::ensure(&config)?;
    let report = block_on(check_until_passing(&config, args.wait))?;
    match args.output {
        CheckFormat::Table => output::raw(report.table(output::colored(&std::io::stdout())))?,
        CheckFormat::Short => output::raw(report.short())?,
        CheckFormat::Json => output::json(&report)?,
    }
    match report.failures() {
        0 => Ok(()),
        // The report is printed; this adds the exit code.
        failed => Err(Failure::new(
            Exit::Failed,
            format!("{} failed", count(failed, "check")),
        )),
    }
}

/// Repeats the checks; the module is loaded once, and each token logged in to once.
async fn check_until_passing(config: &Config, wait: Option<Duration>) -> Report {
    let end = Instant::now() + wait.unwrap_or_default();
    let mut module = None;
    loop {
        let report = check_once(config, &mut module).await;
        let done = report.failures() == 0 || report.is_final() || Instant::now() >= end;
        if done {
            return report;
        }
        if output::is_interactive() {
            let _ = output::note(format!("{} checks fail; checking again", report.failures()));
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn check_once(config: &Config, module: &mut Option<Arc<Hsm>>) -> Report {
    let mut report = Report::default();
    report.pass("config", "configuration", config.file().display());
    secrets::access(config, &mut report);
    secrets::contents(config, &mut report).await;
    listeners::files(config, SystemClock.now(), &mut report);
    let records = ledger(config, &mut report).await;
    if let Some(module) = hsm::module(config, module, &mut report) {
        hsm::tokens(config, &module, records.as_ref(), &mut report).await;
    }
    if let Some(records) = &records {
        if let Some(profile) = config.policy().policy().profile("") {
            records::chains(config, records, profile, SystemClock.now(), &mut report);
        }
        upstream::requests(records, SystemClock.now(), &mut report);
        linkerd::authorities(config, records, &mut report);
        linkerd::issuers(config, records, &mut report);
    }
    clusters::clusters(config, records.as_ref(), &mut report).await;
    report
}

/// The ledger's own check, and the clock.
async fn ledger(config: &Config, report: &mut Report) -> Option<Snapshot> {
    let store = config.ledger().store();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let opened = store
        .open_existing(clock)
        .await
        .inspect_err(|error| report.error("ledger", "open", error))
        .ok()?;
    let Some(ledger) = opened else {
        let detail = format!("there is no ledger at {} yet", store.name());
        report
            .warn("ledger", "file", detail)
            .hint("`rootbridge ca init` or `rootbridge serve` creates it");
        return None;
    };
    report.pass("ledger", "open", store.name());
    match ledger.check().await {
        Ok(found) if found.problems.is_empty() => {
            let (schema, intents) = (found.schema, found.intents);
            let detail = format!("schema {schema}, {intents} intents, all invariants hold");
            report.pass("ledger", "integrity", detail);
            replication(found.replication.as_ref(), report);
        }
        Ok(found) => {
            for problem in &found.problems {
                report
                    .fail("ledger", "integrity", problem)
                    .hint("stop the server and restore a backup");
            }
            replication(found.replication.as_ref(), report);
        }
        Err(error) => report.error("ledger", "integrity", error),
    }
    newest(config, ledger.as_ref(), report).await;
    records::clock(ledger.as_ref(), SystemClock.now(), report).await;
    renewals::ends(config, ledger.as_ref(), SystemClock.now(), report).await;
    let records = ledger.snapshot().await;
    ledger.close().await;
    records
        .inspect_err(|error| report.error("ledger", "records", error))
        .ok()
}

/// Who confirms a commit of a database, and what a failover may lose.
fn replication(found: Option<&Replication>, report: &mut Report) {
    const NAME: &str = "replication";
    let Some((assurance, detail, hint)) = found.map(Replication::assurance) else {
        return;
    };
    let finding = match assurance {
        Assurance::Kept => return report.pass("ledger", NAME, detail),
        Assurance::AtRisk => report.warn("ledger", NAME, detail),
        Assurance::Stopped => report.fail("ledger", NAME, detail),
    };
    if let Some(hint) = hint {
        finding.hint(hint);
    }
}

/// Whether the ledger holds what the server's mark says.
async fn newest(config: &Config, ledger: &dyn Ledger, report: &mut Report) {
    let mark = MarkFile::new(config);
    let path = mark.path().display();
    let reached = match mark.read() {
        Ok(Some(reached)) => reached,
        Ok(None) => {
            let detail = format!("no mark in {path} shows that this ledger is the newest");
            report
                .warn("ledger", "mark", detail)
                .hint("`rootbridge serve` keeps one; a copy of a ledger has none");
            return;
        }
        Err(error) => return report.error("ledger", "mark", error),
    };
    match ledger.behind(&reached).await {
        Ok(None) => report.pass("ledger", "mark", reached),
        Ok(Some(difference)) => {
            let detail = format!(
                "the ledger is not the newest: {difference}, and the mark in {path} is at {reached}"
            );
            report.fail("ledger", "mark", detail).hint(
                "put the newest ledger back, with its -wal file, or see `rootbridge serve --help`",
            );
        }
        Err(error) => report.error("ledger", "mark", error),
    }
}
