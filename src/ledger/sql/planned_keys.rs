//! Planned keys, and changes of them.

use super::change_context::{ChangeContext, ChangeResult};
use super::columns::Columns;
use super::connection::{Connection, query, query_scalar};
use super::grouped::Grouped;
use super::lookup::authority;
use crate::digest::hex;
use crate::ledger::{IssuerId, KeyLocation, LedgerError, PlannedKey, PlannedKeyChange, Role};
use crate::x509::{KeyKind, TrustDomain};

/// How many planned keys of an authority a snapshot holds. Each is of a process that died.
const NEWEST: i64 = 256;

/// The newest keys of each authority that are planned and nothing else, oldest first.
pub(super) async fn planned_keys(
    conn: &mut dyn Connection,
    only: Option<i64>,
) -> Result<Grouped<PlannedKey>, LedgerError> {
    let rows = query(
        "SELECT * FROM (
            SELECT planned_key.*,
                row_number() OVER (PARTITION BY authority ORDER BY id DESC) AS place
            FROM planned_key
            WHERE authority = coalesce($1, authority) AND issuer IS NULL AND dropped_at IS NULL
         ) AS numbered WHERE place <= $2 ORDER BY id",
    )
    .bind(only)
    .bind(NEWEST)
    .fetch_all(conn)
    .await?;
    Grouped::of(&rows, "authority", |row| {
        Ok(PlannedKey {
            role: row.parsed("role")?,
            location: location(row)?,
            kind: row.parsed("kind")?,
            path_len: row.get("path_len")?,
            planned_at: row.time("planned_at")?,
            planned_by: row.get("planned_by")?,
        })
    })
}

fn location(row: &Columns<'_>) -> Result<KeyLocation, LedgerError> {
    Ok(KeyLocation {
        token: row.get("token")?,
        token_serial: row.get("token_serial")?,
        key_id: row.get("key_id")?,
        label: row.get("label")?,
    })
}

/// A row of `planned_key`, in any state.
struct Found {
    row: i64,
    trust_domain: TrustDomain,
    role: Role,
    location: KeyLocation,
    path_len: Option<u8>,
    recorded: Option<String>,
    is_dropped: bool,
}

