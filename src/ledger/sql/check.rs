//! What is checked in every store.

use super::columns::Columns;
use super::connection::{Connection, query, query_scalar};
use crate::ledger::{CertificateRow, Kind, LedgerError, State};
use crate::x509::Certificate;

/// What was counted and found.
pub(in crate::ledger) struct Checked {
    pub(in crate::ledger) intents: u64,
    pub(in crate::ledger) conclusions: u64,
    pub(in crate::ledger) authorities: u64,
    pub(in crate::ledger) revision: u64,
    pub(in crate::ledger) problems: Vec<String>,
}

/// The invariants that are cheap to check. The caller holds a read transaction.
pub(in crate::ledger) async fn check(conn: &mut dyn Connection) -> Result<Checked, LedgerError> {
    let mut problems = Vec::new();
    let invariants = [
        (
            "SELECT count(*) AS n FROM (SELECT 1 FROM intent WHERE serial IS NOT NULL
                GROUP BY issuer, serial HAVING count(*) > 1) AS repeated",
            "serials were used more than once by one issuer",
        ),
        // A leaf's notAfter against its issuer's certificate.
        (
            "SELECT count(*) AS n FROM (SELECT 1 FROM intent
                JOIN ca_certificate ON ca_certificate.id = intent.ca_certificate
                WHERE intent.not_after > ca_certificate.not_after LIMIT 1000) AS late",
            "certificates outlive their issuer's",
        ),
        (
            "SELECT count(*) AS n FROM bundle WHERE NOT EXISTS
                (SELECT 1 FROM bundle_anchor WHERE bundle_anchor.bundle = bundle.id)",
            "bundle versions are empty",
        ),
    ];
    for (count_violations, problem) in invariants {
        let count: i64 = query_scalar(count_violations).fetch_one(&mut *conn).await?;
        if count > 0 {
            problems.push(format!("{count} {problem}"));
        }
    }
    let row = query(
        "SELECT (SELECT count(*) FROM intent) AS intents,
            (SELECT count(*) FROM conclusion) AS conclusions,
            (SELECT count(*) FROM authority WHERE removed_at IS NULL) AS authorities,
            (SELECT value FROM revision) AS revision",
    )
    .fetch_one(conn)
    .await?;
    let row = Columns::of(&row);
    Ok(Checked {
        intents: row.number("intents")?,
        conclusions: row.number("conclusions")?,
        authorities: row.number("authorities")?,
        revision: row.number("revision")?,
        problems,
    })
}

/// How a row differs from its certificate.
pub(in crate::ledger) fn difference(row: &CertificateRow) -> Option<String> {
    if row.state != State::Issued || row.kind == Kind::Request {
        return None;
    }
    let id = row.id;
    let certificate = match row.der() {
        Ok(der) => Certificate::parse(der?),
        Err(error) => return Some(error.to_string()),
    };
    let certificate = match certificate {
        Ok(certificate) => certificate,
        Err(error) => {
            return Some(format!(
                "the certificate of intent {id} does not parse: {error}"
            ));
        }
    };
    let is_same = row.serial.as_ref() == Some(certificate.serial())
        && row.not_before == Some(certificate.not_before())
        && row.not_after == Some(certificate.not_after())
        && row.spki_sha256 == certificate.public_key().fingerprint();
    (!is_same).then(|| format!("intent {id} differs from its certificate"))
}
