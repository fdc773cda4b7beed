//! Changes of requests to upstream CAs.

use super::change_context::{ChangeContext, ChangeResult};
use super::columns::Columns;
use super::connection::{query, query_scalar};
use super::lookup::authority;
use crate::clock::UnixTime;
use crate::ledger::{
    CaRequestChange, CaRequestId, CaRequestState, IssuerId, KeyLocation, LedgerError, Role,
};
use crate::x509::{KeyKind, TrustDomain};

/// What every change reads of the request first.
struct Found {
    row: i64,
    trust_domain: TrustDomain,
    location: KeyLocation,
    path_len: Option<u8>,
}

impl Found {
    /// The result of a change that an operator would want to read about.
    fn action(&self, action: &'static str, detail: String) -> ChangeResult {
        let target = format!("{} request {}", self.trust_domain, self.row);
        ChangeResult {
            action: Some((action, target, detail)),
            ..ChangeResult::default()
        }
    }
}

impl ChangeContext<'_> {
    pub(super) async fn change_request(
        &mut self,
        change: CaRequestChange,
    ) -> Result<ChangeResult, LedgerError> {
        use CaRequestState::{Pending, Prepared, Received, Submitted};
        match change {
            CaRequestChange::Begin {
                trust_domain,
                upstream,
                location,
                kind,
                path_len,
                issuer,
            } => {
                let key = (location, kind, issuer);
                self.begin_request(&trust_domain, &upstream, key, path_len)
                    .await
            }
            CaRequestChange::AddKey {
                request,
                public_key,
                key_id,
            } => {
                let found = self.request_in(request, &[Prepared]).await?;
                self.add_request_key(found, &public_key, key_id).await
            }
            CaRequestChange::Relocate {
                request,
                key_id,
                reason,
            } => {
                let found = self.request_in(request, &[Prepared]).await?;
                self.relocate_request_key(&found, &key_id, &reason).await
            }
            CaRequestChange::Submit { request, csr } => {
                let found = self.request_in(request, &[Prepared]).await?;
                query("UPDATE ca_request SET csr = $1 WHERE id = $2")
                    .bind(csr)
                    .bind(found.row)
                    .execute(&mut *self.conn)
                    .await?;
                self.move_request(&found, Submitted, None).await?;
                Ok(found.action("upstream-submit", String::new()))
            }
            CaRequestChange::Wait { request, reference } => {
                let found = self.request_in(request, &[Submitted, Pending]).await?;
                query("UPDATE ca_request SET reference = $1 WHERE id = $2")
                    .bind(&reference)
                    .bind(found.row)
                    .execute(&mut *self.conn)
                    .await?;
                self.move_request(&found, Pending, None).await?;
                Ok(found.action("upstream-pending", format!("reference {reference}")))
            }
            CaRequestChange::Resubmit { request } => {
                let found = self.request_in(request, &[Pending, Received]).await?;
                self.move_request(&found, Submitted, None).await?;
                Ok(found.action("upstream-resubmit", String::new()))
            }
            CaRequestChange::Receive {
                request,
                certificates,
            } => {
                let found = self.request_in(request, &[Submitted, Pending]).await?;
                self.store_answer(&found, &certificates).await?;
                self.move_request(&found, Received, None).await?;
                let detail = format!("{} certificates", certificates.len());
                Ok(found.action("upstream-receive", detail))
            }
            CaRequestChange::Attempt {
                request,
                attempts,
                by,
                until,
            } => {
                let open = [Prepared, Submitted, Pending, Received];
                let found = self.request_in(request, &open).await?;
                self.begin_attempt(&found, attempts, &by, until).await
            }
            CaRequestChange::Retry {
                request,
                at,
                problem,
            } => {
                let open = [Prepared, Submitted, Pending, Received];
                let found = self.request_in(request, &open).await?;
                self.retry_request(&found, at, problem).await
            }
            CaRequestChange::End {
                request,
                state,
                reason,
            } => {
                let open = [Prepared, Submitted, Pending, Received];
                let found = self.request_in(request, &open).await?;
                let action = match state {
                    CaRequestState::Activated => "upstream-activate",
                    CaRequestState::Refused => "upstream-refuse",
                    CaRequestState::Cancelled => "upstream-cancel",
                    _ => {
                        let text = format!("a request does not end as {state}");
                        return Err(LedgerError::Refused(text));
                    }
                };
                self.move_request(&found, state, Some(&reason)).await?;
                Ok(found.action(action, reason))
            }
        }
    }

    async fn begin_request(
        &mut self,
        trust_domain: &TrustDomain,
        upstream: &str,
        (location, kind, issuer): (KeyLocation, KeyKind, Option<IssuerId>),
        path_len: Option<u8>,
    ) -> Result<ChangeResult, LedgerError> {
        let authority = authority(self.conn, trust_domain).await?;
        let issuer_row = match &issuer {
            Some(issuer) => Some(super::lookup::issuer(self.conn, issuer).await?),
            None => None,
        };
        if let Some(row) = &issuer_row
            && row.authority != authority
        {
            return Err(LedgerError::Refused(format!(
                "the key is an issuer of {} already",
                row.trust_domain
            )));
        }
        let inserted = query_scalar(
            "INSERT INTO ca_request (authority, upstream, token, token_serial, key_id, label, kind,
                path_len, issuer, state, next_attempt_at, created_at, created_by, changed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'prepared', $10, $10, $11, $10)
             ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(authority)
        .bind(upstream)
        .bind(&location.token)
        .bind(&location.token_serial)
        .bind(&location.key_id)
        .bind(&location.label)
        .bind(kind.slug())
        .bind(path_len)
        .bind(issuer_row.map(|row| row.row))
        .bind(self.now.secs())
        .bind(&self.by.name)
        .fetch_optional(&mut *self.conn)
        .await?;
        let row: i64 =
            inserted.ok_or_else(|| LedgerError::RequestInFlight(trust_domain.clone()))?;
        let key = crate::digest::hex(&location.key_id);
        let detail = format!("to {upstream}, CKA_ID {key} on {}", location.token);
        let target = format!("{trust_domain} request {row}");
        Ok(ChangeResult {
            action: Some(("upstream-begin", target, detail)),
            request: Some(CaRequestId::new(row)),
            ..ChangeResult::default()
        })
    }

    async fn add_request_key(
        &mut self,
        found: Found,
        public_key: &[u8],
        key_id: Vec<u8>,
    ) -> Result<ChangeResult, LedgerError> {
        let location = KeyLocation {
            key_id,
            ..found.location
        };
        let (domain, path_len) = (&found.trust_domain, found.path_len);
        let added = self
            .add_issuer(domain, Role::Issuing, public_key, &location, path_len)
            .await?;
        let id = IssuerId::of_spki(public_key);
        query(
            "UPDATE ca_request SET issuer = (SELECT id FROM issuer WHERE key = $1), key_id = $2
             WHERE id = $3",
        )
        .bind(id.as_str())
        .bind(&location.key_id)
        .bind(found.row)
        .execute(&mut *self.conn)
        .await?;
        Ok(added)
    }

    async fn relocate_request_key(
        &mut self,
        found: &Found,
        key_id: &[u8],
        reason: &str,
    ) -> Result<ChangeResult, LedgerError> {
        let updated = query("UPDATE ca_request SET key_id = $1 WHERE id = $2 AND issuer IS NULL")
            .bind(key_id)
            .bind(found.row)
            .execute(&mut *self.conn)
            .await?;
        if updated == 0 {
            return Err(LedgerError::Refused(format!(
                "the key of request {} is on record already",
                found.row
            )));
        }
        let (old, new) = (&found.location.key_id, key_id);
        let (old, new) = (crate::digest::hex(old), crate::digest::hex(new));
        let detail = format!("CKA_ID {new} instead of {old}: {reason}");
        Ok(found.action("upstream-relocate", detail))
    }

    async fn store_answer(
        &mut self,
        found: &Found,
        certificates: &[Vec<u8>],
    ) -> Result<(), LedgerError> {
        query("DELETE FROM ca_answer WHERE request = $1")
            .bind(found.row)
            .execute(&mut *self.conn)
            .await?;
        for (position, der) in (0_i64..).zip(certificates) {
            query("INSERT INTO ca_answer (request, position, der) VALUES ($1, $2, $3)")
                .bind(found.row)
                .bind(position)
                .bind(der.as_slice())
                .execute(&mut *self.conn)
                .await?;
        }
        Ok(())
    }

    async fn begin_attempt(
        &mut self,
        found: &Found,
        attempts: u32,
        by: &str,
        until: UnixTime,
    ) -> Result<ChangeResult, LedgerError> {
        let updated = query(
            "UPDATE ca_request SET attempts = attempts + 1, next_attempt_at = $1, attempt_by = $2
             WHERE id = $3 AND attempts = $4",
        )
        .bind(until.secs())
        .bind(by)
        .bind(found.row)
        .bind(attempts)
        .execute(&mut *self.conn)
        .await?;
        if updated == 0 {
            return Err(LedgerError::Refused(format!(
                "another server makes this attempt of request {}",
                found.row
            )));
        }
        Ok(ChangeResult::default())
    }

    async fn retry_request(
        &mut self,
        found: &Found,
        at: UnixTime,
        problem: Option<String>,
    ) -> Result<ChangeResult, LedgerError> {
        query(
            "UPDATE ca_request SET next_attempt_at = $1, problem = $2, attempt_by = NULL
             WHERE id = $3",
        )
        .bind(at.secs())
        .bind(problem)
        .bind(found.row)
        .execute(&mut *self.conn)
        .await?;
        Ok(ChangeResult::default())
    }

    async fn move_request(
        &mut self,
        found: &Found,
        state: CaRequestState,
        problem: Option<&str>,
    ) -> Result<(), LedgerError> {
        let now = self.now.secs();
        query(
            "UPDATE ca_request SET state = $1, problem = $2, attempts = 0, next_attempt_at = $3,
                attempt_by = NULL, changed_at = $4, ended_at = $5 WHERE id = $6",
        )
        .bind(state.as_str())
        .bind(problem)
        .bind(now)
        .bind(now)
        .bind((!state.is_open()).then_some(now))
        .bind(found.row)
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }

    /// The request, if it is in one of these states.
    async fn request_in(
        &mut self,
        request: CaRequestId,
        states: &[CaRequestState],
    ) -> Result<Found, LedgerError> {
        let row = query(
            "SELECT ca_request.*, trust_domain FROM ca_request
             JOIN authority ON authority.id = ca_request.authority WHERE ca_request.id = $1",
        )
        .bind(request.get())
        .fetch_optional(&mut *self.conn)
        .await?
        .ok_or_else(|| {
            LedgerError::Refused(format!(
                "request {request} to an upstream CA is not on record"
            ))
        })?;
        let row = Columns::of(&row);
        let state: CaRequestState = row.parsed("state")?;
        if !states.contains(&state) {
            return Err(LedgerError::RequestMoved { request, state });
        }
        Ok(Found {
            row: request.get(),
            trust_domain: row.parsed("trust_domain")?,
            location: KeyLocation {
                token: row.get("token")?,
                token_serial: row.get("token_serial")?,
                key_id: row.get("key_id")?,
                label: row.get("label")?,
            },
            path_len: row.get("path_len")?,
        })
    }
}
