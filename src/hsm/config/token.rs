//! `[hsm.tokens.NAME]`: which token, and where its PIN is.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::pin_source::PinSource;
use super::super::token_info::TokenInfo;
use super::super::uri::Pkcs11Uri;
use crate::config_issue::{ConfigIssue, ConfigIssues};

/// `[hsm.tokens.NAME]` in the configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTokenConfig {
    /// A PKCS#11 URI (RFC 7512) that names the token, instead of label and serial.
    pub uri: Option<String>,
    /// The token's label. At least one of label and serial is required, or the URI.
    pub label: Option<String>,
    /// The token's serial number.
    pub serial: Option<String>,
    /// File with the user PIN. Exactly one of `pin_file` and `pin_env` is required, unless the URI has
    /// a `pin-source`.
    pub pin_file: Option<PathBuf>,
    /// Environment variable with the user PIN.
    pub pin_env: Option<String>,
    /// `false` for a token that needs no login, and has no PIN.
    pub login: Option<bool>,
    /// Accept keys that the token does not vouch for. Each use is logged as a warning.
    #[serde(default)]
    pub allow_unattested_keys: bool,
    /// Absolute path of the token's PKCS#11 module, if it is not `hsm.module`.
    pub module: Option<PathBuf>,
    /// Tokens with the same keys, such as the other members of a cluster of HSMs.
    #[serde(default)]
    pub same_keys_in: Vec<String>,
}

/// The validated `[hsm.tokens.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    uri: Pkcs11Uri,
    /// As written; it holds no PIN.
    uri_text: Option<String>,
    label: Option<String>,
    serial: Option<String>,
    pub(in crate::hsm) pin: Option<PinSource>,
    pub(in crate::hsm) allow_unattested_keys: bool,
    pub(in crate::hsm) final_try: bool,
    pub(super) module: PathBuf,
    pub(super) same_keys_in: Vec<String>,
}

impl TokenConfig {
    /// Each way to name the token that the configuration uses, for a message.
    pub fn describe(&self) -> String {
        if let Some(uri) = &self.uri_text {
            return format!("URI {uri}");
        }
        match (self.label(), self.serial()) {
            (Some(label), Some(serial)) => format!("label {label:?} and serial {serial:?}"),
            (Some(label), None) => format!("label {label:?}"),
            (None, serial) => format!("serial {:?}", serial.unwrap_or_default()),
        }
    }

    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    pub fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    /// `None` for a token that is used without a login.
    pub fn pin(&self) -> Option<&PinSource> {
        self.pin.as_ref()
    }

    /// Where the PIN is read, for a message.
    pub fn pin_description(&self) -> String {
        let source = self.pin.as_ref();
        source.map_or_else(|| "nowhere".to_owned(), ToString::to_string)
    }

    /// Whether this is the token that the configuration names.
    pub fn matches(&self, info: &TokenInfo) -> bool {
        let label = self.label.as_ref();
        let serial = self.serial.as_ref();
        self.uri.matches_token(info)
            && label.is_none_or(|label| *label == info.label)
            && serial.is_none_or(|serial| *serial == info.serial)
    }

    /// The PKCS#11 module that has the token.
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// See [`RawTokenConfig::allow_unattested_keys`].
    pub fn allows_unattested_keys(&self) -> bool {
        self.allow_unattested_keys
    }
}