impl ChangeContext<'_> {
    pub(super) async fn change_planned_key(
        &mut self,
        change: PlannedKeyChange,
    ) -> Result<ChangeResult, LedgerError> {
        match change {
            PlannedKeyChange::Plan {
                trust_domain,
                role,
                location,
                kind,
                path_len,
            } => {
                self.plan_key(&trust_domain, role, &location, (kind, path_len))
                    .await
            }
            PlannedKeyChange::Record {
                token,
                planned_id,
                public_key,
                key_id,
            } => {
                let found = self.planned_key(&token, &planned_id).await?;
                self.record_planned_key(found, &public_key, key_id).await
            }
            PlannedKeyChange::Drop { token, planned_id } => {
                let found = self.planned_key(&token, &planned_id).await?;
                self.drop_planned_key(&found).await
            }
        }
    }

    async fn plan_key(
        &mut self,
        trust_domain: &TrustDomain,
        role: Role,
        location: &KeyLocation,
        (kind, path_len): (KeyKind, Option<u8>),
    ) -> Result<ChangeResult, LedgerError> {
        let authority = authority(self.conn, trust_domain).await?;
        let inserted = query(
            "INSERT INTO planned_key (authority, role, token, token_serial, key_id, label, kind,
                path_len, planned_at, planned_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
        )
        .bind(authority)
        .bind(role.as_str())
        .bind(&location.token)
        .bind(&location.token_serial)
        .bind(&location.key_id)
        .bind(&location.label)
        .bind(kind.slug())
        .bind(path_len)
        .bind(self.now.secs())
        .bind(&self.by.name)
        .execute(&mut *self.conn)
        .await?;
        let key = hex(&location.key_id);
        let token = &location.token;
        if inserted == 0 {
            return Err(LedgerError::Refused(format!(
                "a key with CKA_ID {key} on {token} is planned already"
            )));
        }
        let detail = format!("{role} of {trust_domain}, CKA_ID {key} on {token}");
        Ok(action("plan-key", trust_domain, detail))
    }

    async fn record_planned_key(
        &mut self,
        found: Found,
        public_key: &[u8],
        key_id: Vec<u8>,
    ) -> Result<ChangeResult, LedgerError> {
        let id = IssuerId::of_spki(public_key);
        let planned = hex(&found.location.key_id);
        match &found.recorded {
            Some(recorded) if recorded == id.as_str() => return Ok(ChangeResult::default()),
            Some(recorded) => {
                return Err(LedgerError::Refused(format!(
                    "the key planned as {planned} is on record as issuer {recorded}"
                )));
            }
            None if found.is_dropped => {
                return Err(LedgerError::Refused(format!(
                    "the key planned as {planned} was dropped by an operator (`key prune`): run the \
                     command again for another one"
                )));
            }
            None => {}
        }
        let location = KeyLocation {
            key_id,
            ..found.location
        };
        let (domain, role, path_len) = (&found.trust_domain, found.role, found.path_len);
        let added = self
            .add_issuer(domain, role, public_key, &location, path_len)
            .await?;
        query(
            "UPDATE planned_key SET issuer = (SELECT id FROM issuer WHERE key = $1) WHERE id = $2",
        )
        .bind(id.as_str())
        .bind(found.row)
        .execute(&mut *self.conn)
        .await?;
        Ok(added)
    }

    async fn drop_planned_key(&mut self, found: &Found) -> Result<ChangeResult, LedgerError> {
        let key = hex(&found.location.key_id);
        if let Some(recorded) = &found.recorded {
            return Err(LedgerError::Refused(format!(
                "the key planned as {key} is on record as issuer {recorded}"
            )));
        }
        if found.is_dropped {
            return Ok(ChangeResult::default());
        }
        query("UPDATE planned_key SET dropped_at = $1 WHERE id = $2")
            .bind(self.now.secs())
            .bind(found.row)
            .execute(&mut *self.conn)
            .await?;
        let detail = format!("CKA_ID {key} on {}", found.location.token);
        Ok(action("drop-planned-key", &found.trust_domain, detail))
    }

    async fn planned_key(&mut self, token: &str, key_id: &[u8]) -> Result<Found, LedgerError> {
        let row = query(
            "SELECT planned_key.*, trust_domain FROM planned_key
             JOIN authority ON authority.id = planned_key.authority
             WHERE token = $1 AND key_id = $2",
        )
        .bind(token)
        .bind(key_id)
        .fetch_optional(&mut *self.conn)
        .await?
        .ok_or_else(|| {
            let key = hex(key_id);
            LedgerError::Refused(format!("no key with CKA_ID {key} on {token} is planned"))
        })?;
        let row = Columns::of(&row);
        let issuer: Option<i64> = row.get("issuer")?;
        let dropped_at: Option<i64> = row.get("dropped_at")?;
        Ok(Found {
            row: row.get("id")?,
            trust_domain: row.parsed("trust_domain")?,
            role: row.parsed("role")?,
            location: location(&row)?,
            path_len: row.get("path_len")?,
            recorded: match issuer {
                Some(issuer) => self.issuer_key(issuer).await?,
                None => None,
            },
            is_dropped: dropped_at.is_some(),
        })
    }

    async fn issuer_key(&mut self, row: i64) -> Result<Option<String>, LedgerError> {
        query_scalar("SELECT key FROM issuer WHERE id = $1")
            .bind(row)
            .fetch_optional(&mut *self.conn)
            .await
    }
}

fn action(word: &'static str, domain: &TrustDomain, detail: String) -> ChangeResult {
    ChangeResult {
        action: Some((word, domain.to_string(), detail)),
        ..ChangeResult::default()
    }
}
