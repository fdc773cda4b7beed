//! One TOML file, read into a raw type.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ::config::{ConfigError as TreeError, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::check::check;
use super::error::{ConfigError, Finding, Place};
use super::schema::Shape;
use super::source::{line_at, merge, place};
use crate::config_issue::{ConfigIssue, ConfigIssues};

/// No configuration is longer; this one is some other file.
const MAX_BYTES: u64 = 1024 * 1024;

/// What was read: it tells where a key is written.
#[derive(Debug)]
pub(crate) struct ConfigSource {
    file: PathBuf,
    text: String,
    tree: Value,
}

impl ConfigSource {
    /// The issues of the components, with their places. A table that is in the file and has issues of
    /// its own is not called undefined as well.
    pub(crate) fn error(&self, issues: impl Into<ConfigIssues>) -> ConfigError {
        let (undefined, mut issues): (Vec<_>, Vec<_>) = issues
            .into()
            .into_iter()
            .partition(|issue| self.has_undefined_table(issue));
        if issues.is_empty() {
            issues = undefined;
        }
        ConfigError::all(issues.iter().map(|issue| self.finding(issue)).collect())
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

/// Reads `file` and the overrides among `variables`. Every unknown key is reported, then the first
/// value of a wrong type.
pub(crate) fn read<T: DeserializeOwned>(
    file: &Path,
    variables: &BTreeMap<String, String>,
) -> Result<(T, ConfigSource), ConfigError> {
    let text = content(file)?;
    if let Err(error) = toml::de::DeTable::parse(&text) {
        let line = error.span().map_or(1, |span| line_at(&text, span.start));
        let issue = ConfigIssue::new("", format_args!("not TOML: {}", error.message()));
        return Err(ConfigError::one(&Place::Line(file, line), &issue));
    }
    let tree = merge(&text, variables)
        .map_err(|error| ConfigError::one(&Place::File(file), &ConfigIssue::new("", error)))?;
    let findings = check(&tree, &Shape::of::<T>(), file, &text);
    if !findings.is_empty() {
        return Err(ConfigError::all(findings));
    }
    let read = tree.clone().try_deserialize();
    let source = ConfigSource {
        file: file.to_owned(),
        text,
        tree,
    };
    match read {
        Ok(raw) => Ok((raw, source)),
        Err(error) => Err(source.error(wrong_type(&error))),
    }
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

fn wrong_type(error: &TreeError) -> ConfigIssue {
    let (key, problem) = match error {
        TreeError::Type {
            unexpected,
            expected,
            key,
            ..
        } => (key.clone(), format!("{unexpected} is not {expected}")),
        TreeError::NotFound(key) => (Some(key.clone()), "is missing".to_owned()),
        TreeError::At { error, key, .. } => (key.clone(), error.to_string()),
        other => (None, other.to_string()),
    };
    // The crate omits the dot after an index: `policy.rules[0]names`.
    let key = key.unwrap_or_default().replace(']', "].");
    let key = key.replace("..", ".").replace(".[", "[");
    let key = key.trim_end_matches('.').to_owned();
    let issue = ConfigIssue::new(&key, &problem);
    if problem.contains("expected a duration") {
        issue.with_fix("write a duration such as 500ms, 5s, 10m, 24h or 30d")
    } else if problem == "is missing" {
        let page = "docs/reference/config.md";
        issue.with_fix(format_args!("it has no default; see {page}, `{key}`"))
    } else {
        issue
    }
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
