//! Searches for certificates, newest first, with the schema's indexes.
//!
//! A search by serial, or for failed or unknown intents, has its own index. Every other search goes
//! through the block range index from the newest span back, skips spans that cannot match, and
//! searches the others by the subject's index or row by row. A span is a block of 4096 consecutive
//! intents; it is sealed once it is complete and the subjects in it are indexed, and settled once
//! every intent in it is concluded too.

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, SqliteConnection};

use super::writer_state::{SPAN_BITS, issuer_bit};
use crate::clock::UnixTime;
use crate::ledger::sql::{certificate_row, kind_code, state_code};
use crate::ledger::{CertificateRow, Filter, IssuerId, LedgerError, State};
use crate::x509::Serial;

const COLUMNS: &str = "i.*, issuer.key AS issuer_key, epoch.instance, epoch.boot,
    c.state, c.reason, c.concluded_at, c.signature";
/// SQLite joins in the written order with CROSS JOIN.
const JOINS: &str =
    "CROSS JOIN issuer ON issuer.id = i.issuer CROSS JOIN epoch ON epoch.id = i.epoch";

/// The caller holds a read transaction.
pub(super) async fn certificates(
    conn: &mut SqliteConnection,
    filter: &Filter,
) -> Result<Vec<CertificateRow>, LedgerError> {
    let Some(issuers) = issuers(conn, filter).await? else {
        return Ok(Vec::new());
    };
    let from = match filter.state {
        Some(State::Failed | State::Unknown) => {
            "conclusion c INDEXED BY conclusion_not_issued CROSS JOIN intent i ON i.id = c.intent"
        }
        _ if filter.serial.is_some() => {
            "issuer x CROSS JOIN intent i ON i.issuer = x.id LEFT JOIN conclusion c ON c.intent = i.id"
        }
        _ => return scan_spans(conn, filter, &issuers).await,
    };
    let mut query = CertificateQuery::new(filter, &issuers);
    if matches!(filter.state, Some(State::Failed | State::Unknown)) {
        query.and("c.state <> 1");
    }
    query.subject(filter, SubjectColumn::Intent);
    query.fetch(conn, from, i64::from(filter.limit)).await
}

async fn scan_spans(
    conn: &mut SqliteConnection,
    filter: &Filter,
    issuers: &[i64],
) -> Result<Vec<CertificateRow>, LedgerError> {
    let mut found = Vec::new();
    let mut below = i64::MAX;
    // Small steps first: most searches are for the newest rows.
    let mut step = 4;
    loop {
        let remaining = i64::from(filter.limit) - i64::try_from(found.len()).unwrap_or(i64::MAX);
        if remaining <= 0 {
            return Ok(found);
        }
        let spans = spans(conn, filter, issuers, below, step).await?;
        let (Some(newest), Some(oldest)) = (spans.first(), spans.last()) else {
            return Ok(found);
        };
        below = oldest.number;
        let list: Vec<_> = spans.iter().map(|span| span.number.to_string()).collect();
        let list = format!("[{}]", list.join(","));
        let mut query = CertificateQuery::new(filter, issuers);
        let from = if filter.subject.is_some() && newest.sealed {
            query.and_value("s.span IN (SELECT value FROM json_each(?))", list);
            "span_subject s CROSS JOIN intent i ON i.id = s.intent
             LEFT JOIN conclusion c ON c.intent = i.id"
        } else {
            // The list excludes spans in between that were skipped.
            query.and_value("i.id >= ?", oldest.number << SPAN_BITS);
            query.and_value("i.id < ?", (newest.number + 1) << SPAN_BITS);
            query.and_value("i.id >> 12 IN (SELECT value FROM json_each(?))", list);
            "intent i NOT INDEXED LEFT JOIN conclusion c ON c.intent = i.id"
        };
        query.subject(
            filter,
            if from.starts_with("span") {
                SubjectColumn::Span
            } else {
                SubjectColumn::Intent
            },
        );
        found.extend(query.fetch(conn, from, remaining).await?);
        step = (step * 2).min(256);
    }
}

