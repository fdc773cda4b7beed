//! What is wrong with a configuration: where, what, and what to write instead.

use std::fmt;
use std::path::Path;

use crate::config_issue::ConfigIssue;

/// An issue and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    place: String,
    line: Option<usize>,
    what: String,
    fix: Option<String>,
}

impl Finding {
    /// `key` may be empty: the problem is then the file's.
    pub(super) fn new(place: &Place, issue: &ConfigIssue) -> Self {
        let what = match issue.key() {
            "" => issue.problem().to_owned(),
            key => format!("{key}: {}", issue.problem()),
        };
        Self {
            place: escape(&place.to_string(), usize::MAX),
            line: place.line(),
            what: escape(&what, MAX_CHARS),
            fix: issue.fix().map(|fix| escape(fix, MAX_CHARS)),
        }
    }

    /// File and line, or the environment variable.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The key and what is wrong with it.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to write instead.
    pub fn to_write(&self) -> Option<&str> {
        self.fix.as_deref()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        match &self.fix {
            Some(fix) => write!(f, " ({fix})"),
            None => Ok(()),
        }
    }
}

/// Where a value is written.
#[derive(Debug, Clone)]
pub(super) enum Place<'a> {
    File(&'a Path),
    Line(&'a Path, usize),
    Variable(String),
}

impl Place<'_> {
    fn line(&self) -> Option<usize> {
        match self {
            Self::Line(_, line) => Some(*line),
            Self::File(_) | Self::Variable(_) => None,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Line(file, line) => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// The most characters of a key or a value that are shown.
const MAX_CHARS: usize = 400;

/// A key, a value or a variable's name may be anything: control characters are escaped, because they
/// move a terminal's cursor, and a long text is cut.
fn escape(text: &str, max_chars: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, c) in text.chars().enumerate() {
        if index == max_chars {
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

/// A configuration that cannot be used. Holds at least one finding; never a value of the file that
/// could be a secret, because the file holds none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    findings: Vec<Finding>,
}

impl ConfigError {
    pub(super) fn one(place: &Place, issue: &ConfigIssue) -> Self {
        Self::all(vec![Finding::new(place, issue)])
    }

    /// Sorts by line; what has no line comes first.
    pub(super) fn all(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.line);
        Self { findings }
    }

    pub(super) fn unreadable(file: &Path, error: &dyn fmt::Display) -> Self {
        let problem = format_args!("the file cannot be read: {error}");
        let fix = "`rootbridge dev` makes one that works; docs/reference/config.md lists every key";
        let issue = ConfigIssue::new("", problem).with_fix(fix);
        Self::one(&Place::File(file), &issue)
    }

    /// In the order of the file.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
