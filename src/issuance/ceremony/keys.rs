//! Keys of a ceremony: those that an earlier, broken-off run has made are used first.

use std::sync::Arc;

use super::{Ceremony, CeremonyError};
use crate::hsm::{Key, Token};
use crate::ledger::{Change, IssuerRecord, KeyLocation, Role};
use crate::x509::{KeyKind, PublicKey, Serial, TrustDomain};

/// What a key is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) domain: &'a TrustDomain,
    pub(super) role: Role,
    pub(super) kind: KeyKind,
    pub(super) path_len: u8,
}

impl Ceremony {
    /// A new key, on record as a pending issuer.
    pub(super) async fn make(
        &self,
        token: &Arc<Token>,
        wanted: Wanted<'_>,
    ) -> Result<Key, CeremonyError> {
        let id = Serial::new(self.clock.now()).as_bytes().to_vec();
        let label = format!("rootbridge {} {}", wanted.domain, wanted.role);
        let public_key = token.generate(wanted.kind, &label, &id).await?;
        self.change(Change::AddIssuer {
            trust_domain: wanted.domain.clone(),
            role: wanted.role,
            public_key: public_key.spki_der().to_vec(),
            location: KeyLocation {
                token: token.name().to_owned(),
                token_serial: token.info().map(|info| info.serial).unwrap_or_default(),
                key_id: id.clone(),
                label,
            },
            path_len: Some(wanted.path_len),
        })
        .await?;
        Ok(token.key(&id, &public_key).await?)
    }

    /// The key of an issuer on record, when it is what is wanted.
    pub(super) async fn known(
        &self,
        token: &Arc<Token>,
        issuer: &IssuerRecord,
        wanted: Wanted<'_>,
    ) -> Result<Option<Key>, CeremonyError> {
        let Ok(public_key) = PublicKey::from_spki_der(&issuer.public_key) else {
            return Ok(None);
        };
        let mut places = issuer.locations.iter();
        match places.find(|place| place.token == token.name()) {
            Some(place)
                if public_key.kind() == wanted.kind && issuer.path_len == Some(wanted.path_len) =>
            {
                Ok(Some(token.key(&place.key_id, &public_key).await?))
            }
            _ => Ok(None),
        }
    }
}

/// An issuer's key in words.
pub(super) fn describe(issuer: &IssuerRecord) -> String {
    let kind = PublicKey::from_spki_der(&issuer.public_key).map(|key| key.kind().to_string());
    let tokens: Vec<_> = issuer.locations.iter().map(|place| &*place.token).collect();
    format!(
        "an {} key in token `{}` and room for {} CAs below it",
        kind.unwrap_or_else(|_| "unreadable".to_owned()),
        tokens.join("`, `"),
        issuer.path_len.unwrap_or_default()
    )
}
