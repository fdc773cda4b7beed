//! A token's header and claims, typed strictly: a claim of the wrong type is an error, never a
//! default and never a panic (CVE-2026-25537). The errors name the claim and keep its
//! value to themselves, because they go to the log.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::strict::{Audiences, Object, fields, present};

/// The three parts of a compact JWS (RFC 7515 §3.1), decoded but not yet believed. No `Debug`: it
/// is the credential.
pub(super) struct Parts<'t> {
    header: Vec<u8>,
    payload: Vec<u8>,
    /// What the signature covers: the first two parts as they were sent.
    pub(super) signed: &'t [u8],
    pub(super) signature: Vec<u8>,
}

/// Why a token cannot be read. Never holds any of the token's own text.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("not a compact JWS: three parts separated by dots are wanted")]
    Shape,
    #[error("its {0} is not unpadded base64url")]
    Base64(&'static str),
    #[error("its {part}: {why}")]
    Json {
        part: &'static str,
        why: serde_json::Error,
    },
    #[error("its header asks for extensions (crit), and none is understood here")]
    Critical,
}

impl<'t> Parts<'t> {
    /// Splits and decodes `token`; the caller has bounded its length.
    pub(super) fn split(token: &'t str) -> Result<Self, Malformed> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Malformed::Shape)?;
        let (header, payload) = signed.split_once('.').ok_or(Malformed::Shape)?;
        if payload.contains('.') {
            return Err(Malformed::Shape);
        }
        Ok(Self {
            header: decode("header", header)?,
            payload: decode("payload", payload)?,
            signed: signed.as_bytes(),
            signature: decode("signature", signature)?,
        })
    }

    /// The header (RFC 7515 §4.1).
    pub(super) fn header(&self) -> Result<Header<'_>, Malformed> {
        let header: Header<'_> = parse("header", &self.header)?;
        if header.crit.is_some() {
            return Err(Malformed::Critical);
        }
        Ok(header)
    }

    /// The issuer alone, which chooses who judges the rest.
    pub(super) fn issuer(&self) -> Result<Cow<'_, str>, Malformed> {
        let claims: IssuerOnly<'_> = parse("payload", &self.payload)?;
        Ok(claims.iss)
    }

    /// The claims (RFC 7519 §4.1).
    pub(super) fn claims(&self) -> Result<Claims<'_>, Malformed> {
        parse("payload", &self.payload)
    }
}

/// The parameters of the header that decide something; others are ignored.
#[derive(Deserialize)]
pub(super) struct Header<'a> {
    #[serde(borrow, deserialize_with = "fields::alg")]
    pub(super) alg: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "fields::kid")]
    pub(super) kid: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "fields::typ", rename = "typ")]
    _typ: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "fields::crit")]
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct IssuerOnly<'a> {
    #[serde(borrow, deserialize_with = "fields::iss")]
    iss: Cow<'a, str>,
}

/// The claims that decide something; others are ignored.
#[derive(Deserialize)]
pub(super) struct Claims<'a> {
    #[serde(borrow, deserialize_with = "fields::iss")]
    pub(super) iss: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "fields::sub")]
    pub(super) sub: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) aud: Audiences<'a>,
    #[serde(deserialize_with = "fields::exp")]
    pub(super) exp: i64,
    #[serde(default, deserialize_with = "fields::nbf")]
    pub(super) nbf: Option<i64>,
    #[serde(default, deserialize_with = "fields::iat")]
    pub(super) iat: Option<i64>,
    #[serde(borrow, default, deserialize_with = "fields::jti", rename = "jti")]
    _jti: Option<Cow<'a, str>>,
    #[serde(
        borrow,
        default,
        deserialize_with = "present",
        rename = "kubernetes.io"
    )]
    pub(super) kubernetes: Option<Kubernetes<'a>>,
}

/// What Kubernetes binds a service account's token to (KEP-1205, KEP-4193).
#[derive(Deserialize)]
pub(super) struct Kubernetes<'a> {
    #[serde(borrow, default, deserialize_with = "fields::namespace")]
    pub(super) namespace: Option<Cow<'a, str>>,
    #[serde(
        borrow,
        default,
        deserialize_with = "present",
        rename = "serviceaccount"
    )]
    pub(super) service_account: Option<Bound<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) pod: Option<Bound<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) node: Option<Bound<'a>>,
}

/// An object of the cluster, by name and UID.
#[derive(Deserialize)]
pub(super) struct Bound<'a> {
    #[serde(borrow, deserialize_with = "fields::name")]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "fields::uid")]
    pub(super) uid: Cow<'a, str>,
}

fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, Malformed> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Malformed::Base64(part))
}

fn parse<'a, T: Deserialize<'a>>(part: &'static str, json: &'a [u8]) -> Result<T, Malformed> {
    match serde_json::from_slice(json) {
        Ok(Object(value)) => Ok(value),
        Err(why) => Err(Malformed::Json { part, why }),
    }
}
