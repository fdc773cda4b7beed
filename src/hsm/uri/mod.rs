//! PKCS#11 URIs (RFC 7512), which name tokens and keys.

mod error;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::token_info::TokenInfo;

pub use error::UriError;

/// A PKCS#11 URI. An attribute that is absent matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pkcs11Uri {
    token: Option<String>,
    manufacturer: Option<String>,
    serial: Option<String>,
    model: Option<String>,
    library_manufacturer: Option<String>,
    library_description: Option<String>,
    library_version: Option<(u8, u8)>,
    slot_manufacturer: Option<String>,
    slot_description: Option<String>,
    slot_id: Option<u64>,
    object: Option<String>,
    class: Option<UriClass>,
    id: Option<Vec<u8>>,
    unrecognized: Vec<String>,
    pin_source: Option<PathBuf>,
    module_name: Option<String>,
    module_path: Option<PathBuf>,
}

/// The attribute `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriClass {
    Public,
    Private,
    Certificate,
    SecretKey,
    Data,
}

impl Pkcs11Uri {
    /// Whether `text` is meant to be such a URI.
    pub fn has_scheme(text: &str) -> bool {
        scheme_and_rest(text).is_some()
    }

    /// The URI of a private key.
    pub fn of_private_key(info: &TokenInfo, id: &[u8], label: &str) -> String {
        let mut uri = String::from("pkcs11:");
        push(&mut uri, "token", info.label.as_bytes());
        push(&mut uri, ";serial", info.serial.as_bytes());
        if !id.is_empty() {
            uri.push_str(";id=");
            for byte in id {
                let _ = write!(uri, "%{byte:02x}");
            }
        }
        if !label.is_empty() {
            push(&mut uri, ";object", label.as_bytes());
        }
        uri.push_str(";type=private");
        uri
    }

    /// Whether it names this token. A URI with an attribute that is not recognized names nothing
    /// (§2.3): [`Self::unrecognized`].
    pub fn matches_token(&self, info: &TokenInfo) -> bool {
        let same = |wanted: &Option<String>, actual: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == actual)
        };
        self.unrecognized.is_empty()
            && same(&self.token, &info.label)
            && same(&self.manufacturer, &info.manufacturer)
            && same(&self.serial, &info.serial)
            && same(&self.model, &info.model)
            && same(&self.slot_manufacturer, &info.slot_manufacturer)
            && same(&self.slot_description, &info.slot_description)
            && same(&self.library_manufacturer, &info.library.manufacturer)
            && same(&self.library_description, &info.library.description)
            && self.slot_id.is_none_or(|id| id == info.slot)
            && self
                .library_version
                .is_none_or(|version| version == info.library.version)
    }

    /// Whether it names a private key with this CKA_ID and CKA_LABEL, in a token that it names.
    pub fn matches_private_key(&self, id: &[u8], label: &str) -> bool {
        self.class.is_none_or(|class| class == UriClass::Private)
            && self.id.as_deref().is_none_or(|wanted| wanted == id)
            && self.object.as_deref().is_none_or(|wanted| wanted == label)
    }

    /// Whether it says anything about an object.
    pub fn names_an_object(&self) -> bool {
        self.object.is_some() || self.class.is_some() || self.id.is_some()
    }

    /// Whether it says anything about the token, its slot or its library.
    pub fn names_a_token(&self) -> bool {
        let place = Self {
            object: None,
            class: None,
            id: None,
            pin_source: None,
            module_name: None,
            module_path: None,
            ..self.clone()
        };
        place != Self::default()
    }

    /// The attribute `type`.
    pub fn class(&self) -> Option<UriClass> {
        self.class
    }

    /// Path attributes that are not recognized.
    pub fn unrecognized(&self) -> &[String] {
        &self.unrecognized
    }

    /// The file that `pin-source` names.
    pub fn pin_source(&self) -> Option<&Path> {
        self.pin_source.as_deref()
    }

    /// Whether `module-name` and `module-path` allow this module.
    pub fn allows_module(&self, path: &Path) -> bool {
        let file = path.file_name().and_then(|name| name.to_str());
        let file = file.unwrap_or_default();
        let stem = file.split_once(".so").map_or(file, |(stem, _)| stem);
        self.module_path.as_deref().is_none_or(|wanted| wanted == path)
            // §2.3: without the path, and without a prefix or suffix of the platform.
            && self.module_name.as_deref().is_none_or(|wanted| {
                wanted == stem || stem.strip_prefix("lib").is_some_and(|stem| wanted == stem)
            })
    }

    fn path_attribute(&mut self, name: &str, value: Vec<u8>) -> Result<(), UriError> {
        if name == "id" {
            return once(&mut self.id, name, value);
        }
        let Ok(value) = String::from_utf8(value) else {
            return Err(UriError::NotUtf8 { name: name.into() });
        };
        match name {
            "token" => once(&mut self.token, name, value),
            "manufacturer" => once(&mut self.manufacturer, name, value),
            "serial" => once(&mut self.serial, name, value),
            "model" => once(&mut self.model, name, value),
            "library-manufacturer" => once(&mut self.library_manufacturer, name, value),
            "library-description" => once(&mut self.library_description, name, value),
            "library-version" => {
                let version = library_version(&value).ok_or(UriError::LibraryVersion)?;
                once(&mut self.library_version, name, version)
            }
            "slot-manufacturer" => once(&mut self.slot_manufacturer, name, value),
            "slot-description" => once(&mut self.slot_description, name, value),
            "slot-id" => {
                let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                let id = value.parse().ok().filter(|_| digits);
                once(&mut self.slot_id, name, id.ok_or(UriError::SlotId)?)
            }
            "object" => once(&mut self.object, name, value),
            "type" => {
                let class = match value.as_str() {
                    "public" => UriClass::Public,
                    "private" => UriClass::Private,
                    "cert" => UriClass::Certificate,
                    "secret-key" => UriClass::SecretKey,
                    "data" => UriClass::Data,
                    _ => return Err(UriError::Class),
                };
                once(&mut self.class, name, class)
            }
            _ if self.unrecognized.iter().any(|known| known == name) => {
                Err(UriError::Duplicate { name: name.into() })
            }
            _ => {
                self.unrecognized.push(name.to_owned());
                Ok(())
            }
        }
    }

    /// An attribute of the query that is not recognized is ignored (§2.4).
    fn query_attribute(&mut self, name: &str, value: Vec<u8>) -> Result<(), UriError> {
        let text =
            |value| String::from_utf8(value).map_err(|_| UriError::NotUtf8 { name: name.into() });
        match name {
            "pin-value" => Err(UriError::PinValue),
            "pin-source" => once(&mut self.pin_source, name, pin_source(&text(value)?)?),
            "module-name" => once(&mut self.module_name, name, text(value)?),
            "module-path" => once(&mut self.module_path, name, text(value)?.into()),
            _ => Ok(()),
        }
    }
}

