//! Keys of a ceremony. Keys that an earlier, incomplete run made are used first.

use std::sync::Arc;

use super::{Ceremony, CeremonyError, issuer_id};
use crate::hsm::{Key, NewKey, Token};
use crate::ledger::{Change, IssuerRecord, KeyLocation, PlannedKey, PlannedKeyChange, Role};
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
    /// Makes a key and records it as a pending issuer. Its CKA_ID is on record before the token generates
    /// it: what a process that died has generated is found and recorded by the next one.
    pub(super) async fn make_key(
        &self,
        token: &Arc<Token>,
        spec: KeySpec<'_>,
    ) -> Result<Key, CeremonyError> {
        if let Some(key) = self.planned_key(token, spec).await? {
            return Ok(key);
        }
        let location = Self::new_location(token, spec.domain, spec.role).await?;
        self.change(Change::PlannedKey(PlannedKeyChange::Plan {
            trust_domain: spec.domain.clone(),
            role: spec.role,
            location: location.clone(),
            kind: spec.kind,
            path_len: Some(spec.path_len),
        }))
        .await?;
        let NewKey { id, public_key } = token
            .generate(spec.kind, &location.label, Some(&location.key_id))
            .await?;
        self.record_planned(token, &location, id, &public_key).await
    }

    /// Where a new key will be.
    pub(super) async fn new_location(
        token: &Arc<Token>,
        domain: &TrustDomain,
        role: Role,
    ) -> Result<KeyLocation, CeremonyError> {
        Ok(KeyLocation {
            token: token.name().to_owned(),
            token_serial: token.info().map(|info| info.serial).unwrap_or_default(),
            key_id: token.new_key_id().await?,
            label: format!("rootbridge {domain} {role}"),
        })
    }

    /// A key for `spec` that was generated and not recorded.
    async fn planned_key(
        &self,
        token: &Arc<Token>,
        spec: KeySpec<'_>,
    ) -> Result<Option<Key>, CeremonyError> {
        let records = self.ledger.snapshot().await?;
        let fits = |planned: &&PlannedKey| {
            planned.role == spec.role
                && planned.location.token == token.name()
                && planned.path_len == Some(spec.path_len)
        };
        let authority = records.authority(spec.domain);
        let planned = authority.map(|authority| authority.planned_keys.as_slice());
        let planned: Vec<_> = planned.unwrap_or_default().iter().filter(fits).collect();
        if planned.is_empty() {
            return Ok(None);
        }
        for key in token.keys().await? {
            let Some(planned) = planned.iter().find(|each| each.location.names(&key.id)) else {
                continue;
            };
            let Ok(public_key) = &key.public_key else {
                continue;
            };
            // A key that was generated later may begin with the same two octets as one that never was.
            let is_recorded = records.issuer(&issuer_id(public_key)).is_some();
            if !is_recorded && public_key.kind() == spec.kind {
                let location = &planned.location;
                let key = self.record_planned(token, location, key.id, public_key);
                return key.await.map(Some);
            }
        }
        Ok(None)
    }

    async fn record_planned(
        &self,
        token: &Arc<Token>,
        planned: &KeyLocation,
        key_id: Vec<u8>,
        public_key: &PublicKey,
    ) -> Result<Key, CeremonyError> {
        self.change(Change::PlannedKey(PlannedKeyChange::Record {
            token: planned.token.clone(),
            planned_id: planned.key_id.clone(),
            public_key: public_key.spki_der().to_vec(),
            key_id: key_id.clone(),
        }))
        .await?;
        Ok(token.key(&key_id, public_key).await?)
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