pub(super) fn token_config(
    name: &str,
    raw: RawTokenConfig,
    default_module: &Path,
) -> Result<TokenConfig, ConfigIssues> {
    let table = format!("hsm.tokens.{name}");
    let at = |key: &str| format!("{table}.{key}");
    let mut issues = ConfigIssues::default();
    issues.require(
        raw.module
            .as_ref()
            .is_none_or(|module| module.is_absolute()),
        at("module"),
        "give the module's absolute path",
    );
    let module = raw.module.as_deref().unwrap_or(default_module).to_owned();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    issues.require(
        !name.is_empty() && name.bytes().all(plain),
        &table,
        "a token's name has letters, digits, - and _ only",
    );
    let uri = match &raw.uri {
        Some(text) => issues.collect(token_uri(text, &at("uri"), &module)),
        None => Some(Pkcs11Uri::default()),
    };
    issues.require(
        raw.uri.is_none() || (raw.label.is_none() && raw.serial.is_none()),
        &table,
        "give the token's URI, or its label and serial",
    );
    issues.require(
        raw.uri.is_some() || raw.label.is_some() || raw.serial.is_some(),
        &table,
        "give the token's label, its serial, or both, or its URI",
    );
    // CK_TOKEN_INFO holds 32 and 16 bytes, padded with blanks.
    let fits = |text: &Option<String>, most: usize| {
        text.as_ref()
            .is_none_or(|t| (1..=most).contains(&t.len()) && !t.ends_with(' '))
    };
    issues.require(
        fits(&raw.label, 32),
        at("label"),
        "must be 1 to 32 bytes, with no space at the end",
    );
    issues.require(
        fits(&raw.serial, 16),
        at("serial"),
        "must be 1 to 16 bytes, with no space at the end",
    );
    let from_uri = uri.as_ref().and_then(Pkcs11Uri::pin_source);
    let pin = issues.collect(pin(&raw, from_uri, &table));
    issues.into_result(uri.zip(pin).map(|(uri, pin)| TokenConfig {
        uri,
        uri_text: raw.uri,
        label: raw.label,
        serial: raw.serial,
        pin,
        allow_unattested_keys: raw.allow_unattested_keys,
        final_try: false,
        module,
        same_keys_in: raw.same_keys_in,
    }))
}

fn pin(
    raw: &RawTokenConfig,
    from_uri: Option<&Path>,
    table: &str,
) -> Result<Option<PinSource>, ConfigIssue> {
    let at = |key: &str| format!("{table}.{key}");
    let file = match (&raw.pin_file, from_uri) {
        (Some(_), Some(_)) => {
            return Err(ConfigIssue::new(
                at("pin_file"),
                "the URI has a pin-source already: give one of them",
            ));
        }
        (Some(file), None) if file.as_os_str().is_empty() => {
            return Err(ConfigIssue::new(at("pin_file"), "must name a file"));
        }
        (Some(file), None) => Some(file.clone()),
        (None, from_uri) => from_uri.map(Path::to_owned),
    };
    let no_login = raw.login == Some(false);
    match (file, &raw.pin_env) {
        (None, None) if no_login => Ok(None),
        (Some(_), None) | (None, Some(_)) if no_login => Err(ConfigIssue::new(
            at("login"),
            "is false, and there is a PIN: remove one of them",
        )),
        (Some(file), None) => Ok(Some(PinSource::File(file))),
        (None, Some(variable)) if !is_variable_name(variable) => {
            Err(ConfigIssue::new(at("pin_env"), "is not a variable's name"))
        }
        (None, Some(variable)) => Ok(Some(PinSource::Env(variable.clone()))),
        (None, None) => Err(
            ConfigIssue::new(table, "give exactly one of pin_file and pin_env")
                .with_fix("for a token that needs no login: login = false"),
        ),
        (Some(_), Some(_)) => Err(ConfigIssue::new(
            table,
            "give exactly one of pin_file and pin_env",
        )),
    }
}

/// A URI that names a token of this module.
fn token_uri(text: &str, at: &str, module: &Path) -> Result<Pkcs11Uri, ConfigIssue> {
    let issue = |problem: &dyn std::fmt::Display| ConfigIssue::new(at, problem);
    let uri: Pkcs11Uri = text.parse().map_err(|error| issue(&error))?;
    if let Some(unknown) = uri.unrecognized().first() {
        let problem =
            format!("`{unknown}` is not an attribute that is known here, so it names no token");
        return Err(issue(&problem));
    }
    if uri.names_an_object() {
        return Err(issue(&"names an object: a token has no object, type or id"));
    }
    if !uri.names_a_token() {
        return Err(issue(
            &"names every token: give token, serial or another attribute",
        ));
    }
    if !uri.allows_module(module) {
        return Err(issue(
            &"its module-name or module-path is not that of the token's module",
        ));
    }
    Ok(uri)
}

pub(super) fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}
