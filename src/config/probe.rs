//! What a type accepts, found by deserializing it: the serde attributes are the only description of
//! the file, so what is checked cannot differ from what is read.

use std::cell::RefCell;

use ::config::{ConfigError as ValueError, Value};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess,
    Visitor,
};

use super::placeholder::{Placeholders, ProbeError};

/// A step from a value to one inside it.
#[derive(Clone, Copy)]
pub(super) enum Step<'p> {
    Key(&'p str),
    Item,
}

/// What a type asks its deserializer for.
pub(super) enum Kind {
    Table(&'static [&'static str]),
    Named,
    List,
    Choice(&'static [&'static str]),
    Scalar,
}

/// The kind of the value at `path` in a `T`.
pub(super) fn kind<T: DeserializeOwned>(path: &[Step<'_>]) -> Kind {
    match run::<T>(path, Goal::Kind) {
        Some(Outcome::Kind(kind)) => kind,
        _ => Kind::Scalar,
    }
}

/// The keys without a default of the table at `path` in a `T`.
pub(super) fn required<T: DeserializeOwned>(path: &[Step<'_>]) -> Vec<&'static str> {
    let mut required = Vec::new();
    while let Some(Outcome::Missing(name)) = run::<T>(path, Goal::Missing(&required))
        && !required.contains(&name)
    {
        required.push(name);
    }
    required
}

/// Why `value` cannot be at `path` in a `T`.
pub(super) fn rejection<T: DeserializeOwned>(
    path: &[Step<'_>],
    value: &Value,
) -> Option<ValueError> {
    match run::<T>(path, Goal::Value(value)) {
        Some(Outcome::Rejected(error)) => Some(error),
        _ => None,
    }
}

fn run<T: DeserializeOwned>(path: &[Step<'_>], goal: Goal<'_>) -> Option<Outcome> {
    let outcome = RefCell::new(None);
    // An error nearly always: only the value at `path` is present.
    let _ = T::deserialize(Probe {
        path,
        goal,
        outcome: &outcome,
    });
    outcome.into_inner()
}

/// What a probe does at the end of its path.
#[derive(Clone, Copy)]
enum Goal<'p> {
    /// Records what the type asks for.
    Kind,
    /// Records the first missing key of a table that has these.
    Missing(&'p [&'static str]),
    /// Deserializes the value.
    Value(&'p Value),
}

enum Outcome {
    Kind(Kind),
    Missing(&'static str),
    Rejected(ValueError),
}

#[derive(Clone, Copy)]
struct Probe<'p> {
    path: &'p [Step<'p>],
    goal: Goal<'p>,
    outcome: &'p RefCell<Option<Outcome>>,
}

impl<'p> Probe<'p> {
    /// At the end of the path: `read` is for [`Goal::Value`].
    fn finish<T>(
        self,
        kind: Kind,
        read: impl FnOnce(Value) -> Result<T, ValueError>,
    ) -> Result<T, ProbeError> {
        match self.goal {
            Goal::Kind => self.stop(Outcome::Kind(kind)),
            Goal::Missing(_) => Err(ProbeError::Stopped),
            Goal::Value(value) => {
                read(value.clone()).or_else(|error| self.stop(Outcome::Rejected(error)))
            }
        }
    }

    fn stop<T>(self, outcome: Outcome) -> Result<T, ProbeError> {
        *self.outcome.borrow_mut() = Some(outcome);
        Err(ProbeError::Stopped)
    }

    /// The one entry of a table or array on the path.
    fn inside(self) -> Option<Inside<'p>> {
        let (step, path) = self.path.split_first()?;
        Some(Inside {
            step: Some(*step),
            probe: Self { path, ..self },
        })
    }
}

macro_rules! scalars {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
            self.finish(Kind::Scalar, |value| value.$method(visitor))
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = ProbeError;

    scalars! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier
        deserialize_ignored_any
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        self.finish(Kind::Scalar, |value| {
            value.deserialize_unit_struct(name, visitor)
        })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        match self.inside() {
            Some(inside) => visitor.visit_seq(inside),
            None => self.finish(Kind::List, |value| value.deserialize_seq(visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        match self.inside() {
            Some(inside) => visitor.visit_map(inside),
            None => self.finish(Kind::Named, |value| value.deserialize_map(visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        match (self.inside(), self.goal) {
            (Some(inside), _) => visitor.visit_map(inside),
            (None, Goal::Missing(present)) => match visitor.visit_map(Placeholders::of(present)) {
                Err(ProbeError::Missing(name)) => self.stop(Outcome::Missing(name)),
                other => other,
            },
            (None, _) => self.finish(Kind::Table(fields), |value| {
                value.deserialize_struct(name, fields, visitor)
            }),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        self.finish(Kind::Choice(variants), |value| {
            value.deserialize_enum(name, variants, visitor)
        })
    }
}

struct Inside<'p> {
    step: Option<Step<'p>>,
    probe: Probe<'p>,
}

impl<'de> MapAccess<'de> for Inside<'_> {
    type Error = ProbeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ProbeError> {
        let Some(Step::Key(key)) = self.step.take() else {
            return Ok(None);
        };
        let key: serde::de::value::StrDeserializer<'_, ProbeError> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ProbeError> {
        seed.deserialize(self.probe)
    }
}

impl<'de> SeqAccess<'de> for Inside<'_> {
    type Error = ProbeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ProbeError> {
        match self.step.take() {
            Some(_) => seed.deserialize(self.probe).map(Some),
            None => Ok(None),
        }
    }
}
