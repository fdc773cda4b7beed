//! The fields of a request's body, as Vault reads them: clients send texts where numbers belong, and
//! the reverse.

use std::time::Duration;

use serde_json::{Map, Value};

use super::duration::parse_duration;
use super::error::VaultError;

/// The most elements of a list.
const MOST_ELEMENTS: usize = 64;

/// A JSON object; empty for an empty body.
#[derive(Debug, Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn parse(body: &[u8]) -> Result<Self, VaultError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(Value::Null) => Ok(Self::default()),
            Ok(_) => Err(VaultError::invalid(
                "failed to parse JSON input: it is no object",
            )),
            // The error holds no text of the body.
            Err(error) => Err(VaultError::invalid(format!(
                "failed to parse JSON input: {error}"
            ))),
        }
    }

    /// Whether a field is there and not empty.
    pub(super) fn has(&self, name: &str) -> bool {
        match self.0.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            Some(_) => true,
        }
    }

    /// A text; a number or a boolean is one too.
    pub(super) fn text(&self, name: &str) -> Result<String, VaultError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(Value::Bool(value)) => Ok(value.to_string()),
            Some(_) => Err(wrong(name, "a string")),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, VaultError> {
        match self.text(name)?.as_str() {
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            _ => Err(wrong(name, "a boolean")),
        }
    }

    /// A list, or a text with commas.
    pub(super) fn list(&self, name: &str) -> Result<Vec<String>, VaultError> {
        let parts: Vec<String> = match self.0.get(name) {
            Some(Value::Array(list)) => list
                .iter()
                .map(|each| each.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(|| wrong(name, "a list of strings"))?,
            _ => self.text(name)?.split(',').map(str::to_owned).collect(),
        };
        let parts = parts.iter().map(|part| part.trim());
        let parts: Vec<String> = parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        match parts.len() > MOST_ELEMENTS {
            true => Err(VaultError::invalid(format!(
                "{name}: more than {MOST_ELEMENTS} elements"
            ))),
            false => Ok(parts),
        }
    }

    /// A time: seconds, or a text such as `72h0m0s`. `None` when it is absent, empty or zero.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, VaultError> {
        let text = self.text(name)?;
        let span = parse_duration(&text).ok_or_else(|| wrong(name, "a duration"))?;
        Ok(Some(span).filter(|span| !span.is_zero()))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, VaultError> {
        let text = self.text(name)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| wrong(name, "a whole number"))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn wrong(name: &str, kind: &str) -> VaultError {
    VaultError::invalid(format!(
        "error converting input for field \"{name}\": it is not {kind}"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_and_numbers_stand_for_each_other() {
        let body = br#"{"a":"86400","b":86400,"c":"72h0m0s","d":"","e":null,"f":"true","g":true,
            "h":"x, y,,z","i":["x","y"],"j":[1],"k":{},"l":1e300,"m":"-1s","n":3.5}"#;
        let fields = Fields::parse(body).unwrap();
        let seconds = |name| {
            fields
                .duration(name)
                .map(|span| span.map(|span| span.as_secs()))
        };
        assert_eq!(seconds("a").unwrap(), Some(86_400));
        assert_eq!(seconds("b").unwrap(), Some(86_400));
        assert_eq!(seconds("c").unwrap(), Some(72 * 3600));
        for absent in ["d", "e", "nothing"] {
            assert_eq!(seconds(absent).unwrap(), None);
        }
        for wrong in ["f", "k", "l", "m", "n"] {
            let error = seconds(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("\"{wrong}\"")), "{error}");
        }
        assert!(
            fields.flag("f").unwrap() && fields.flag("g").unwrap() && !fields.flag("d").unwrap()
        );
        assert_eq!(fields.list("h").unwrap(), ["x", "y", "z"]);
        assert_eq!(fields.list("i").unwrap(), ["x", "y"]);
        assert!(fields.list("j").unwrap_err().to_string().contains("\"j\""));
    }

    #[test]
    fn a_body_is_an_object_or_nothing() {
        for empty in ["", " \n", "null", "{}"] {
            assert_eq!(Fields::parse(empty.as_bytes()).unwrap().names().count(), 0);
        }
        for wrong in ["[]", "1", "{", "csr=x", "{\"a\":1}x"] {
            let error = Fields::parse(wrong.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("failed to parse JSON input"), "{error}");
        }
    }
}
