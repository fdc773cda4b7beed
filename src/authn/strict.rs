//! Deserializers of JSON that accept exactly one type: no null for an absent value, no array for an
//! object, no text for a date. Errors name the field and hide its value.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::Quoted;

/// The `aud` claim: one string or an array of them (RFC 7519 §4.1.3).
pub(super) struct Audiences<'a>(Vec<Cow<'a, str>>);

impl Audiences<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn include(&self, audience: &str) -> bool {
        self.0.iter().any(|each| each == audience)
    }
}

/// For the log of a refusal: the first few, escaped and cut.
impl fmt::Display for Audiences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (at, audience) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{}", Quoted(audience))?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Audiences<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OneOrMany)
            .map_err(|_| de::Error::custom("`aud` must be a string or an array of strings"))
    }
}

/// A JSON string, borrowed if it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Audiences<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of strings")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Audiences(vec![Cow::Borrowed(text)]))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Audiences(vec![Cow::Owned(text.to_owned())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Text(each)) = items.next_element()? {
            all.push(each);
        }
        Ok(Audiences(all))
    }
}

/// A JSON object. Serde alone would also fill a struct from an array, by position.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Not `deserialize_map`: for another type, serde_json returns an error that shows the
        // value.
        from.deserialize_any(ObjectVisitor(PhantomData)).map(Object)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }

    fn visit_str<E: de::Error>(self, _hidden: &str) -> Result<T, E> {
        Err(E::custom("a string instead of a JSON object"))
    }

    fn visit_i64<E: de::Error>(self, _hidden: i64) -> Result<T, E> {
        Err(E::custom("a number instead of a JSON object"))
    }

    fn visit_u64<E: de::Error>(self, _hidden: u64) -> Result<T, E> {
        self.visit_i64(0)
    }

    fn visit_f64<E: de::Error>(self, _hidden: f64) -> Result<T, E> {
        self.visit_i64(0)
    }
}

/// 9999-12-31T23:59:59Z, the last date that a certificate can hold (RFC 5280 §4.1.2.5).
const LAST_SECOND: i64 = 253_402_300_799;

/// A NumericDate (RFC 7519 §2): a JSON number of seconds, which may have a fraction or an exponent.
#[derive(Clone, Copy)]
struct NumericDate(fn(f64) -> f64);

impl<'de> Visitor<'de> for NumericDate {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds")
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<i64, E> {
        match (0..=LAST_SECOND).contains(&seconds) {
            true => Ok(seconds),
            false => Err(E::custom("out of range")),
        }
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<i64, E> {
        self.visit_i64(i64::try_from(seconds).map_err(E::custom)?)
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<i64, E> {
        // Every whole second up to the last one is exact in an f64.
        match (0.0..=253_402_300_799.0).contains(&seconds) {
            true => self.visit_i64((self.0)(seconds) as i64),
            false => Err(E::custom("out of range")),
        }
    }
}

/// An object that may be absent but not null. Serde's `Option` would treat null as absent.
pub(super) fn non_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Object::deserialize(from).map(|object| Some(object.0))
}

/// One deserializer for each field, so that errors can name it.
pub(super) mod fields {
    use super::{Cow, Deserialize, Deserializer, IgnoredAny, LAST_SECOND, NumericDate, Text, de};

    macro_rules! required_text {
        ($($name:ident),*) => {$(
            pub(in crate::authn) fn $name<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Cow<'a, str>, D::Error> {
                Text::deserialize(from).map(|text| text.0)
                    .map_err(|_| de::Error::custom(concat!("`", stringify!($name), "` must be a string")))
            }
        )*};
    }

    macro_rules! optional_text {
        ($($name:ident),*) => {$(
            pub(in crate::authn) fn $name<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<Cow<'a, str>>, D::Error> {
                Text::deserialize(from).map(|text| Some(text.0))
                    .map_err(|_| de::Error::custom(concat!("`", stringify!($name), "` must be a string")))
            }
        )*};
    }

    /// `round` leads to the whole second that is against the caller.
    fn date<'de, D: Deserializer<'de>>(
        from: D,
        name: &'static str,
        round: fn(f64) -> f64,
    ) -> Result<i64, D::Error> {
        from.deserialize_any(NumericDate(round)).map_err(|_| {
            de::Error::custom(format_args!(
                "`{name}` must be a number of seconds from 0 to {LAST_SECOND}"
            ))
        })
    }

    required_text!(alg, iss, sub, name);
    optional_text!(kid, typ, namespace, uid, node_name);

    pub(in crate::authn) fn exp<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
        date(from, "exp", f64::floor)
    }

    pub(in crate::authn) fn optional_exp<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<i64>, D::Error> {
        exp(from).map(Some)
    }

    pub(in crate::authn) fn nbf<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<i64>, D::Error> {
        date(from, "nbf", f64::ceil).map(Some)
    }

    pub(in crate::authn) fn iat<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<i64>, D::Error> {
        date(from, "iat", f64::ceil).map(Some)
    }

    pub(in crate::authn) fn crit<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<IgnoredAny>, D::Error> {
        IgnoredAny::deserialize(from).map(Some)
    }
}
