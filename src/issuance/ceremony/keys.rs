//! Keys of a ceremony. Keys that an earlier, incomplete run made are used first.

use std::sync::Arc;

use super::{Ceremony, CeremonyError};
use crate::hsm::{Key, NewKey, Token};
use crate::ledger::{Change, IssuerRecord, KeyLocation, Role};
use crate::x509::{KeyKind, PublicKey, TrustDomain};

/// The key that a ceremony needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeySpec<'a> {
    pub(super) domain: &'a TrustDomain,
    pub(super) role: Role,
    pub(super) kind: KeyKind,
    pub(super) path_len: u8,
}

impl Ceremony {
    /// Makes a key and records it as a pending issuer.
    pub(super) async fn make_key(
        &self,
        token: &Arc<Token>,
        spec: KeySpec<'_>,
    ) -> Result<Key, CeremonyError> {
        let label = format!("rootbridge {} {}", spec.domain, spec.role);
        let NewKey { id, public_key } = token.generate(spec.kind, &label, None).await?;
        self.change(Change::AddIssuer {
            trust_domain: spec.domain.clone(),
            role: spec.role,
            public_key: public_key.spki_der().to_vec(),
            location: KeyLocation {
                token: token.name().to_owned(),
                token_serial: token.info().map(|info| info.serial).unwrap_or_default(),
                key_id: id.clone(),
                label,
            },
            path_len: Some(spec.path_len),
        })
        .await?;
        Ok(token.key(&id, &public_key).await?)
    }

    /// The key of a recorded issuer, if it matches `spec`.
    pub(super) async fn find_key(
        &self,
        token: &Arc<Token>,
        issuer: &IssuerRecord,
        spec: KeySpec<'_>,
    ) -> Result<Option<Key>, CeremonyError> {
        let Ok(public_key) = PublicKey::from_spki_der(&issuer.public_key) else {
            return Ok(None);
        };
        let mut locations = issuer.locations.iter();
        match locations.find(|location| location.token == token.name()) {
            Some(location)
                if public_key.kind() == spec.kind && issuer.path_len == Some(spec.path_len) =>
            {
                Ok(Some(token.key(&location.key_id, &public_key).await?))
            }
            _ => Ok(None),
        }
    }
}

/// An issuer's key, for an error message.
pub(super) fn describe(issuer: &IssuerRecord) -> String {
    let kind = PublicKey::from_spki_der(&issuer.public_key).map(|key| key.kind().to_string());
    let tokens: Vec<_> = issuer
        .locations
        .iter()
        .map(|location| &*location.token)
        .collect();
    format!(
        "an {} key in token `{}` and at most {} CAs below it",
        kind.unwrap_or_else(|_| "unreadable".to_owned()),
        tokens.join("`, `"),
        issuer.path_len.unwrap_or_default()
    )
}
