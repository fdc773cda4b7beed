//! A token's header and claims, typed strictly: a claim of the wrong type is an error, never a
//! default and never a panic (CVE-2026-25537). Errors go to the log, so they name the claim and
//! hide its value.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::strict::{Audiences, Object, fields, non_null};

/// The parts of a compact JWS (RFC 7515 §3.1), decoded but not verified. It is a credential: no
/// `Debug`.
pub(super) struct Parts<'t> {
    header: Vec<u8>,
    payload: Vec<u8>,
    /// The signed bytes: the first two parts as sent.
    pub(super) signed: &'t [u8],
    pub(super) signature: Vec<u8>,
}

/// Why a token cannot be parsed. The text holds nothing of the token.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("not a compact JWS: expected three parts separated by dots")]
    Shape,
    #[error("its {0} is not unpadded base64url")]
    Base64(&'static str),
    #[error("its {part}: {why}")]
    Json {
        part: &'static str,
        why: serde_json::Error,
    },
    #[error("its header requires extensions (crit), and none is supported")]
    Critical,
}

impl<'t> Parts<'t> {
    /// Splits and decodes `token`, whose length the caller has limited.
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

    /// RFC 7515 §4.1.
    pub(super) fn header(&self) -> Result<Header<'_>, Malformed> {
        let header: Header<'_> = parse("header", &self.header)?;
        if header.crit.is_some() {
            return Err(Malformed::Critical);
        }
        Ok(header)
    }

    /// The issuer only. It selects the verifier of the rest.
    pub(super) fn issuer(&self) -> Result<Cow<'_, str>, Malformed> {
        let claims: IssuerOnly<'_> = parse("payload", &self.payload)?;
        Ok(claims.iss)
    }

    /// RFC 7519 §4.1.
    pub(super) fn claims(&self) -> Result<Claims<'_>, Malformed> {
        parse("payload", &self.payload)
    }

    /// What a token must have so that it is worth a TokenReview.
    pub(super) fn reviewable(&self) -> Result<ReviewableClaims<'_>, Malformed> {
        parse("payload", &self.payload)
    }

    /// What a service account's token is bound to. Of other tokens nothing is known under this name.
    pub(super) fn bindings(&self) -> Result<Option<KubernetesClaims<'_>>, Malformed> {
        let claims: BindingsOnly<'_> = parse("payload", &self.payload)?;
        Ok(claims.kubernetes)
    }
}

/// The header parameters in use; others are ignored.
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

/// The claims in use; others are ignored.
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
}

/// Tokens that Secrets hold have neither audience nor end.
#[derive(Deserialize)]
pub(super) struct ReviewableClaims<'a> {
    #[serde(borrow, deserialize_with = "fields::iss")]
    pub(super) iss: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "fields::sub")]
    pub(super) sub: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) aud: Option<Audiences<'a>>,
    #[serde(default, deserialize_with = "fields::optional_exp")]
    pub(super) exp: Option<i64>,
}

#[derive(Deserialize)]
struct BindingsOnly<'a> {
    #[serde(
        borrow,
        default,
        deserialize_with = "non_null",
        rename = "kubernetes.io"
    )]
    kubernetes: Option<KubernetesClaims<'a>>,
}

/// The objects that a service account's token is bound to (KEP-1205, KEP-4193).
#[derive(Deserialize)]
pub(super) struct KubernetesClaims<'a> {
    #[serde(borrow, default, deserialize_with = "fields::namespace")]
    pub(super) namespace: Option<Cow<'a, str>>,
    #[serde(
        borrow,
        default,
        deserialize_with = "non_null",
        rename = "serviceaccount"
    )]
    pub(super) service_account: Option<ObjectReference<'a>>,
    #[serde(borrow, default, deserialize_with = "non_null")]
    pub(super) pod: Option<ObjectReference<'a>>,
    #[serde(borrow, default, deserialize_with = "non_null")]
    pub(super) node: Option<NodeReference<'a>>,
}

#[derive(Deserialize)]
pub(super) struct ObjectReference<'a> {
    #[serde(borrow, deserialize_with = "fields::name")]
    pub(super) name: Cow<'a, str>,
    /// Kubernetes leaves out what is empty.
    #[serde(borrow, default, deserialize_with = "fields::uid")]
    pub(super) uid: Option<Cow<'a, str>>,
}

/// A node's UID decides nothing, and a token whose node no longer exists has none.
#[derive(Deserialize)]
pub(super) struct NodeReference<'a> {
    #[serde(
        borrow,
        default,
        deserialize_with = "fields::node_name",
        rename = "name"
    )]
    pub(super) name: Option<Cow<'a, str>>,
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
