//! Reads one TOML file and the overrides into a raw type.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ::config::{ConfigError as ValueError, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::check::{check, rejected};
use super::error::{ConfigError, Finding, Place};
use super::source::{line_at, merge, place};
use crate::config_issue::{ConfigIssue, ConfigIssues};

/// No configuration is longer; this one is some other file.
const MAX_BYTES: u64 = 1024 * 1024;

/// What was read, and what is wrong with it so far.
#[derive(Debug)]
pub(crate) struct ConfigSource {
    file: PathBuf,
    text: String,
    tree: Value,
    findings: Vec<Finding>,
}

impl ConfigSource {
    /// Reads `file` and the overrides among `variables`.
    pub(crate) fn open(
        file: &Path,
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let text = content(file)?;
        if let Err(error) = toml::de::DeTable::parse(&text) {
            let line = error.span().map_or(1, |span| line_at(&text, span.start));
            let issue = ConfigIssue::new("", format_args!("not TOML: {}", error.message()));
            return Err(ConfigError::one(&Place::Line(file, line), &issue));
        }
        let tree = merge(&text, variables)
            .map_err(|error| ConfigError::one(&Place::File(file), &ConfigIssue::new("", error)))?;
        Ok(Self {
            file: file.to_owned(),
            text,
            tree,
            findings: Vec::new(),
        })
    }

    /// The file as a `T`. If keys or values do not fit, [`Self::finish`] fails, and the `T` is
    /// without their tables: it is only good for finding further issues.
    pub(crate) fn deserialize<T: DeserializeOwned>(&mut self) -> Option<T> {
        let problems = check::<T>(&self.tree, &self.file, &self.text);
        let mut tree = self.tree.clone();
        for problem in &problems {
            remove(&mut tree, &problem.leave_out);
        }
        let has_problems = !problems.is_empty();
        let findings = problems.into_iter().map(|problem| problem.finding);
        self.findings.extend(findings);
        match tree.try_deserialize() {
            Ok(raw) => Some(raw),
            Err(_) if has_problems => None,
            Err(error) => {
                let finding = self.finding(&deserialize_issue(&error));
                self.findings.push(finding);
                None
            }
        }
    }

    /// `checked` is the result of the components, if they could be asked. A table that is in the file
    /// and has issues of its own is not called undefined as well.
    pub(crate) fn finish<C>(
        self,
        checked: Option<Result<C, ConfigIssues>>,
    ) -> Result<C, ConfigError> {
        let issues = match checked {
            Some(Ok(config)) if self.findings.is_empty() => return Ok(config),
            Some(Err(issues)) => issues,
            Some(Ok(_)) | None => ConfigIssues::default(),
        };
        let (undefined, mut issues): (Vec<_>, Vec<_>) = issues
            .into_iter()
            .partition(|issue| self.has_undefined_table(issue));
        if issues.is_empty() && self.findings.is_empty() {
            issues = undefined;
        }
        let issues: Vec<_> = issues.iter().map(|issue| self.finding(issue)).collect();
        let mut findings = self.findings;
        findings.extend(issues);
        Err(ConfigError::all(findings))
    }

    fn has_undefined_table(&self, issue: &ConfigIssue) -> bool {
        let Some((section, name)) = issue.undefined_table() else {
            return false;
        };
        table(&self.tree, section).is_some_and(|tables| table(tables, name).is_some())
    }

    fn finding(&self, issue: &ConfigIssue) -> Finding {
        let origin = origin(&self.tree, issue.key());
        let place = place(&self.file, &self.text, issue.key(), origin);
        Finding::new(&place, issue)
    }
}

fn table<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match &value.kind {
        ValueKind::Table(entries) => entries.get(key),
        _ => None,
    }
}

fn remove(value: &mut Value, path: &[String]) {
    let ValueKind::Table(entries) = &mut value.kind else {
        return;
    };
    match path {
        [] => {}
        [key] => drop(entries.shift_remove(key)),
        [key, rest @ ..] => {
            if let Some(inner) = entries.get_mut(key) {
                remove(inner, rest);
            }
        }
    }
}

/// Reads `file` as a `T`.
pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> Result<T, ConfigError> {
    let mut source = ConfigSource::open(file, &BTreeMap::new())?;
    let raw = source.deserialize();
    source.finish(raw.map(Ok))
}

fn content(file: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|open| open.take(MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| ConfigError::unreadable(file, &error))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ConfigError::unreadable(file, &"it is longer than 1 MiB"));
    }
    Ok(text)
}

fn deserialize_issue(error: &ValueError) -> ConfigIssue {
    let key = match error {
        ValueError::Type { key, .. } | ValueError::At { key, .. } => key.as_deref(),
        ValueError::NotFound(key) => Some(key.as_str()),
        _ => None,
    };
    // The crate omits the dot after an index: `policy.rules[0]names`.
    let key = key.unwrap_or_default().replace(']', "].");
    let key = key.replace("..", ".").replace(".[", "[");
    rejected(key.trim_end_matches('.'), error)
}

/// The variable that the value at `path` came from.
fn origin(tree: &Value, path: &str) -> Option<String> {
    let mut value = tree;
    for segment in path.split('.') {
        let (key, index) = match segment.split_once('[') {
            Some((key, index)) => (key, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (segment, None),
        };
        let ValueKind::Table(entries) = &value.kind else {
            break;
        };
        value = entries.get(key)?;
        if let (Some(index), ValueKind::Array(items)) = (index, &value.kind) {
            value = items.get(index)?;
        }
    }
    value.origin().map(ToOwned::to_owned)
}
