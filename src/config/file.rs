//! One TOML file, read into a raw type.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ::config::{ConfigError as TreeError, Value};
use serde::de::DeserializeOwned;

use super::check::check;
use super::error::{ConfigError, Finding};
use super::schema::Shape;
use super::source::{line_at, merge, place};

/// No configuration is longer; this one is some other file.
const MAX_BYTES: u64 = 1024 * 1024;

/// What was read, kept to say where things stand in it.
#[derive(Debug)]
pub(crate) struct Written {
    file: PathBuf,
    text: String,
    tree: Value,
}

impl Written {
    /// A finding of a room: `key: what is wrong; what to write`.
    pub(crate) fn finding(&self, what: &str) -> Finding {
        let key = what.split(": ").next().unwrap_or_default();
        let (what, write) = match what.split_once("; ") {
            Some((what, write)) => (what, Some(write)),
            None => (what, None),
        };
        let place = place(
            &self.file,
            &self.text,
            key,
            origin(&self.tree, key).as_deref(),
        );
        let finding = Finding::new(place, what);
        match write {
            Some(write) => finding.write(write),
            None => finding,
        }
    }
}

/// Reads `file` under the overrides among `variables`: every unknown key is found at once, then
/// the first value of a wrong type.
pub(crate) fn read<T: DeserializeOwned>(
    file: &Path,
    variables: &BTreeMap<String, String>,
) -> Result<(T, Written), ConfigError> {
    let text = content(file)?;
    if let Err(error) = toml::de::DeTable::parse(&text) {
        let line = error.span().map_or(1, |span| line_at(&text, span.start));
        let place = format!("{}:{line}", file.display());
        return Err(ConfigError::one(Finding::new(
            place,
            format!("not TOML: {}", error.message()),
        )));
    }
    let tree = merge(&text, variables).map_err(|error| {
        ConfigError::one(Finding::new(file.display().to_string(), error.to_string()))
    })?;
    let findings = check(&tree, &Shape::of::<T>(), file, &text);
    if !findings.is_empty() {
        return Err(ConfigError::all(findings));
    }
    match tree.clone().try_deserialize() {
        Ok(raw) => Ok((
            raw,
            Written {
                file: file.to_owned(),
                text,
                tree,
            },
        )),
        Err(error) => Err(ConfigError::one(wrong_type(file, &text, &tree, &error))),
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

fn wrong_type(file: &Path, text: &str, tree: &Value, error: &TreeError) -> Finding {
    let (key, what) = match error {
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
    // The crate leaves the dot after an index out: `policy.rules[0]names`.
    let key = key.unwrap_or_default().replace(']', "].");
    let key = key.replace("..", ".").replace(".[", "[");
    let key = key.trim_end_matches('.').to_owned();
    let origin = origin(tree, &key);
    let finding = Finding::new(
        place(file, text, &key, origin.as_deref()),
        format!("{key}: {what}"),
    );
    if what.contains("expected a duration") {
        finding.write("write a duration such as 500ms, 5s, 10m, 24h or 30d")
    } else if what == "is missing" {
        finding.write(format!(
            "it has no default; see docs/reference/config.md, `{key}`"
        ))
    } else {
        finding
    }
}

/// The variable that the value at `path` came from.
fn origin(tree: &Value, path: &str) -> Option<String> {
    use ::config::ValueKind;

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
