//! How the records change: each change in one transaction, with who made it and the bundles that
//! follow from it.

use sqlx::SqliteConnection;

use super::bundles::publish;
use super::columns::Columns;
use super::issuers::NewCaCertificate;
use crate::clock::UnixTime;
use crate::ledger::{
    Actor, Applied, BundleVersion, CaCertificateId, Change, IssuerState, LedgerError,
};
use crate::x509::{Certificate, TrustDomain};

/// What a change did, before its bundles.
#[derive(Default)]
pub(super) struct ChangeResult {
    /// The row of `operator_action`; `None` when nothing was changed.
    pub(super) action: Option<(&'static str, String, String)>,
    /// Whose bundle may differ now.
    pub(super) authority: Option<(i64, TrustDomain)>,
    pub(super) certificate: Option<CaCertificateId>,
}

/// Changes the records. The caller holds the transaction.
pub(super) async fn apply(
    conn: &mut SqliteConnection,
    change: Change,
    by: &Actor,
    now: UnixTime,
) -> Result<Applied, LedgerError> {
    if let Change::RefreshBundles { now } = change {
        return refresh(conn, now, by).await;
    }
    let mut context = ChangeContext { conn, by, now };
    let done = context.change(change).await?;
    let mut bundles = Vec::new();
    if let Some((row, trust_domain)) = done.authority
        && let Some(sequence) = publish(context.conn, row, &trust_domain, now).await?
    {
        bundles.push(BundleVersion {
            trust_domain,
            sequence,
        });
    }
    let revision = match done.action {
        Some((action, target, detail)) => context.note(action, &target, &detail).await?,
        None => revision(context.conn).await?,
    };
    Ok(Applied {
        revision,
        bundles,
        certificate: done.certificate,
    })
}

async fn refresh(
    conn: &mut SqliteConnection,
    now: UnixTime,
    by: &Actor,
) -> Result<Applied, LedgerError> {
    let mut bundles = Vec::new();
    let rows = sqlx::query("SELECT id, trust_domain FROM authority ORDER BY id")
        .fetch_all(&mut *conn)
        .await?;
    for row in &rows {
        let row = Columns(row);
        let trust_domain: TrustDomain = row.parsed("trust_domain")?;
        if let Some(sequence) = publish(conn, row.get("id")?, &trust_domain, now).await? {
            bundles.push(BundleVersion {
                trust_domain,
                sequence,
            });
        }
    }
    let mut context = ChangeContext { conn, by, now };
    let revision = match bundles.as_slice() {
        [] => revision(context.conn).await?,
        made => {
            let made: Vec<_> = made
                .iter()
                .map(|bundle| format!("{} {}", bundle.trust_domain, bundle.sequence))
                .collect();
            context
                .note("refresh-bundles", "all", &made.join(", "))
                .await?
        }
    };
    Ok(Applied {
        revision,
        bundles,
        certificate: None,
    })
}

pub(super) async fn revision(conn: &mut SqliteConnection) -> Result<u64, LedgerError> {
    let row = sqlx::query("SELECT value FROM revision")
        .fetch_one(conn)
        .await?;
    Columns(&row).number("value")
}

/// Where changes are made.
pub(super) struct ChangeContext<'a> {
    pub(super) conn: &'a mut SqliteConnection,
    pub(super) by: &'a Actor,
    pub(super) now: UnixTime,
}

impl ChangeContext<'_> {
    /// Who did what, and the next revision.
    async fn note(&mut self, action: &str, target: &str, detail: &str) -> Result<u64, LedgerError> {
        let row = sqlx::query("UPDATE revision SET value = value + 1 RETURNING value")
            .fetch_one(&mut *self.conn)
            .await?;
        let revision = Columns(&row).number("value")?;
        sqlx::query(
            "INSERT INTO operator_action (at, actor, via, action, target, detail, revision)
             VALUES (?, ?, ?, ?, ?, ?, (SELECT value FROM revision))",
        )
        .bind(self.now.secs())
        .bind(&self.by.name)
        .bind(&self.by.via)
        .bind(action)
        .bind(target)
        .bind(detail)
        .execute(&mut *self.conn)
        .await?;
        Ok(revision)
    }

    async fn change(&mut self, change: Change) -> Result<ChangeResult, LedgerError> {
        match change {
            Change::CreateAuthority { trust_domain } => self.create_authority(trust_domain).await,
            Change::AddIssuer {
                trust_domain,
                role,
                public_key,
                location,
                path_len,
            } => {
                self.add_issuer(&trust_domain, role, &public_key, &location, path_len)
                    .await
            }
            Change::AddLocation { issuer, location } => self.add_location(&issuer, &location).await,
            Change::AddCaCertificate {
                issuer,
                der,
                path,
                anchor,
                origin,
                source,
                activate,
                retire,
            } => {
                let state = if activate {
                    IssuerState::Active
                } else {
                    IssuerState::Pending
                };
                let new = NewCaCertificate {
                    der,
                    path,
                    anchor,
                    origin,
                    source,
                    state,
                };
                self.add_ca_certificate(&issuer, new, retire).await
            }
            Change::RetireCaCertificate { certificate } => {
                self.retire_certificate(certificate).await
            }
            Change::SetIssuerState { issuer, state } => self.set_issuer_state(&issuer, state).await,
            Change::AddAnchor {
                trust_domain,
                der,
                source,
                expires_at,
            } => {
                self.add_foreign_anchor(&trust_domain, &der, &source, expires_at)
                    .await
            }
            Change::RetireAnchor {
                trust_domain,
                sha256,
            } => self.retire_anchor(&trust_domain, &sha256).await,
            // `apply` has dealt with it: it concerns every authority.
            Change::RefreshBundles { .. } => Ok(ChangeResult::default()),
        }
    }

    async fn create_authority(
        &mut self,
        trust_domain: TrustDomain,
    ) -> Result<ChangeResult, LedgerError> {
        let made = sqlx::query(
            "INSERT INTO authority (trust_domain, created_at, created_by) VALUES (?, ?, ?)
             ON CONFLICT DO NOTHING",
        )
        .bind(trust_domain.as_str())
        .bind(self.now.secs())
        .bind(&self.by.name)
        .execute(&mut *self.conn)
        .await?;
        if made.rows_affected() == 0 {
            return Err(LedgerError::Refused(format!(
                "trust domain {trust_domain} has an authority already"
            )));
        }
        Ok(ChangeResult {
            action: Some(("create-authority", trust_domain.to_string(), String::new())),
            ..ChangeResult::default()
        })
    }
}

/// A certificate that the operator gave, or why it is none.
pub(super) fn parse(what: &str, der: &[u8]) -> Result<Certificate, LedgerError> {
    Certificate::parse(der)
        .map_err(|error| LedgerError::Refused(format!("{what} cannot be used: {error}")))
}
