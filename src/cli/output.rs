//! All output of the commands.
//!
//! Results go to stdout, everything else to stderr. Text from a server or the ledger may hold any
//! character: control characters never reach the terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::failure::{Exit, Failure};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// `-o` of most commands.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct FormatArg {
    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(super) output: Format,
}

impl FormatArg {
    pub(super) fn is_json(self) -> bool {
        self.output == Format::Json
    }
}

/// `-o` of commands whose result is certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum CertificateFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// The certificates alone.
    Pem,
}

/// Prints `text` unchanged: completions, manual pages, PEM.
pub(super) fn raw(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // `rootbridge cert list | head`: the reader needs no more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Done, ""))
        }
        Err(error) => {
            let message = format!("cannot write the result: {error}");
            Err(Failure::new(Exit::Failed, message))
        }
    }
}

pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    raw(format!("{}\n", printable(&text.to_string())))
}

pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot write JSON: {error}")))?;
    raw(format!("{text}\n"))
}

/// A column's heading, and the cell of one row.
pub(super) type Cell = (&'static str, String);

/// Prints `rows` in columns under their headings; `none` on stderr when there are no rows.
pub(super) fn table<const N: usize>(
    rows: impl IntoIterator<Item = [Cell; N]>,
    none: &str,
) -> Result<(), Failure> {
    let mut table = Table::new();
    for row in rows {
        if table.row_count() == 0 {
            table.set_header(row.iter().map(|(heading, _)| *heading));
        }
        table.add_row(row.iter().map(|(_, cell)| printable(cell)));
    }
    match table.row_count() {
        0 => note(none),
        _ => columns(table),
    }
}

/// Prints names and values, one pair a line.
pub(super) fn facts(facts: impl AsRef<[Cell]>) -> Result<(), Failure> {
    let mut table = Table::new();
    let facts = facts.as_ref().iter();
    table.add_rows(facts.map(|(name, value)| [(*name).to_owned(), printable(value)]));
    columns(table)
}

/// Columns three spaces apart, without borders.
fn columns(mut table: Table) -> Result<(), Failure> {
    table.load_style(presets::NOTHING);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    raw(format!("{}\n", table.trim_fmt()))
}

/// Prints on stderr what is not part of the result; a closed stderr is not a failure.
pub(super) fn note(text: impl Display) -> Result<(), Failure> {
    let _ = writeln!(io::stderr().lock(), "{}", printable(&text.to_string()));
    Ok(())
}

/// Prints on stderr what failed, where, and what to do next.
pub(super) fn report(failure: &Failure) {
    if failure.exit() == Exit::Done {
        return;
    }
    let (bold, red, dim, off) = match colored(&io::stderr()) {
        true => ("\x1b[1m", "\x1b[1;31m", "\x1b[2m", "\x1b[0m"),
        false => ("", "", "", ""),
    };
    let mut text = format!(
        "{red}error:{off} {bold}{}{off}\n",
        printable(failure.message())
    );
    if let Some(location) = failure.location() {
        text.push_str(&format!("  {dim}where:{off} {}\n", printable(location)));
    }
    for next in failure.next_steps() {
        text.push_str(&format!("  {dim}next:{off}  {}\n", printable(next)));
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether to color output on `stream` (<https://no-color.org>).
pub(super) fn colored(stream: &impl io::IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Replaces the last line of a terminal on stderr; an empty text ends it.
pub(super) fn progress(text: &str) {
    let mut out = io::stderr().lock();
    let _ = match text {
        "" => writeln!(out),
        text => write!(out, "\r{}\x1b[K", printable(text)),
    };
    let _ = out.flush();
}

/// Whether stderr is a terminal, where progress is shown.
pub(super) fn is_interactive() -> bool {
    io::stderr().is_terminal()
}

/// `text` without control characters, which terminals obey.
fn printable(text: &str) -> String {
    let is_harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.replace(is_harmful, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(
            printable("a\x1b[2Jb\tc\u{9b}d"),
            "a\u{fffd}[2Jb\tc\u{fffd}d"
        );
    }
}
