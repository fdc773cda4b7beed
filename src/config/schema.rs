//! The keys that a section may have, read off the serde types themselves, so that suggestions,
//! checks and the reference page cannot drift from what is accepted.

use std::cell::RefCell;
use std::fmt;

use serde::Deserialize;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

/// The shape of a value in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// A table with these keys and no others.
    Table(Vec<(&'static str, Shape)>),
    /// A table whose keys the user names.
    Named(Box<Shape>),
    /// An array.
    List(Box<Shape>),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text, a number, or true or false.
    Scalar,
}

impl Shape {
    /// The shape that `T` deserializes from. Types must be plain: no `flatten`, no `untagged`.
    pub fn of<'de, T: Deserialize<'de>>() -> Self {
        build::<T>(&mut Vec::new())
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
                for (name, shape) in fields {
                    shape.collect(&join(at, name), keys);
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

#[derive(Clone, Copy)]
enum Step {
    Key(&'static str),
    Item,
}

/// What a type asked its deserializer for, at the place where the probe stopped.
enum Seen {
    Table(&'static [&'static str]),
    Named,
    List,
    Choice(&'static [&'static str]),
    Scalar,
}

/// One deserialization for each place: a type says what it is by what it asks for, and is then
/// told that nothing is there.
fn build<'de, T: Deserialize<'de>>(path: &mut Vec<Step>) -> Shape {
    let seen = RefCell::new(None);
    let _always_an_error = T::deserialize(Probe { path, seen: &seen });
    let mut below = |step| {
        path.push(step);
        let shape = build::<T>(path);
        path.pop();
        shape
    };
    match seen.into_inner() {
        Some(Seen::Table(fields)) => Shape::Table(
            fields
                .iter()
                .map(|name| (*name, below(Step::Key(name))))
                .collect(),
        ),
        Some(Seen::Named) => Shape::Named(Box::new(below(Step::Key("name")))),
        Some(Seen::List) => Shape::List(Box::new(below(Step::Item))),
        Some(Seen::Choice(words)) => Shape::Choice(words),
        Some(Seen::Scalar) | None => Shape::Scalar,
    }
}

#[derive(Clone, Copy)]
struct Probe<'p> {
    path: &'p [Step],
    seen: &'p RefCell<Option<Seen>>,
}

impl Probe<'_> {
    fn stop<T>(self, seen: Seen) -> Result<T, ValueError> {
        *self.seen.borrow_mut() = Some(seen);
        Err(ValueError::custom("seen"))
    }
}

macro_rules! scalars {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ValueError> {
            self.stop(Seen::Scalar)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = ValueError;

    scalars! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier
        deserialize_ignored_any
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: V,
    ) -> Result<V::Value, ValueError> {
        self.stop(Seen::Scalar)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.path.split_first() {
            Some((_, path)) => visitor.visit_seq(Inside {
                path,
                ..self.inside(None)
            }),
            None => self.stop(Seen::List),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, v: V) -> Result<V::Value, ValueError> {
        self.deserialize_seq(v)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.path.split_first() {
            Some((step, path)) => visitor.visit_map(Inside {
                path,
                ..self.inside(Some(*step))
            }),
            None => self.stop(Seen::Named),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.path.split_first() {
            Some((step, path)) => visitor.visit_map(Inside {
                path,
                ..self.inside(Some(*step))
            }),
            None => self.stop(Seen::Table(fields)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ValueError> {
        self.stop(Seen::Choice(variants))
    }
}

impl<'p> Probe<'p> {
    fn inside(self, step: Option<Step>) -> Inside<'p> {
        Inside {
            key: step,
            path: self.path,
            seen: self.seen,
        }
    }
}

/// The one entry of a table or array on the way to the place that is probed.
struct Inside<'p> {
    key: Option<Step>,
    path: &'p [Step],
    seen: &'p RefCell<Option<Seen>>,
}

impl<'de> MapAccess<'de> for Inside<'_> {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ValueError> {
        let Some(Step::Key(key)) = self.key.take() else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, ValueError> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ValueError> {
        seed.deserialize(Probe {
            path: self.path,
            seen: self.seen,
        })
    }
}

impl<'de> SeqAccess<'de> for Inside<'_> {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        seed.deserialize(Probe {
            path: self.path,
            seen: self.seen,
        })
        .map(Some)
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

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        One,
        Two,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its shape is looked at")]
    struct Inner {
        word: Word,
        list: Vec<String>,
        #[serde(with = "humantime_serde")]
        span: Duration,
    }

    #[derive(Deserialize, Default)]
    #[serde(deny_unknown_fields, default)]
    #[allow(dead_code, reason = "only its shape is looked at")]
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
            Some(&("word", Shape::Choice(&["one", "two"])))
        );
        let _used = [Word::One, Word::Two];
    }
}
