//! The keys that a section may have.

use std::fmt;

use serde::de::DeserializeOwned;

use super::probe::{Kind, Step, kind, required};

/// The shape of a value in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// A table with these keys and no others.
    Table(Vec<Field>),
    /// A table whose keys the user names.
    Named(Box<Shape>),
    /// An array.
    List(Box<Shape>),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text, a number, or true or false.
    Scalar,
}

/// A key of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    /// The key has no default.
    pub required: bool,
}

impl Shape {
    /// The shape that `T` deserializes from. Types must be plain: no `flatten`, no `untagged`.
    pub fn of<T: DeserializeOwned>() -> Self {
        Self::at::<T>(&mut Vec::new())
    }

    fn at<T: DeserializeOwned>(path: &mut Vec<Step<'static>>) -> Self {
        let kind = kind::<T>(path);
        let required = match kind {
            Kind::Table(_) => required::<T>(path),
            _ => Vec::new(),
        };
        let mut inner = |step| {
            path.push(step);
            let shape = Self::at::<T>(path);
            path.pop();
            shape
        };
        match kind {
            Kind::Table(names) => {
                let field = |name: &&'static str| Field {
                    name,
                    shape: inner(Step::Key(name)),
                    required: required.contains(name),
                };
                Self::Table(names.iter().map(field).collect())
            }
            Kind::Named => Self::Named(Box::new(inner(Step::Key("name")))),
            Kind::List => Self::List(Box::new(inner(Step::Item))),
            Kind::Choice(words) => Self::Choice(words),
            Kind::Scalar => Self::Scalar,
        }
    }

    /// Every key below this shape: `hsm.tokens.NAME.label`, `policy.rules[].callers`.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        self.collect("", &mut keys);
        keys
    }

    fn collect(&self, at: &str, keys: &mut Vec<String>) {
        match self {
            Self::Table(fields) => {
                for field in fields {
                    field.shape.collect(&join(at, field.name), keys);
                }
            }
            Self::Named(inner) => inner.collect(&join(at, "NAME"), keys),
            Self::List(inner) if matches!(**inner, Self::Table(_)) => {
                inner.collect(&format!("{at}[]"), keys);
            }
            Self::List(_) | Self::Choice(_) | Self::Scalar => keys.push(at.to_owned()),
        }
    }
}

/// `key` below the dotted path `at`.
pub(super) fn join(at: &str, key: &str) -> String {
    if at.is_empty() {
        key.to_owned()
    } else {
        format!("{at}.{key}")
    }
}

impl fmt::Display for Shape {
    /// What to write, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(_) | Self::Named(_) => f.write_str("a table"),
            Self::List(_) => f.write_str("an array, such as [\"…\"]"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::Scalar => f.write_str("a single value"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        One,
        Two,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its shape is read")]
    struct Inner {
        word: Word,
        list: Vec<String>,
        #[serde(with = "humantime_serde")]
        span: Duration,
    }

    #[derive(Deserialize, Default)]
    #[serde(deny_unknown_fields, default)]
    #[allow(dead_code, reason = "only its shape is read")]
    struct Outer {
        tables: BTreeMap<String, Inner>,
        rules: Vec<Inner>,
        #[serde(rename = "maybe")]
        perhaps: Option<Inner>,
        number: u16,
    }

    #[test]
    fn shapes_follow_the_types() {
        let keys = Shape::of::<Outer>().keys();
        let inner = |at: &str| ["word", "list", "span"].map(|key| format!("{at}.{key}"));
        let expected: Vec<String> = inner("tables.NAME")
            .into_iter()
            .chain(inner("rules[]"))
            .chain(inner("maybe"))
            .chain(["number".to_owned()])
            .collect();
        assert_eq!(keys, expected);
        let Shape::Table(fields) = Shape::of::<Inner>() else {
            unreachable!()
        };
        assert_eq!(
            fields.first(),
            Some(&Field {
                name: "word",
                shape: Shape::Choice(&["one", "two"]),
                required: true,
            })
        );
        assert!(fields.iter().all(|field| field.required));
        let Shape::Table(fields) = Shape::of::<Outer>() else {
            unreachable!()
        };
        assert!(!fields.iter().any(|field| field.required));
        let _used = [Word::One, Word::Two];
    }
}
