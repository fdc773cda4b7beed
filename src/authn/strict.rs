//! Deserializers of JSON that accept exactly one type: no null for an absent value, no array for an
//! object, no float for an integer. Errors name the field and hide its value.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The `aud` claim: one string or an array of them (RFC 7519 §4.1.3).
pub(super) struct Audiences<'a>(Vec<Cow<'a, str>>);

impl Audiences<'_> {
    pub(super) fn include(&self, audience: &str) -> bool {
        self.0.iter().any(|each| each == audience)
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

/// An object that may be absent but not null. Serde's `Option` would treat null as absent.
pub(super) fn non_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Object::deserialize(from).map(|object| Some(object.0))
}

/// One deserializer for each field, so that errors can name it.
pub(super) mod fields {
    use super::{Cow, Deserialize, Deserializer, IgnoredAny, Text, de};

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

    fn seconds<'de, D: Deserializer<'de>>(from: D, refusal: &'static str) -> Result<i64, D::Error> {
        i64::deserialize(from).map_err(|_| de::Error::custom(refusal))
    }

    required_text!(alg, iss, sub, name, uid);
    optional_text!(kid, typ, jti, namespace);

    pub(in crate::authn) fn exp<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
        seconds(from, "`exp` must be a whole number of seconds")
    }

    pub(in crate::authn) fn nbf<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<i64>, D::Error> {
        seconds(from, "`nbf` must be a whole number of seconds").map(Some)
    }

    pub(in crate::authn) fn iat<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<i64>, D::Error> {
        seconds(from, "`iat` must be a whole number of seconds").map(Some)
    }

    pub(in crate::authn) fn crit<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<IgnoredAny>, D::Error> {
        IgnoredAny::deserialize(from).map(Some)
    }
}
