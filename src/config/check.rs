//! Compares what is written with the shapes of the sections, before anything is deserialized, so
//! that every unknown key is named at once with its path.

use std::path::Path;

use ::config::{Value, ValueKind};

use super::error::Finding;
use super::schema::{Shape, join};
use super::source::place;
use crate::config_issue::ConfigIssue;

/// Everything in `value` that `shape` has no place for.
pub(super) fn check(value: &Value, shape: &Shape, file: &Path, text: &str) -> Vec<Finding> {
    let mut walk = Walk {
        file,
        text,
        findings: Vec::new(),
    };
    walk.value(value, shape, "");
    walk.findings
}

struct Walk<'a> {
    file: &'a Path,
    text: &'a str,
    findings: Vec<Finding>,
}

impl Walk<'_> {
    fn value(&mut self, value: &Value, shape: &Shape, at: &str) {
        match (&value.kind, shape) {
            (ValueKind::Table(entries), Shape::Table(fields)) => {
                for (key, inner) in entries {
                    let below = join(at, key);
                    match fields.iter().find(|(name, _)| name == key) {
                        Some((_, shape)) => self.value(inner, shape, &below),
                        None => self.unknown(inner, &below, key, fields),
                    }
                }
            }
            (ValueKind::Table(entries), Shape::Named(shape)) => {
                for (key, inner) in entries {
                    self.value(inner, shape, &join(at, key));
                }
            }
            (ValueKind::Array(items), Shape::List(shape)) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(item, shape, &format!("{at}[{index}]"));
                }
            }
            (ValueKind::String(word), Shape::Choice(words)) if words.contains(&word.as_str()) => {}
            (ValueKind::String(word), Shape::Choice(words)) => {
                let hint = match nearest(word, words.iter().copied()) {
                    Some(near) => format!("write `{near}`; possible: {}", words.join(", ")),
                    None => format!("write one of {}", words.join(", ")),
                };
                self.found(value, at, format!("`{word}` is not a possible value"), hint);
            }
            (ValueKind::Table(_) | ValueKind::Array(_), Shape::Scalar | Shape::Choice(_))
            | (ValueKind::Array(_), Shape::Table(_) | Shape::Named(_))
            | (ValueKind::Table(_), Shape::List(_)) => {
                self.found(
                    value,
                    at,
                    "is of the wrong type".to_owned(),
                    format!("write {shape}"),
                );
            }
            // No key takes a fraction, and a count would be rounded without a word.
            (ValueKind::Float(_), Shape::Scalar) => {
                let hint = "write a whole number, or a text in quotes".to_owned();
                self.found(value, at, "is a fraction".to_owned(), hint);
            }
            // Scalars are judged by the types themselves.
            _ => {}
        }
    }

    fn unknown(&mut self, value: &Value, at: &str, key: &str, fields: &[(&'static str, Shape)]) {
        let names = || fields.iter().map(|(name, _)| *name);
        let renamed = RENAMED.iter().find(|(old, _)| *old == key);
        let renamed = renamed.filter(|(_, new)| names().any(|name| name == *new));
        let hint = match (renamed, nearest(key, names())) {
            (Some((_, new)), _) => format!("it is now called `{new}`"),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => format!("known here: {}", names().collect::<Vec<_>>().join(", ")),
        };
        self.found(value, at, "unknown key".to_owned(), hint);
    }

    fn found(&mut self, value: &Value, at: &str, problem: String, fix: String) {
        let place = place(self.file, self.text, at, origin(value));
        let issue = ConfigIssue::new(at, problem).with_fix(fix);
        self.findings.push(Finding::new(&place, &issue));
    }
}

/// Keys that were renamed: (old, new), in whichever section has the new one.
const RENAMED: &[(&str, &str)] = &[("taken_within", "acceptance_timeout")];

/// The variable that a value came from; a table made for overrides has none of its own, so the
/// first value in it answers.
fn origin(value: &Value) -> Option<String> {
    match (&value.kind, value.origin()) {
        (_, Some(origin)) => Some(origin.to_owned()),
        (ValueKind::Table(entries), None) => {
            let mut inner = entries.values().map(origin);
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
        .map(|name| (distance(written, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein's distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(b.chars()) {
            let cost = diagonal + usize::from(left != right);
            diagonal = *cell;
            before = cost.min(before + 1).min(*cell + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_and_suggestions() {
        assert_eq!(distance("workers", "workres"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
        let keys = ["workers", "queue", "deadline"];
        assert_eq!(nearest("workres", keys.into_iter()), Some("workers"));
        assert_eq!(nearest("wrkers", keys.into_iter()), Some("workers"));
        assert_eq!(nearest("entirely-other", keys.into_iter()), None);
    }
}