/// A span that may match.
struct Span {
    number: i64,
    sealed: bool,
}

/// The next matching spans below `below`, newest first, all of them sealed or none.
async fn spans(
    conn: &mut SqliteConnection,
    filter: &Filter,
    issuers: &[i64],
    below: i64,
    limit: i64,
) -> Result<Vec<Span>, LedgerError> {
    let issuer_bits = issuers
        .iter()
        .fold(0, |bits, issuer| bits | issuer_bit(*issuer));
    let newest = filter
        .before_id
        .map_or(i64::MAX, |id| (id.get() - 1) >> SPAN_BITS);
    let after = |time: Option<UnixTime>| time.map_or(i64::MIN, UnixTime::secs);
    let before = |time: Option<UnixTime>| time.map_or(i64::MAX, UnixTime::secs);
    let filters_expiry = filter.expires_after.is_some() || filter.expires_before.is_some();
    let rows: Vec<(i64, bool)> = sqlx::query_as(
        "SELECT span, sealed FROM span
         WHERE span < ?1 AND span <= ?2 AND (NOT ?3 OR settled = 0)
            AND recorded_max >= ?4 AND recorded_min < ?5
            AND (NOT ?6 OR (expires_max >= ?7 AND expires_min < ?8))
            AND (?9 = 0 OR issuers & ?9 <> 0)
         ORDER BY span DESC LIMIT ?10",
    )
    .bind(below)
    .bind(newest)
    .bind(filter.state == Some(State::Pending))
    .bind(after(filter.recorded_after))
    .bind(before(filter.recorded_before))
    .bind(filters_expiry)
    .bind(after(filter.expires_after))
    .bind(before(filter.expires_before))
    .bind(issuer_bits)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let mut spans: Vec<_> = rows
        .into_iter()
        .map(|(number, sealed)| Span { number, sealed })
        .collect();
    let sealed = spans.first().is_some_and(|span| span.sealed);
    let leading = spans
        .iter()
        .take_while(|span| span.sealed == sealed)
        .count();
    spans.truncate(leading);
    Ok(spans)
}

/// The row ids of the filter's issuers; empty for any issuer, `None` if no issuer matches.
async fn issuers(
    conn: &mut SqliteConnection,
    filter: &Filter,
) -> Result<Option<Vec<i64>>, LedgerError> {
    if filter.issuer.is_none() && filter.trust_domain.is_none() {
        return Ok(Some(Vec::new()));
    }
    let rows: Vec<i64> = sqlx::query_scalar(
        "SELECT issuer.id FROM issuer JOIN authority ON authority.id = authority
         WHERE (?1 IS NULL OR key = ?1) AND (?2 IS NULL OR trust_domain = ?2)",
    )
    .bind(filter.issuer.as_ref().map(IssuerId::as_str))
    .bind(filter.trust_domain.as_ref().map(|domain| domain.as_str()))
    .fetch_all(conn)
    .await?;
    Ok(Some(rows).filter(|rows| !rows.is_empty()))
}

/// The table whose subject column a search compares.
#[derive(Clone, Copy)]
enum SubjectColumn {
    Span,
    Intent,
}

/// A SELECT under construction: its SQL is fixed text, every value is bound.
struct CertificateQuery {
    conditions: String,
    values: SqliteArguments,
}

