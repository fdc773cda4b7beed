//! How authorities come and go.

use super::change_context::{ChangeContext, ChangeResult};
use super::connection::{query, query_scalar};
use super::lookup::authority;
use crate::ledger::{CaRequestChange, CaRequestId, CaRequestState, LedgerError};
use crate::x509::TrustDomain;

impl ChangeContext<'_> {
    pub(super) async fn create_authority(
        &mut self,
        trust_domain: TrustDomain,
    ) -> Result<ChangeResult, LedgerError> {
        let mut created = query(
            "INSERT INTO authority (trust_domain, created_at, created_by) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
        )
        .bind(trust_domain.as_str())
        .bind(self.now.secs())
        .bind(&self.by.name)
        .execute(&mut *self.conn)
        .await?;
        if created == 0 {
            created = query(
                "UPDATE authority SET removed_at = NULL, removed_by = NULL
                 WHERE trust_domain = $1 AND removed_at IS NOT NULL",
            )
            .bind(trust_domain.as_str())
            .execute(&mut *self.conn)
            .await?;
        }
        if created == 0 {
            return Err(LedgerError::Refused(format!(
                "trust domain {trust_domain} already has an authority"
            )));
        }
        Ok(ChangeResult::done(
            "create-authority",
            trust_domain.to_string(),
            String::new(),
        ))
    }

    pub(super) async fn remove_authority(
        &mut self,
        trust_domain: &TrustDomain,
        reason: &str,
    ) -> Result<ChangeResult, LedgerError> {
        let authority = authority(self.conn, trust_domain).await?;
        self.has_never_issued(authority, trust_domain).await?;
        let request: Option<i64> =
            query_scalar("SELECT id FROM ca_request WHERE authority = $1 AND ended_at IS NULL")
                .bind(authority)
                .fetch_optional(&mut *self.conn)
                .await?;
        if let Some(request) = request {
            let end = CaRequestChange::End {
                request: CaRequestId::new(request),
                state: CaRequestState::Cancelled,
                reason: format!("the authority was removed: {reason}"),
            };
            self.change_request(end).await?;
        }
        let issuers: Vec<i64> =
            query_scalar("SELECT id FROM issuer WHERE authority = $1 AND state <> 'retired'")
                .bind(authority)
                .fetch_all(&mut *self.conn)
                .await?;
        for issuer in issuers {
            self.retire_issuer(issuer).await?;
        }
        let ends = [
            "UPDATE anchor SET state = 'retired', retired_at = $1
             WHERE authority = $2 AND state <> 'retired'",
            "UPDATE planned_key SET dropped_at = $1
             WHERE authority = $2 AND issuer IS NULL AND dropped_at IS NULL",
            "UPDATE authority SET removed_at = $1 WHERE id = $2",
        ];
        for end in ends {
            query(end)
                .bind(self.now.secs())
                .bind(authority)
                .execute(&mut *self.conn)
                .await?;
        }
        query("UPDATE authority SET removed_by = $1 WHERE id = $2")
            .bind(&self.by.name)
            .bind(authority)
            .execute(&mut *self.conn)
            .await?;
        Ok(ChangeResult::done(
            "remove-authority",
            trust_domain.to_string(),
            reason.to_owned(),
        ))
    }

    /// # Errors
    /// [`LedgerError::Refused`] for an authority whose issuing CAs have signed, or were about to, and for
    /// one with an open rotation.
    async fn has_never_issued(
        &mut self,
        authority: i64,
        trust_domain: &TrustDomain,
    ) -> Result<(), LedgerError> {
        // Kinds 1 and 2 are certificates; a certification request says nothing about anybody else.
        let subject: Option<String> = query_scalar(
            "SELECT subject FROM intent WHERE kind IN (1, 2) AND issuer IN
                (SELECT id FROM issuer WHERE authority = $1 AND role = 'issuing') LIMIT 1",
        )
        .bind(authority)
        .fetch_optional(&mut *self.conn)
        .await?;
        if let Some(subject) = subject {
            return Err(LedgerError::Refused(format!(
                "the authority of {trust_domain} has issued, a certificate for `{subject}` among others: \
                 what has issued stays on record, and `rootbridge ca retire` retires an issuing CA"
            )));
        }
        let rotation: Option<i64> =
            query_scalar("SELECT id FROM rotation WHERE authority = $1 AND ended_at IS NULL")
                .bind(authority)
                .fetch_optional(&mut *self.conn)
                .await?;
        match rotation {
            None => Ok(()),
            Some(rotation) => Err(LedgerError::Refused(format!(
                "rotation {rotation} of {trust_domain} is open: `rootbridge rotate back` ends it"
            ))),
        }
    }
}
