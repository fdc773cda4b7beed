//! `ledger copy`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config_arg::CommonArgs;
use super::failure::{Exit, Failure};
use super::open::block_on;
use super::output;
use crate::app::MarkFile;
use crate::clock::SystemClock;
use crate::ledger::{CopyProgress, CopyStep, LedgerStore, PasswordSource, PostgresConfig, copy};

/// How often progress is printed where no terminal shows it.
const INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct CopyArgs {
    /// What is copied: sqlite:FILE, or a PostgreSQL URL. No server may use it.
    #[arg(long, value_name = "LEDGER")]
    from: String,
    /// Where it is copied to: sqlite:FILE, or a PostgreSQL URL. It must hold no ledger.
    #[arg(long, value_name = "LEDGER")]
    to: String,
    /// The file with the password of the database in --from.
    #[arg(long, value_name = "FILE")]
    from_password_file: Option<PathBuf>,
    /// The file with the password of the database in --to.
    #[arg(long, value_name = "FILE")]
    to_password_file: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) fn run(args: &CopyArgs) -> Result<(), Failure> {
    let config = args.common.config.load()?;
    let from = store("--from", &args.from, args.from_password_file.as_ref())?;
    let to = store("--to", &args.to, args.to_password_file.as_ref())?;
    let mark = MarkFile::new(&config).read()?;
    let mut shown = Shown::new();
    let copied = block_on(copy(
        &from,
        &to,
        mark.as_ref(),
        Arc::new(SystemClock),
        |progress| shown.show(progress),
    ));
    shown.end();
    let report = copied??;
    if args.common.format.is_json() {
        return output::json(&report);
    }
    output::table(
        report.tables.iter().map(|table| {
            [
                ("TABLE", table.table.to_owned()),
                ("ROWS", table.rows.to_string()),
                ("SHA256, THE SAME IN BOTH", table.sha256.clone()),
            ]
        }),
        "no tables",
    )?;
    let how = match report.continued {
        true => "the copy went on where it was interrupted",
        false => "copied",
    };
    output::note(format!(
        "{how}: {} holds {}. Name it in [ledger] of every server, keep ledger.high_water_directory, and never \
         start a server on {} again",
        to.name(),
        report.reached,
        from.name()
    ))
}

fn store(option: &str, text: &str, password: Option<&PathBuf>) -> Result<LedgerStore, Failure> {
    let wrong = |problem: &str| Failure::new(Exit::Usage, format!("{option} {problem}"));
    if let Some(path) = text.strip_prefix("sqlite:") {
        return match (path, password) {
            ("", _) => Err(wrong("names no file: write sqlite:FILE")),
            (_, Some(_)) => Err(wrong("is a file, which has no password")),
            (path, None) => Ok(LedgerStore::Sqlite(PathBuf::from(path))),
        };
    }
    if !text.starts_with("postgres") {
        return Err(wrong(
            "is no ledger: write sqlite:FILE, or postgres://USER@HOST/DATABASE",
        ));
    }
    let password = password.map(|path| PasswordSource::File(path.clone()));
    PostgresConfig::parse(text, password)
        .map(|settings| LedgerStore::Postgres(Box::new(settings)))
        // The password's option is another one here.
        .map_err(|problem| {
            let problem =
                problem.replace("ledger.password_file", &format!("{option}-password-file"));
            wrong(&problem)
        })
}

/// Progress on stderr: one line that changes on a terminal, a line now and then elsewhere.
struct Shown {
    is_terminal: bool,
    last: Option<Instant>,
}

impl Shown {
    fn new() -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            last: None,
        }
    }

    fn show(&mut self, progress: CopyProgress) {
        let pause = match self.is_terminal {
            true => Duration::from_millis(100),
            false => INTERVAL,
        };
        if self.last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        self.last = Some(Instant::now());
        let step = match progress.step {
            CopyStep::Copying => "copying",
            CopyStep::Comparing => "comparing",
        };
        let (rows, of) = (progress.rows, progress.of);
        let percent = (rows * 100).checked_div(of).unwrap_or(100);
        let line = format!(
            "{step} {}: {rows} of {of} rows, {percent} %",
            progress.table
        );
        match self.is_terminal {
            true => output::progress(&line),
            false => drop(output::note(line)),
        }
    }

    /// The next output begins a line.
    fn end(&self) {
        if self.is_terminal && self.last.is_some() {
            output::progress("");
        }
    }
}
