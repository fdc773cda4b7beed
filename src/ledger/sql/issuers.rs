//! Changes of issuers and of the certificates issued to them.

use super::change_context::{ChangeContext, ChangeResult, parse};
use super::connection::{query, query_scalar};
use super::lookup::{IssuerRow, authority, issuer};
use crate::digest::hex;
use crate::ledger::{
    AnchorOrigin, CaCertificateId, IssuerId, IssuerState, KeyLocation, LedgerError, Role,
};
use crate::x509::{Certificate, TrustDomain};

/// A certificate to add, with its path and anchor.
pub(super) struct NewCaCertificate {
    pub(super) der: Vec<u8>,
    pub(super) path: Vec<Vec<u8>>,
    pub(super) anchor: Vec<u8>,
    pub(super) origin: AnchorOrigin,
    pub(super) source: String,
    pub(super) state: IssuerState,
}

impl ChangeContext<'_> {
    pub(super) async fn add_issuer(
        &mut self,
        trust_domain: &TrustDomain,
        role: Role,
        public_key: &[u8],
        location: &KeyLocation,
        path_len: Option<u8>,
    ) -> Result<ChangeResult, LedgerError> {
        let authority = authority(self.conn, trust_domain).await?;
        let id = IssuerId::of_spki(public_key);
        let inserted = query_scalar(
            "INSERT INTO issuer
                (key, authority, role, state, public_key, path_len, created_at, created_by)
             VALUES ($1, $2, $3, 'pending', $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(id.as_str())
        .bind(authority)
        .bind(role.as_str())
        .bind(public_key)
        .bind(path_len)
        .bind(self.now.secs())
        .bind(&self.by.name)
        .fetch_optional(&mut *self.conn)
        .await?;
        let row = inserted
            .ok_or_else(|| LedgerError::Refused(format!("the key {id} already is an issuer")))?;
        self.set_location(row, location).await?;
        let detail = format!("{role} of {trust_domain}, {}", describe(location));
        Ok(ChangeResult {
            action: Some(("add-issuer", id.to_string(), detail)),
            ..ChangeResult::default()
        })
    }

    pub(super) async fn add_location(
        &mut self,
        id: &IssuerId,
        location: &KeyLocation,
    ) -> Result<ChangeResult, LedgerError> {
        let issuer = issuer(self.conn, id).await?;
        self.set_location(issuer.row, location).await?;
        let action = Some(("add-location", id.to_string(), describe(location)));
        Ok(ChangeResult {
            action,
            ..ChangeResult::default()
        })
    }

    pub(super) async fn set_location(
        &mut self,
        issuer: i64,
        location: &KeyLocation,
    ) -> Result<(), LedgerError> {
        query(
            "INSERT INTO issuer_location (issuer, token, token_serial, key_id, label)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (issuer, token) DO UPDATE SET token_serial = excluded.token_serial,
                key_id = excluded.key_id, label = excluded.label",
        )
        .bind(issuer)
        .bind(&location.token)
        .bind(&location.token_serial)
        .bind(&location.key_id)
        .bind(&location.label)
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }

    pub(super) async fn add_ca_certificate(
        &mut self,
        id: &IssuerId,
        new: NewCaCertificate,
        retire: bool,
    ) -> Result<ChangeResult, LedgerError> {
        let issuer = issuer(self.conn, id).await?;
        if issuer.state == IssuerState::Retired {
            return Err(LedgerError::IssuerNotActive {
                issuer: id.clone(),
                state: issuer.state,
            });
        }
        let certificate = parse("the CA certificate", &new.der)?;
        if IssuerId::of_spki(certificate.public_key().spki_der()) != *id {
            return Err(LedgerError::Refused(format!(
                "the certificate of {} has another key than issuer {id}",
                certificate.subject()
            )));
        }
        for intermediate in &new.path {
            parse("a certificate of the path", intermediate)?;
        }
        let anchor = parse("the anchor", &new.anchor)?.fingerprint();
        self.ensure_anchor(issuer.authority, &new, &anchor).await?;
        let row = self
            .insert_certificate(&issuer, &certificate, &new, &anchor)
            .await?;
        if new.state == IssuerState::Active {
            self.activate(&issuer).await?;
        }
        if retire {
            self.retire_others(&issuer).await?;
        }
        let detail = format!(
            "{} certificate sha256:{}, anchor sha256:{} ({})",
            new.state,
            hex(&certificate.fingerprint()),
            hex(&anchor),
            new.origin
        );
        Ok(ChangeResult {
            action: Some(("add-ca-certificate", id.to_string(), detail)),
            authority: Some((issuer.authority, issuer.trust_domain)),
            certificate: Some(CaCertificateId::new(row)),
            ..ChangeResult::default()
        })
    }

    pub(super) async fn insert_certificate(
        &mut self,
        issuer: &IssuerRow,
        certificate: &Certificate,
        new: &NewCaCertificate,
        anchor: &[u8; 32],
    ) -> Result<i64, LedgerError> {
        let inserted = query_scalar(
            "INSERT INTO ca_certificate
                (issuer, der, sha256, state, anchor, not_before, not_after, added_at, added_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(issuer.row)
        .bind(new.der.as_slice())
        .bind(certificate.fingerprint().as_slice())
        .bind(new.state.as_str())
        .bind(anchor.as_slice())
        .bind(certificate.not_before().secs())
        .bind(certificate.not_after().secs())
        .bind(self.now.secs())
        .bind(&self.by.name)
        .fetch_optional(&mut *self.conn)
        .await?;
        let row = inserted.ok_or_else(|| {
            LedgerError::Refused(format!(
                "the certificate of {} with this anchor already is on record",
                certificate.subject()
            ))
        })?;
        self.insert_path(row, &new.path).await?;
        Ok(row)
    }

    async fn insert_path(&mut self, row: i64, path: &[Vec<u8>]) -> Result<(), LedgerError> {
        for (position, der) in (0_i64..).zip(path) {
            query("INSERT INTO ca_path (ca_certificate, position, der) VALUES ($1, $2, $3)")
                .bind(row)
                .bind(position)
                .bind(der.as_slice())
                .execute(&mut *self.conn)
                .await?;
        }
        Ok(())
    }

    pub(super) async fn set_path(
        &mut self,
        id: CaCertificateId,
        path: &[Vec<u8>],
    ) -> Result<ChangeResult, LedgerError> {
        let mut prints = Vec::new();
        for intermediate in path {
            let certificate = parse("a certificate of the path", intermediate)?;
            prints.push(format!("sha256:{}", hex(&certificate.fingerprint())));
        }
        let in_use: Option<i64> =
            query_scalar("SELECT id FROM ca_certificate WHERE id = $1 AND state <> 'retired'")
                .bind(id.get())
                .fetch_optional(&mut *self.conn)
                .await?;
        let row = in_use.ok_or_else(|| not_in_use(id))?;
        query("DELETE FROM ca_path WHERE ca_certificate = $1")
            .bind(row)
            .execute(&mut *self.conn)
            .await?;
        self.insert_path(row, path).await?;
        Ok(ChangeResult {
            action: Some(("set-path", id.to_string(), prints.join(", "))),
            certificate: Some(id),
            ..ChangeResult::default()
        })
    }

    /// Makes an issuer active, with its pending certificates and their anchors.
    pub(super) async fn activate(&mut self, issuer: &IssuerRow) -> Result<(), LedgerError> {
        let statements = [
            "UPDATE ca_certificate SET state = 'active' WHERE issuer = $1 AND state = 'pending'",
            "UPDATE anchor SET state = 'active' WHERE state = 'pending'
                AND authority = (SELECT authority FROM issuer WHERE id = $1)
                AND sha256 IN (SELECT anchor FROM ca_certificate WHERE issuer = $1 AND state = 'active')",
            "UPDATE issuer SET state = 'active' WHERE id = $1 AND state = 'pending'",
        ];
        for statement in statements {
            query(statement)
                .bind(issuer.row)
                .execute(&mut *self.conn)
                .await?;
        }
        Ok(())
    }

    pub(super) async fn retire_others(&mut self, issuer: &IssuerRow) -> Result<(), LedgerError> {
        let others: Vec<i64> = query_scalar(
            "SELECT id FROM issuer
             WHERE authority = $1 AND role = $2 AND id <> $3 AND state = 'active'",
        )
        .bind(issuer.authority)
        .bind(issuer.role.as_str())
        .bind(issuer.row)
        .fetch_all(&mut *self.conn)
        .await?;
        for other in others {
            self.retire_issuer(other).await?;
        }
        Ok(())
    }

    pub(super) async fn retire_issuer(&mut self, row: i64) -> Result<(), LedgerError> {
        let statements = [
            "UPDATE ca_certificate SET state = 'retired' WHERE issuer = $1 AND state <> 'retired'",
            "UPDATE issuer SET state = 'retired' WHERE id = $1 AND state <> 'retired'",
        ];
        for statement in statements {
            query(statement).bind(row).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    pub(super) async fn set_issuer_state(
        &mut self,
        id: &IssuerId,
        state: IssuerState,
    ) -> Result<ChangeResult, LedgerError> {
        let issuer = issuer(self.conn, id).await?;
        if issuer.state >= state {
            return Err(LedgerError::Refused(format!(
                "issuer {id} is {} and cannot become {state}",
                issuer.state
            )));
        }
        if state == IssuerState::Active {
            self.activate(&issuer).await?;
            self.check_active_issuers(issuer.authority).await?;
        } else {
            self.retire_issuer(issuer.row).await?;
        }
        Ok(ChangeResult {
            action: Some(("set-issuer-state", id.to_string(), state.to_string())),
            authority: Some((issuer.authority, issuer.trust_domain)),
            ..ChangeResult::default()
        })
    }

    /// Refuses a change after which an active issuer of `authority` has nothing to sign under: an
    /// active certificate whose anchor is active too. The caller's transaction is rolled back.
    pub(super) async fn check_active_issuers(&mut self, authority: i64) -> Result<(), LedgerError> {
        let unusable: Option<String> = query_scalar(
            "SELECT key FROM issuer WHERE authority = $1 AND state = 'active'
               AND NOT EXISTS (SELECT 1 FROM ca_certificate JOIN anchor
                    ON anchor.authority = issuer.authority AND anchor.sha256 = ca_certificate.anchor
                    WHERE ca_certificate.issuer = issuer.id
                    AND ca_certificate.state = 'active' AND anchor.state = 'active')",
        )
        .bind(authority)
        .fetch_optional(&mut *self.conn)
        .await?;
        match unusable {
            None => Ok(()),
            Some(issuer) => Err(LedgerError::Refused(format!(
                "issuer {issuer} is active and would have no certificate whose anchor is published: \
                 retire the issuer first, or add a certificate with `rootbridge ca import`"
            ))),
        }
    }

    pub(super) async fn retire_certificate(
        &mut self,
        id: CaCertificateId,
    ) -> Result<ChangeResult, LedgerError> {
        let authority: Option<i64> = query_scalar(
            "UPDATE ca_certificate SET state = 'retired' WHERE id = $1 AND state <> 'retired'
             RETURNING (SELECT authority FROM issuer WHERE issuer.id = ca_certificate.issuer)",
        )
        .bind(id.get())
        .fetch_optional(&mut *self.conn)
        .await?;
        let authority = authority.ok_or_else(|| not_in_use(id))?;
        self.check_active_issuers(authority).await?;
        let action = Some(("retire-ca-certificate", id.to_string(), String::new()));
        Ok(ChangeResult {
            action,
            ..ChangeResult::default()
        })
    }
}

fn not_in_use(id: CaCertificateId) -> LedgerError {
    LedgerError::Refused(format!(
        "CA certificate {id} is not on record, or is retired"
    ))
}

fn describe(location: &KeyLocation) -> String {
    format!(
        "{} on {} ({})",
        location.label, location.token, location.token_serial
    )
}
