//! Changes of trust anchors.

use super::bundles::published;
use super::change_context::{ChangeContext, ChangeResult, parse};
use super::columns::Columns;
use super::connection::{query, query_scalar};
use super::issuers::NewCaCertificate;
use super::lookup::authority;
use crate::clock::UnixTime;
use crate::digest::hex;
use crate::ledger::{AnchorOrigin, AnchorState, LedgerError};
use crate::x509::TrustDomain;

impl ChangeContext<'_> {
    /// Makes the path's anchor an anchor of this authority; a foreign one becomes the authority's
    /// own.
    pub(super) async fn ensure_anchor(
        &mut self,
        authority: i64,
        new: &NewCaCertificate,
        sha256: &[u8; 32],
    ) -> Result<(), LedgerError> {
        if new.origin == AnchorOrigin::Foreign {
            return Err(LedgerError::Refused(
                "a foreign anchor cannot be the anchor of an issuer of this authority".to_owned(),
            ));
        }
        let in_use = query(
            "SELECT id, origin FROM anchor
             WHERE authority = $1 AND sha256 = $2 AND state <> 'retired'",
        )
        .bind(authority)
        .bind(sha256.as_slice())
        .fetch_optional(&mut *self.conn)
        .await?;
        match in_use {
            Some(row)
                if Columns::of(&row).parsed::<AnchorOrigin>("origin")? == AnchorOrigin::Foreign =>
            {
                let row: i64 = Columns::of(&row).get("id")?;
                self.retire_anchor_row(row).await?;
            }
            Some(_) => return Ok(()),
            None => {}
        }
        self.insert_anchor(
            authority,
            sha256,
            &new.anchor,
            new.origin,
            &new.source,
            new.state,
            None,
        )
        .await
    }

    /// Publishes the root of an upstream CA. One that was published for another CA becomes this
    /// authority's.
    pub(super) async fn approve_anchor(
        &mut self,
        trust_domain: &TrustDomain,
        der: &[u8],
        source: &str,
    ) -> Result<ChangeResult, LedgerError> {
        let authority = authority(self.conn, trust_domain).await?;
        let sha256 = parse("the anchor", der)?.fingerprint();
        let new = NewCaCertificate {
            der: Vec::new(),
            path: Vec::new(),
            anchor: der.to_vec(),
            origin: AnchorOrigin::Upstream,
            source: source.to_owned(),
            state: AnchorState::Pending,
        };
        self.ensure_anchor(authority, &new, &sha256).await?;
        let detail = format!("sha256:{} from {source}", hex(&sha256));
        Ok(ChangeResult {
            action: Some(("approve-anchor", trust_domain.to_string(), detail)),
            authority: Some((authority, trust_domain.clone())),
            ..ChangeResult::default()
        })
    }

    #[expect(clippy::too_many_arguments, reason = "they are the row's columns")]
    pub(super) async fn insert_anchor(
        &mut self,
        authority: i64,
        sha256: &[u8; 32],
        der: &[u8],
        origin: AnchorOrigin,
        source: &str,
        state: AnchorState,
        expires_at: Option<UnixTime>,
    ) -> Result<(), LedgerError> {
        let inserted = query(
            "INSERT INTO anchor
                (authority, sha256, der, origin, source, state, expires_at, added_at, added_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        )
        .bind(authority)
        .bind(sha256.as_slice())
        .bind(der)
        .bind(origin.as_str())
        .bind(source)
        .bind(state.as_str())
        .bind(expires_at.map(UnixTime::secs))
        .bind(self.now.secs())
        .bind(&self.by.name)
        .execute(&mut *self.conn)
        .await?;
        if inserted == 0 {
            return Err(LedgerError::Refused(format!(
                "the anchor sha256:{} already is an anchor of this authority",
                hex(sha256)
            )));
        }
        Ok(())
    }

    /// All or none: the caller's transaction ends with the error.
    pub(super) async fn add_foreign_anchors(
        &mut self,
        trust_domain: &TrustDomain,
        ders: &[Vec<u8>],
        source: &str,
        expires_at: Option<UnixTime>,
    ) -> Result<ChangeResult, LedgerError> {
        let authority = authority(self.conn, trust_domain).await?;
        let mut added = Vec::new();
        for der in ders {
            let anchor = self
                .add_foreign_anchor(authority, der, source, expires_at)
                .await?;
            added.extend(anchor);
        }
        let action = (!added.is_empty()).then(|| {
            let shown: Vec<_> = added
                .iter()
                .map(|(sha256, until)| format!("sha256:{} until {until}", hex(sha256)))
                .collect();
            let detail = format!("from {source}: {}", shown.join(", "));
            ("add-anchors", trust_domain.to_string(), detail)
        });
        Ok(ChangeResult {
            action,
            authority: Some((authority, trust_domain.clone())),
            added_anchors: added.into_iter().map(|(sha256, _)| sha256).collect(),
            ..ChangeResult::default()
        })
    }

    /// Its fingerprint and when it leaves the bundle; `None` if it is published already.
    async fn add_foreign_anchor(
        &mut self,
        authority: i64,
        der: &[u8],
        source: &str,
        expires_at: Option<UnixTime>,
    ) -> Result<Option<([u8; 32], UnixTime)>, LedgerError> {
        let certificate = parse("the anchor", der)?;
        // Some verifiers accept any certificate of a bundle as an issuer, even a leaf.
        if !certificate.is_ca() {
            return Err(LedgerError::Refused(format!(
                "{} is no CA certificate (CA:TRUE): supply the root of the other CA",
                certificate.subject()
            )));
        }
        let not_after = certificate.not_after();
        let expires_at = expires_at.map_or(not_after, |requested| requested.min(not_after));
        if expires_at <= self.now {
            return Err(LedgerError::Refused(format!(
                "the anchor {} expired at {expires_at}",
                certificate.subject()
            )));
        }
        let sha256 = certificate.fingerprint();
        let in_use = query(
            "SELECT id, origin = 'foreign' AND expires_at <= $1 AS expired FROM anchor
             WHERE authority = $2 AND sha256 = $3 AND state <> 'retired'",
        )
        .bind(self.now.secs())
        .bind(authority)
        .bind(sha256.as_slice())
        .fetch_optional(&mut *self.conn)
        .await?;
        if let Some(row) = in_use {
            let row = Columns::of(&row);
            if !row.get::<Option<bool>>("expired")?.unwrap_or(false) {
                return Ok(None);
            }
            // It left the bundle at its end, which comes later now.
            self.retire_anchor_row(row.get("id")?).await?;
        }
        let origin = AnchorOrigin::Foreign;
        let state = AnchorState::Active;
        let until = Some(expires_at);
        self.insert_anchor(authority, &sha256, der, origin, source, state, until)
            .await?;
        Ok(Some((sha256, expires_at)))
    }

    pub(super) async fn retire_anchor(
        &mut self,
        trust_domain: &TrustDomain,
        sha256: &[u8; 32],
    ) -> Result<ChangeResult, LedgerError> {
        let authority = authority(self.conn, trust_domain).await?;
        let row: Option<i64> = query_scalar(
            "SELECT id FROM anchor WHERE authority = $1 AND sha256 = $2 AND state <> 'retired'",
        )
        .bind(authority)
        .bind(sha256.as_slice())
        .fetch_optional(&mut *self.conn)
        .await?;
        let row = row.ok_or_else(|| LedgerError::UnknownAnchor {
            trust_domain: trust_domain.clone(),
            sha256: hex(sha256),
        })?;
        self.retire_anchor_row(row).await?;
        self.check_active_issuers(authority).await?;
        if published(self.conn, authority, self.now).await?.is_empty() {
            return Err(LedgerError::Refused(format!(
                "it is the last anchor of {trust_domain}, and a trust bundle must not be empty"
            )));
        }
        let action = Some((
            "retire-anchor",
            trust_domain.to_string(),
            format!("sha256:{}", hex(sha256)),
        ));
        let authority = Some((authority, trust_domain.clone()));
        Ok(ChangeResult {
            action,
            authority,
            ..ChangeResult::default()
        })
    }

    pub(super) async fn retire_anchor_row(&mut self, row: i64) -> Result<(), LedgerError> {
        query("UPDATE anchor SET state = 'retired', retired_at = $1 WHERE id = $2")
            .bind(self.now.secs())
            .bind(row)
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }
}
