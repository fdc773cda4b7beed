//! What is wrong with a configuration: where, what, and what to write instead.

use std::fmt;
use std::path::Path;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    place: String,
    what: String,
    write: Option<String>,
}

impl Finding {
    pub(super) fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: plain(&place.into(), usize::MAX),
            what: plain(&what.into(), SHOWN),
            write: None,
        }
    }

    pub(super) fn write(mut self, write: impl Into<String>) -> Self {
        self.write = Some(plain(&write.into(), SHOWN));
        self
    }

    /// File and line, or the environment variable.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The key and what is wrong with it.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to write instead, where that can be said.
    pub fn to_write(&self) -> Option<&str> {
        self.write.as_deref()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        match &self.write {
            Some(write) => write!(f, " ({write})"),
            None => Ok(()),
        }
    }
}

/// How much of a key or a value is shown.
const SHOWN: usize = 400;

/// A key, a value or a variable's name may be anything: no character of it moves a terminal, and a
/// long one does not hide the rest.
fn plain(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.chars().enumerate() {
        if at == most {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A configuration that cannot be used. Holds at least one finding; never a value from the file
/// that could be a secret, because none belongs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    findings: Vec<Finding>,
}

impl ConfigError {
    pub(super) fn one(finding: Finding) -> Self {
        Self {
            findings: vec![finding],
        }
    }

    pub(super) fn all(findings: Vec<Finding>) -> Self {
        Self { findings }
    }

    pub(super) fn unreadable(file: &Path, why: &dyn fmt::Display) -> Self {
        Self::one(
            Finding::new(
                file.display().to_string(),
                format!("the file cannot be read: {why}"),
            )
            .write(
                "`rootbridge dev` makes one that works; docs/reference/config.md lists every key",
            ),
        )
    }

    /// All that was found, in the order of the file.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.findings.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
