//! The file and the environment, merged into one tree of values.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::Place;
use ::config::{Config as Tree, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

/// Every override has this prefix, and `__` after its section.
const PREFIX: &str = "ROOTBRIDGE_";
/// Keys of this table are names of variables: they are case-sensitive.
const CASE_SENSITIVE: &str = "hsm.environment.";

/// `text` and the overrides among `variables`, which win.
pub(super) fn merge(
    text: &str,
    variables: &BTreeMap<String, String>,
) -> Result<Value, ConfigError> {
    let tree = Tree::builder()
        .add_source(File::from_str(text, FileFormat::Toml))
        .add_source(Overrides::among(variables))
        .build()?;
    Ok(tree.cache)
}

pub(super) fn is_override(variable: &str) -> bool {
    variable
        .strip_prefix(PREFIX)
        .is_some_and(|rest| rest.contains("__"))
}

/// Line of the key that `path` (`hsm.tokens.main.label`, `policy.rules[0].names`) leads to, or of
/// the longest part of the path that exists. Counted from 1.
pub(super) fn line_of(text: &str, path: &str) -> Option<usize> {
    use toml::de::{DeTable, DeValue};

    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut offset = None;
    'path: for segment in path.split('.') {
        let (key, index) = match segment.split_once('[') {
            Some((key, index)) => (key, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (segment, None),
        };
        let Some((found, value)) = table.iter().find(|(name, _)| name.get_ref() == key) else {
            break;
        };
        offset = Some(found.span().start);
        let mut value = value;
        if let (Some(index), DeValue::Array(items)) = (index, value.get_ref()) {
            let Some(item) = items.get(index) else {
                break 'path;
            };
            offset = Some(item.span().start);
            value = item;
        }
        let DeValue::Table(inner) = value.get_ref() else {
            break;
        };
        table = inner;
    }
    Some(line_at(text, offset?))
}

/// Line of a byte offset, counted from 1.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

/// Where `path` was last written.
pub(super) fn place<'a>(
    file: &'a Path,
    text: &str,
    path: &str,
    origin: Option<String>,
) -> Place<'a> {
    match (origin, line_of(text, path)) {
        (Some(variable), _) => Place::Variable(variable),
        (None, Some(line)) => Place::Line(file, line),
        (None, None) => Place::File(file),
    }
}

/// `ROOTBRIDGE_SECTION__KEY=value` as a source: each value remembers its variable.
#[derive(Debug, Clone)]
struct Overrides(Map<String, Value>);

impl Overrides {
    fn among(variables: &BTreeMap<String, String>) -> Self {
        let mut values = Map::new();
        for (variable, text) in variables.iter().filter(|(name, _)| is_override(name)) {
            let key = variable.trim_start_matches(PREFIX).replace("__", ".");
            let lower = key.to_lowercase();
            let key = match (
                lower.strip_prefix(CASE_SENSITIVE),
                key.get(CASE_SENSITIVE.len()..),
            ) {
                (Some(_), Some(name)) => format!("{CASE_SENSITIVE}{name}"),
                _ => lower,
            };
            values.insert(key, Value::new(Some(variable), value(variable, text)));
        }
        Self(values)
    }
}

impl Source for Overrides {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Arrays and inline tables are TOML; everything else is text, which the `config` crate converts to
/// the number or boolean that a type expects.
fn value(variable: &String, text: &str) -> ValueKind {
    let structured = text.starts_with('[') || text.starts_with('{');
    let parsed = structured.then(|| toml::from_str::<toml::Table>(&format!("value = {text}")).ok());
    match parsed.flatten().and_then(|mut table| table.remove("value")) {
        Some(parsed) => structure(variable, parsed),
        None => ValueKind::String(text.to_owned()),
    }
}

fn structure(variable: &String, value: toml::Value) -> ValueKind {
    let inner = |value| Value::new(Some(variable), structure(variable, value));
    match value {
        toml::Value::String(text) => ValueKind::String(text),
        toml::Value::Integer(number) => ValueKind::I64(number),
        toml::Value::Float(number) => ValueKind::Float(number),
        toml::Value::Boolean(truth) => ValueKind::Boolean(truth),
        toml::Value::Datetime(at) => ValueKind::String(at.to_string()),
        toml::Value::Array(items) => ValueKind::Array(items.into_iter().map(inner).collect()),
        toml::Value::Table(table) => ValueKind::Table(
            table
                .into_iter()
                .map(|(key, value)| (key, inner(value)))
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn overrides_have_an_origin_and_a_structure() {
        let variables = BTreeMap::from(
            [
                ("ROOTBRIDGE_HSM__WORKERS", "4"),
                ("ROOTBRIDGE_LISTENERS__MESH__APIS", "[\"istio\"]"),
                ("ROOTBRIDGE_HSM__ENVIRONMENT__SOFTHSM2_CONF", "/x"),
                ("ROOTBRIDGE_PIN", "no override"),
                ("OTHER__KEY", "nor this"),
            ]
            .map(|(name, text)| (name.to_owned(), text.to_owned())),
        );
        let tree = merge("[hsm]\nworkers = 2\nqueue = 3\n", &variables).unwrap();
        let hsm = tree.into_table().unwrap();
        let section = hsm.get("hsm").unwrap().clone().into_table().unwrap();
        assert_eq!(
            section.get("workers").unwrap().origin(),
            Some("ROOTBRIDGE_HSM__WORKERS")
        );
        assert_eq!(section.get("queue").unwrap().origin(), None);
        let environment = section
            .get("environment")
            .unwrap()
            .clone()
            .into_table()
            .unwrap();
        assert!(environment.contains_key("SOFTHSM2_CONF"));
        assert_eq!(hsm.len(), 2);
    }

    #[test]
    fn lines_are_found_through_tables_and_arrays() {
        let text =
            "[hsm]\nworkers = 2\n\n[[policy.rules]]\nnames = []\n[[policy.rules]]\n\nnames = []\n";
        assert_eq!(line_of(text, "hsm.workers"), Some(2));
        assert_eq!(line_of(text, "policy.rules[1].names"), Some(8));
        assert_eq!(line_of(text, "hsm.missing"), Some(1));
        assert_eq!(line_of(text, "missing"), None);
    }
}
