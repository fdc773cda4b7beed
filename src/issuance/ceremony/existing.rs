//! Keys that are in a token already, made by those who administer the HSM.

use std::sync::Arc;

use super::keys::KeySpec;
use super::{Ceremony, CeremonyError, issuer_id};
use crate::hsm::{HsmError, Key, KeyName, KeyReport, Pkcs11Uri, Token};
use crate::ledger::{Change, IssuerState, KeyLocation};
use crate::x509::{KeyKind, PublicKey};

/// A private key that an operator has named, as its token describes it.
#[derive(Debug, Clone)]
pub struct ExistingKey {
    /// The token's name in the configuration.
    pub token: String,
    pub report: KeyReport,
    pub public_key: PublicKey,
    /// Names this key and no other.
    pub uri: String,
}

impl ExistingKey {
    pub fn kind(&self) -> KeyKind {
        self.public_key.kind()
    }
}

impl Ceremony {
    /// The one key of this name: in the given token, or in any that is configured. Nothing is signed
    /// or recorded.
    pub async fn existing_key(
        &self,
        token: Option<&str>,
        name: &KeyName,
    ) -> Result<ExistingKey, CeremonyError> {
        let tokens = match token {
            Some(token) => vec![token.to_owned()],
            None => self.hsm.token_names(),
        };
        let mut found: Vec<(String, KeyReport, String)> = Vec::new();
        let mut present = Vec::new();
        for token in &tokens {
            let token = self.token(token).await?;
            let Some(info) = token.info() else { continue };
            for (matches, report) in token.keys_by_name(name).await? {
                let uri = Pkcs11Uri::of_private_key(&info, &report.id, &report.label);
                present.push(uri.clone());
                // A token with the same keys has the same one.
                let is_known = found.iter().any(|(known, other, _)| {
                    self.hsm.has_same_keys(known, token.name())
                        && other.public_key.is_ok()
                        && other.public_key == report.public_key
                });
                if matches && !is_known {
                    found.push((token.name().to_owned(), report, uri));
                }
            }
        }
        let several = found.len() > 1;
        match found.pop() {
            Some((token, report, uri)) if !several => match &report.public_key {
                Ok(public_key) => Ok(ExistingKey {
                    token,
                    public_key: public_key.clone(),
                    report,
                    uri,
                }),
                Err(reason) => Err(HsmError::NoPublicKey {
                    token,
                    id: crate::digest::hex(&report.id),
                    reason: reason.clone(),
                }
                .into()),
            },
            Some(last) => {
                found.push(last);
                let candidates = found.into_iter().map(|(.., uri)| uri);
                Err(CeremonyError::AmbiguousKey {
                    name: name.to_string(),
                    candidates: candidates.collect(),
                })
            }
            None => Err(CeremonyError::NoSuchKey {
                name: name.to_string(),
                tokens: tokens.join("`, `"),
                present,
            }),
        }
    }

    /// Opens the key and has it sign a test message: the token must vouch for it, and allow its use.
    pub(super) async fn open_existing(
        &self,
        existing: &ExistingKey,
    ) -> Result<(Arc<Token>, Key), CeremonyError> {
        let token = self.token(&existing.token).await?;
        let key = token.key(&existing.report.id, &existing.public_key).await?;
        key.probe().await?;
        Ok((token, key))
    }

    /// Whether the key is recorded for this use, and pending.
    pub(super) async fn is_recorded(
        &self,
        existing: &ExistingKey,
        spec: KeySpec<'_>,
    ) -> Result<bool, CeremonyError> {
        let records = self.ledger.snapshot().await?;
        let Some((authority, issuer)) = records.issuer(&issuer_id(&existing.public_key)) else {
            return Ok(false);
        };
        let is_same = authority.trust_domain == *spec.domain
            && issuer.role == spec.role
            && issuer.state == IssuerState::Pending
            && issuer.path_len == Some(spec.path_len);
        match is_same {
            true => Ok(true),
            false => Err(CeremonyError::KeyInUse {
                key: existing.uri.clone(),
                role: issuer.role,
                trust_domain: authority.trust_domain.clone(),
                state: issuer.state,
            }),
        }
    }

    /// Records the key as a pending issuer, unless it is one already.
    pub(super) async fn record_existing(
        &self,
        token: &Token,
        existing: &ExistingKey,
        spec: KeySpec<'_>,
    ) -> Result<(), CeremonyError> {
        if self.is_recorded(existing, spec).await? {
            return Ok(());
        }
        self.change(Self::existing_issuer(token, existing, spec))
            .await
            .map(drop)
    }

    /// The change that records the key as a pending issuer.
    pub(super) fn existing_issuer(
        token: &Token,
        existing: &ExistingKey,
        spec: KeySpec<'_>,
    ) -> Change {
        Change::AddIssuer {
            trust_domain: spec.domain.clone(),
            role: spec.role,
            public_key: existing.public_key.spki_der().to_vec(),
            location: KeyLocation {
                token: token.name().to_owned(),
                token_serial: token.info().map(|info| info.serial).unwrap_or_default(),
                key_id: existing.report.id.clone(),
                label: existing.report.label.clone(),
            },
            path_len: Some(spec.path_len),
        }
    }
}
