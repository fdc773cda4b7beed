//! Compares the file with the expected keys and types of its sections, before they are deserialized:
//! deserializing stops at the first problem.

use std::path::Path;

use ::config::{ConfigError as ValueError, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::error::Finding;
use super::probe::{Step, rejection};
use super::schema::{Field, Shape, join};
use super::source::place;
use crate::config_issue::ConfigIssue;

/// Keys that were renamed: (old, new), in whichever section has the new one.
const RENAMED: &[(&str, &str)] = &[("taken_within", "acceptance_timeout")];

/// A key or value that the configuration does not allow.
pub(super) struct Problem {
    pub(super) finding: Finding,
    /// The path of the key that must be left out so that the rest can be deserialized.
    pub(super) leave_out: Vec<String>,
}

/// Every key of `tree` that is unknown or missing, and every value of a wrong type.
pub(super) fn check<T: DeserializeOwned>(tree: &Value, file: &Path, text: &str) -> Vec<Problem> {
    let shape = Shape::of::<T>();
    let fields: &[Field] = match &shape {
        Shape::Table(fields) => fields,
        _ => &[],
    };
    let required = fields.iter().filter(|field| field.required);
    let mut checker = Checker {
        file,
        text,
        rejection: rejection::<T>,
        required_sections: required.map(|field| field.name).collect(),
        path: Vec::new(),
        problems: Vec::new(),
    };
    checker.value(tree, &shape, "");
    checker.problems
}

struct Checker<'a> {
    file: &'a Path,
    text: &'a str,
    rejection: fn(&[Step<'_>], &Value) -> Option<ValueError>,
    required_sections: Vec<&'static str>,
    /// The value that is being checked.
    path: Vec<Step<'a>>,
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    fn value(&mut self, value: &'a Value, shape: &Shape, at: &str) {
        match (&value.kind, shape) {
            (ValueKind::Table(entries), Shape::Table(fields)) => {
                for (key, inner) in entries {
                    self.path.push(Step::Key(key));
                    match fields.iter().find(|field| field.name == key) {
                        Some(field) => self.value(inner, &field.shape, &join(at, key)),
                        None => self.unknown(inner, &join(at, key), key, fields),
                    }
                    self.path.pop();
                }
                let is_missing =
                    |field: &&Field| field.required && !entries.contains_key(field.name);
                for field in fields.iter().filter(is_missing) {
                    self.missing(value, &join(at, field.name));
                }
            }
            (ValueKind::Table(entries), Shape::Named(shape)) => {
                for (key, inner) in entries {
                    self.path.push(Step::Key(key));
                    self.value(inner, shape, &join(at, key));
                    self.path.pop();
                }
            }
            (ValueKind::Array(items), Shape::List(shape)) => {
                self.path.push(Step::Item);
                for (index, item) in items.iter().enumerate() {
                    self.value(item, shape, &format!("{at}[{index}]"));
                }
                self.path.pop();
            }
            (ValueKind::String(word), Shape::Choice(words)) if words.contains(&word.as_str()) => {}
            (ValueKind::String(word), Shape::Choice(words)) => {
                let fix = match nearest(word, words.iter().copied()) {
                    Some(near) => format!("write `{near}`; possible: {}", words.join(", ")),
                    None => format!("write one of {}", words.join(", ")),
                };
                let problem = format_args!("`{word}` is not a possible value");
                self.add(value, ConfigIssue::new(at, problem).with_fix(fix));
            }
            (ValueKind::Table(_) | ValueKind::Array(_), Shape::Scalar | Shape::Choice(_))
            | (ValueKind::Array(_), Shape::Table(_) | Shape::Named(_))
            | (ValueKind::Table(_), Shape::List(_)) => {
                let issue = ConfigIssue::new(at, "is of the wrong type");
                self.add(value, issue.with_fix(format_args!("write {shape}")));
            }
            // No key accepts a fraction, and a count would be rounded silently.
            (ValueKind::Float(_), Shape::Scalar) => {
                let issue = ConfigIssue::new(at, "is a fraction");
                self.add(
                    value,
                    issue.with_fix("write a whole number, or a text in quotes"),
                );
            }
            _ => {
                if let Some(error) = (self.rejection)(&self.path, value) {
                    self.add(value, rejected(at, &error));
                }
            }
        }
    }

    fn unknown(&mut self, value: &Value, at: &str, key: &str, fields: &[Field]) {
        let names = || fields.iter().map(|field| field.name);
        let renamed = RENAMED.iter().find(|(old, _)| *old == key);
        let renamed = renamed.filter(|(_, new)| names().any(|name| name == *new));
        let fix = match (renamed, nearest(key, names())) {
            (Some((_, new)), _) => format!("it is now called `{new}`"),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => format!("known here: {}", names().collect::<Vec<_>>().join(", ")),
        };
        self.add(value, ConfigIssue::new(at, "unknown key").with_fix(fix));
    }

    fn missing(&mut self, table: &Value, at: &str) {
        let fix = format_args!("it has no default; see docs/reference/config.md, `{at}`");
        let issue = ConfigIssue::new(at, "is missing").with_fix(fix);
        let leave_out = self.keys();
        self.push(table, &issue, leave_out);
    }

    fn add(&mut self, value: &Value, issue: ConfigIssue) {
        let leave_out = self.keys();
        // The other keys of its table may depend on it.
        let leave_out = match leave_out.as_slice() {
            [section, _] if self.required_sections.contains(&section.as_str()) => leave_out,
            [tables @ .., _] if !tables.is_empty() => tables.to_vec(),
            _ => leave_out,
        };
        self.push(value, &issue, leave_out);
    }

    fn push(&mut self, value: &Value, issue: &ConfigIssue, leave_out: Vec<String>) {
        let place = place(self.file, self.text, issue.key(), variable(value));
        let finding = Finding::new(&place, issue);
        self.problems.push(Problem { finding, leave_out });
    }

    /// The path, as far as it leads through tables.
    fn keys(&self) -> Vec<String> {
        let keys = self.path.iter().map_while(|step| match step {
            Step::Key(key) => Some((*key).to_owned()),
            Step::Item => None,
        });
        keys.collect()
    }
}

/// A value that its type does not accept.
pub(super) fn rejected(key: &str, error: &ValueError) -> ConfigIssue {
    let problem = match error {
        ValueError::Type {
            unexpected,
            expected,
            ..
        } => format!("{unexpected} is not {expected}"),
        ValueError::At { error, .. } => error.to_string(),
        other => other.to_string(),
    };
    let issue = ConfigIssue::new(key, &problem);
    match problem.contains("expected a duration") {
        true => issue.with_fix("write a duration such as 500ms, 5s, 10m, 24h or 30d"),
        false => issue,
    }
}

/// The environment variable that a value came from. A table that consists of such values has none of
/// its own: the variable of its first value is returned.
fn variable(value: &Value) -> Option<String> {
    match (&value.kind, value.origin()) {
        (_, Some(origin)) => Some(origin.to_owned()),
        (ValueKind::Table(entries), None) => {
            let mut inner = entries.values().map(variable);
            let first = inner.next()??;
            inner.all(|other| other.is_some()).then_some(first)
        }
        _ => None,
    }
}

/// The name that `written` was most likely meant to be.
fn nearest<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let limit = (written.chars().count() / 3).clamp(1, 3);
    names
        .map(|name| (strsim::levenshtein(written, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        let keys = ["workers", "queue", "deadline"];
        assert_eq!(nearest("workres", keys.into_iter()), Some("workers"));
        assert_eq!(nearest("wrkers", keys.into_iter()), Some("workers"));
        assert_eq!(nearest("entirely-other", keys.into_iter()), None);
    }
}