impl CertificateQuery {
    /// The filter's conditions, except for the subject.
    fn new(filter: &Filter, issuers: &[i64]) -> Self {
        let mut this = Self {
            conditions: "1".to_owned(),
            values: SqliteArguments::default(),
        };
        if let Some(serial) = &filter.serial {
            this.and_value("i.serial = ?", serial.as_bytes());
        }
        if let Some(kind) = filter.kind {
            this.and_value("i.kind = ?", kind_code(kind));
        }
        match filter.state {
            None => {}
            Some(State::Pending) => this.and("c.intent IS NULL"),
            Some(state) => this.and_value("c.state = ?", state_code(state)),
        }
        if !issuers.is_empty() {
            let rows: Vec<_> = issuers.iter().map(ToString::to_string).collect();
            let rows = format!("[{}]", rows.join(","));
            this.and_value("i.issuer IN (SELECT value FROM json_each(?))", rows);
        }
        let times = [
            ("i.recorded_at >= ?", filter.recorded_after),
            ("i.recorded_at < ?", filter.recorded_before),
            ("i.not_after >= ?", filter.expires_after),
            ("i.not_after < ?", filter.expires_before),
        ];
        for (condition, time) in times {
            if let Some(time) = time {
                this.and_value(condition, time.secs());
            }
        }
        if let Some(before) = filter.before_id {
            this.and_value("i.id < ?", before.get());
        }
        this
    }

    /// The subject itself, the first of several names, or a prefix with a trailing `*`.
    fn subject(&mut self, filter: &Filter, by: SubjectColumn) {
        let Some(subject) = &filter.subject else {
            return;
        };
        let (from, to) = match by {
            SubjectColumn::Span => ("s.subject >= ?", "s.subject < ?"),
            SubjectColumn::Intent => ("i.subject >= ?", "i.subject < ?"),
        };
        match subject.strip_suffix('*') {
            Some(prefix) => {
                self.and_value(from, prefix);
                // In UTF-8, nothing sorts after the last code point.
                self.and_value(to, format!("{prefix}\u{10ffff}"));
            }
            None => {
                self.and_value(from, subject.as_str());
                // '!' follows the space, which separates names.
                self.and_value(to, format!("{subject}!"));
                let length = i64::try_from(subject.chars().count()).unwrap_or(i64::MAX);
                self.and_value("substr(i.subject, 1 + ?, 1) IN ('', ' ')", length);
            }
        }
    }

    fn and(&mut self, condition: &'static str) {
        self.conditions.push_str(" AND ");
        self.conditions.push_str(condition);
    }

    fn and_value<'t, T>(&mut self, condition: &'static str, value: T)
    where
        T: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        // Text, blobs and numbers always encode. If one did not, it would be NULL, and no row
        // matches a comparison with NULL.
        let _ = self.values.add(value);
        self.and(condition);
    }

    async fn fetch(
        mut self,
        conn: &mut SqliteConnection,
        from: &'static str,
        limit: i64,
    ) -> Result<Vec<CertificateRow>, LedgerError> {
        let _ = self.values.add(limit);
        let sql = format!(
            "SELECT {COLUMNS} FROM {from} {JOINS} WHERE {} ORDER BY i.id DESC LIMIT ?",
            self.conditions
        );
        let rows = sqlx::query_with(AssertSqlSafe(sql), self.values)
            .fetch_all(conn)
            .await?;
        rows.iter().map(|row| certificate_row(row)).collect()
    }
}

/// The newest certificate with a serial, of one issuer or of any.
pub(super) async fn by_serial(
    conn: &mut SqliteConnection,
    issuer: Option<&IssuerId>,
    serial: &Serial,
) -> Result<Option<CertificateRow>, LedgerError> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM issuer x CROSS JOIN intent i ON i.issuer = x.id
         LEFT JOIN conclusion c ON c.intent = i.id {JOINS}
         WHERE (?1 IS NULL OR x.key = ?1) AND i.serial = ?2 ORDER BY i.id DESC LIMIT 1"
    )))
    .bind(issuer.map(IssuerId::as_str))
    .bind(serial.as_bytes())
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(|row| certificate_row(row)).transpose()
}

pub(super) async fn newest(
    conn: &mut SqliteConnection,
    limit: i64,
) -> Result<Vec<CertificateRow>, LedgerError> {
    let from = "intent i LEFT JOIN conclusion c ON c.intent = i.id";
    CertificateQuery::new(&Filter::default(), &[])
        .fetch(conn, from, limit)
        .await
}
