//! Searches for certificates, newest first.

use tokio_postgres::types::{ToSql, Type};

use super::session::Session;
use crate::clock::UnixTime;
use crate::ledger::sql::{certificate_row, kind_code, state_code};
use crate::ledger::{CertificateRow, Filter, IssuerId, LedgerError, State};
use crate::x509::Serial;

const COLUMNS: &str = "i.*, issuer.key AS issuer_key, epoch.instance, epoch.boot,
    c.state, c.reason, c.concluded_at, c.signature";
const JOINS: &str =
    "JOIN issuer ON issuer.id = i.issuer JOIN authority ON authority.id = issuer.authority
    JOIN epoch ON epoch.id = i.epoch";

/// The caller holds a read transaction.
pub(super) async fn certificates(
    session: &Session,
    filter: &Filter,
) -> Result<Vec<CertificateRow>, LedgerError> {
    let mut query = CertificateQuery::new();
    if let Some(serial) = &filter.serial {
        query.and("i.serial =", serial.as_bytes().to_vec(), Type::BYTEA);
    }
    if let Some(kind) = filter.kind {
        query.and("i.kind =", kind_code(kind), Type::INT8);
    }
    let mut from = "intent i LEFT JOIN conclusion c ON c.intent = i.id";
    match filter.state {
        None => {}
        Some(State::Pending) => query
            .conditions
            .push_str(" AND c.intent IS NULL AND i.id >= (SELECT below FROM settled)"),
        Some(state) => {
            if state != State::Issued {
                // With this it is the index of the few that were not issued.
                query.conditions.push_str(" AND c.state <> 1");
            }
            from = "conclusion c JOIN intent i ON i.id = c.intent";
            query.and("c.state =", state_code(state), Type::INT8);
        }
    }
    if let Some(issuer) = &filter.issuer {
        query.and("issuer.key =", issuer.as_str().to_owned(), Type::TEXT);
    }
    if let Some(domain) = &filter.trust_domain {
        query.and(
            "authority.trust_domain =",
            domain.as_str().to_owned(),
            Type::TEXT,
        );
    }
    let times = [
        ("i.recorded_at >=", filter.recorded_after),
        ("i.recorded_at <", filter.recorded_before),
        ("i.not_after >=", filter.expires_after),
        ("i.not_after <", filter.expires_before),
    ];
    for (condition, time) in times {
        if let Some(time) = time.map(UnixTime::secs) {
            query.and(condition, time, Type::INT8);
        }
    }
    if let Some(before) = filter.before_id {
        query.and("i.id <", before.get(), Type::INT8);
    }
    if let Some(subject) = &filter.subject {
        query.subject(subject);
    }
    query.fetch(session, from, i64::from(filter.limit)).await
}

/// The newest certificate with a serial, of one issuer or of any.
pub(super) async fn by_serial(
    session: &Session,
    issuer: Option<&IssuerId>,
    serial: &Serial,
) -> Result<Option<CertificateRow>, LedgerError> {
    let filter = Filter {
        serial: Some(*serial),
        issuer: issuer.cloned(),
        limit: 1,
        ..Filter::default()
    };
    Ok(certificates(session, &filter).await?.into_iter().next())
}

/// A SELECT under construction: its SQL is fixed text, every value is bound.
struct CertificateQuery {
    conditions: String,
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl CertificateQuery {
    fn new() -> Self {
        Self {
            conditions: "true".to_owned(),
            values: Vec::new(),
        }
    }

    /// The subject itself, the first of several names, or a prefix with a trailing `*`.
    fn subject(&mut self, subject: &str) {
        match subject.strip_suffix('*') {
            Some(prefix) => {
                self.and("i.subject >=", prefix.to_owned(), Type::TEXT);
                // In UTF-8, nothing sorts after the last code point.
                self.and("i.subject <", format!("{prefix}\u{10ffff}"), Type::TEXT);
            }
            None => {
                self.and("i.subject >=", subject.to_owned(), Type::TEXT);
                // '!' follows the space, which separates names.
                self.and("i.subject <", format!("{subject}!"), Type::TEXT);
                let next = i32::try_from(subject.chars().count())
                    .unwrap_or(i32::MAX)
                    .saturating_add(1);
                self.and("substr(i.subject, ", next, Type::INT4);
                self.conditions.push_str(", 1) IN ('', ' ')");
            }
        }
    }

    fn and(
        &mut self,
        condition: &'static str,
        value: impl ToSql + Sync + Send + 'static,
        ty: Type,
    ) {
        self.values.push((Box::new(value), ty));
        self.conditions
            .push_str(&format!(" AND {condition} ${}", self.values.len()));
    }

    async fn fetch(
        mut self,
        session: &Session,
        from: &'static str,
        limit: i64,
    ) -> Result<Vec<CertificateRow>, LedgerError> {
        self.values.push((Box::new(limit), Type::INT8));
        let sql = format!(
            "SELECT {COLUMNS} FROM {from} {JOINS} WHERE {} ORDER BY i.id DESC LIMIT ${}",
            self.conditions,
            self.values.len()
        );
        let values: Vec<(&(dyn ToSql + Sync), Type)> = self
            .values
            .iter()
            .map(|(value, ty)| (value.as_ref() as &(dyn ToSql + Sync), ty.clone()))
            .collect();
        let rows = session.query(&sql, &values).await?;
        rows.iter().map(|row| certificate_row(row)).collect()
    }
}