impl FromStr for Pkcs11Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let rest = scheme_and_rest(text).ok_or(UriError::Scheme)?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut uri = Self::default();
        // Before any other error: the text then holds a PIN, and every message may be logged.
        let names = |part: &str| {
            part.split_once('=')
                .is_some_and(|(name, _)| name == "pin-value")
        };
        if rest.split(['?', '&', ';']).any(names) {
            return Err(UriError::PinValue);
        }
        for part in path.split(';').filter(|_| !path.is_empty()) {
            let (name, value) = attribute(part, b":[]@!$'()*+,=&")?;
            uri.path_attribute(name, value)?;
        }
        for part in query.into_iter().flat_map(|query| query.split('&')) {
            let (name, value) = attribute(part, b":[]@!$'()*+,=/?|")?;
            uri.query_attribute(name, value)?;
        }
        Ok(uri)
    }
}

fn scheme_and_rest(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case("pkcs11").then_some(rest)
}

/// Name and decoded value; `reserved` may stand in the value beside unreserved characters.
fn attribute<'a>(part: &'a str, reserved: &[u8]) -> Result<(&'a str, Vec<u8>), UriError> {
    let (name, value) = part.split_once('=').ok_or(UriError::NoValue)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(UriError::NoValue);
    }
    let named = || name.to_owned();
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.char_indices();
    while let Some((at, character)) = rest.next() {
        match character {
            '%' => {
                let digits = value.get(at + 1..at + 3);
                let digits = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                decoded.push(byte.ok_or_else(|| UriError::PercentEncoding { name: named() })?);
                rest.nth(1);
            }
            other => match u8::try_from(other) {
                Ok(b) if is_unreserved(b) || reserved.contains(&b) => decoded.push(b),
                _ => {
                    let mut encoded = String::new();
                    for byte in other.encode_utf8(&mut [0; 4]).bytes() {
                        let _ = write!(encoded, "%{byte:02X}");
                    }
                    return Err(UriError::Character {
                        name: named(),
                        character: other,
                        encoded,
                    });
                }
            },
        }
    }
    Ok((name, decoded))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn push(uri: &mut String, name: &str, value: &[u8]) {
    let _ = write!(uri, "{name}=");
    for byte in value {
        match is_unreserved(*byte) {
            true => uri.push(char::from(*byte)),
            false => {
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
}

fn once<T>(field: &mut Option<T>, name: &str, value: T) -> Result<(), UriError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(UriError::Duplicate { name: name.into() }),
    }
}

/// `3` is 3.0.
fn library_version(text: &str) -> Option<(u8, u8)> {
    let number = |digits: &str| {
        let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u8>().ok().filter(|_| valid)
    };
    match text.split_once('.') {
        Some((major, minor)) => Some((number(major)?, number(minor)?)),
        None => Some((number(text)?, 0)),
    }
}

/// An absolute path, or a `file` URI of this host (RFC 8089).
fn pin_source(value: &str) -> Result<PathBuf, UriError> {
    if value.starts_with('|') {
        return Err(UriError::PinProgram);
    }
    let path = match value.get(..5) {
        Some(scheme) if scheme.eq_ignore_ascii_case("file:") => {
            let path = value.get(5..).unwrap_or_default();
            let path = path
                .strip_prefix("//localhost/")
                .or_else(|| path.strip_prefix("///"))
                .map_or_else(|| path.to_owned(), |path| format!("/{path}"));
            // The inner URI has an encoding of its own.
            let (_, decoded) = attribute(&format!("pin-source={path}"), b":[]@!$'()*+,=&/;")?;
            String::from_utf8(decoded).map_err(|_| UriError::PinSource)?
        }
        _ => value.to_owned(),
    };
    match path.starts_with('/') && !path.starts_with("//") && !path.contains('\0') {
        true => Ok(path.into()),
        false => Err(UriError::PinSource),
    }
}
