//! What all changes of the records share.

use super::columns::Columns;
use super::connection::{Connection, query};
use crate::clock::UnixTime;
use crate::ledger::{Actor, CaCertificateId, CaRequestId, LedgerError};
use crate::x509::{Certificate, TrustDomain};

/// The result of a change, before its bundle version.
#[derive(Default)]
pub(super) struct ChangeResult {
    /// Action, target and detail for `operator_action`; `None` when nothing was changed.
    pub(super) action: Option<(&'static str, String, String)>,
    /// The authority whose published anchors may have changed.
    pub(super) authority: Option<(i64, TrustDomain)>,
    pub(super) certificate: Option<CaCertificateId>,
    /// Fingerprints of the foreign anchors that were not published before.
    pub(super) added_anchors: Vec<[u8; 32]>,
    /// The row of a request to an upstream CA that was begun.
    pub(super) request: Option<CaRequestId>,
}

impl ChangeResult {
    /// An action that changes no bundle.
    pub(super) fn done(action: &'static str, target: String, detail: String) -> Self {
        Self {
            action: Some((action, target, detail)),
            ..Self::default()
        }
    }
}

pub(in crate::ledger) async fn revision(conn: &mut dyn Connection) -> Result<u64, LedgerError> {
    let row = query("SELECT value FROM revision").fetch_one(conn).await?;
    Columns::of(&row).number("value")
}

/// The transaction of a change, its author and its time.
pub(super) struct ChangeContext<'a> {
    pub(super) conn: &'a mut dyn Connection,
    pub(super) by: &'a Actor,
    pub(super) now: UnixTime,
}

impl ChangeContext<'_> {
    /// Logs the action and returns the next revision.
    pub(super) async fn log_action(
        &mut self,
        action: &str,
        target: &str,
        detail: &str,
    ) -> Result<u64, LedgerError> {
        let row = query("UPDATE revision SET value = value + 1 RETURNING value")
            .fetch_one(&mut *self.conn)
            .await?;
        let revision = Columns::of(&row).number("value")?;
        query(
            "INSERT INTO operator_action (at, actor, via, action, target, detail, revision)
             VALUES ($1, $2, $3, $4, $5, $6, (SELECT value FROM revision))",
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
}

/// Parses a certificate that the operator supplied.
pub(super) fn parse(what: &str, der: &[u8]) -> Result<Certificate, LedgerError> {
    Certificate::parse(der)
        .map_err(|error| LedgerError::Refused(format!("{what} cannot be used: {error}")))
}
