//! The only place that prints.
//!
//! Results go to stdout, everything else to stderr. What comes from a server or the ledger may
//! hold anything, so control characters never reach the terminal.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use super::failure::{Exit, Failure};

/// The form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// `-o`, where a command has no form of its own.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct FormatArg {
    /// The form of the result.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(super) output: Format,
}

impl FormatArg {
    pub(super) fn is_json(self) -> bool {
        self.output == Format::Json
    }
}

/// Prints `text` as it is, for completions, manual pages and PEM.
pub(super) fn raw(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // `rootbridge cert list | head`: the reader has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Done, String::new()))
        }
        Err(error) => Err(Failure::new(
            Exit::Failed,
            format!("cannot write the result: {error}"),
        )),
    }
}

/// Prints a line for people.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    raw(format!("{}\n", printable(text)).as_bytes())
}

/// Prints `value` as JSON.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot write JSON: {error}")))?;
    raw(format!("{text}\n").as_bytes())
}

/// Prints rows under their headings, in columns; `none` when there are no rows.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>], none: &str) -> Result<(), Failure> {
    if rows.is_empty() {
        return note(none);
    }
    let mut text = String::new();
    let heading: Vec<String> = headings.iter().map(ToString::to_string).collect();
    let cells = |row: &[String]| row.iter().map(|cell| printable(cell)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = std::iter::once(&heading)
        .chain(rows)
        .map(|r| cells(r))
        .collect();
    let widths: Vec<usize> = (0..headings.len())
        .map(|at| {
            rows.iter()
                .filter_map(|row| row.get(at))
                .map(|c| c.chars().count())
                .max()
        })
        .map(Option::unwrap_or_default)
        .collect();
    for row in &rows {
        let mut shown = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            shown.push_str(&format!("{cell:width$}   "));
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    raw(text.as_bytes())
}

/// Prints facts, one a line, their names in a column.
pub(super) fn facts(facts: &[(&str, String)]) -> Result<(), Failure> {
    let width = facts
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for (name, value) in facts {
        text.push_str(&format!("{name:width$}   {}\n", printable(value)));
    }
    raw(text.as_bytes())
}

/// Says something on stderr that is not part of the result.
pub(super) fn note(text: &str) -> Result<(), Failure> {
    // Nobody to tell is no reason to fail.
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
    Ok(())
}

/// Says on stderr what failed, where, and what to do next.
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
    if let Some(place) = failure.location() {
        text.push_str(&format!("  {dim}where:{off} {}\n", printable(place)));
    }
    for next in failure.next_steps() {
        text.push_str(&format!("  {dim}next:{off}  {}\n", printable(next)));
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether colours are welcome on `stream` (<https://no-color.org>).
pub(super) fn colored(stream: &impl io::IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Whether a person reads stderr, so that waiting may be shown.
pub(super) fn is_interactive() -> bool {
    io::stderr().is_terminal()
}

/// `text` without what could steer a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(
            printable("a\x1b[2Jb\tc\u{9b}d"),
            "a\u{fffd}[2Jb\tc\u{fffd}d"
        );
    }
}
