//! The check of the store.

use sqlx::SqliteConnection;

use super::columns::Columns;
use super::open::newest_version;
use super::query::newest;
use crate::ledger::{CertificateRow, CheckReport, Kind, LedgerError, State};
use crate::x509::Certificate;

/// How many of the newest rows are compared with their certificates.
const SAMPLE: i64 = 1000;

/// The caller holds a read transaction.
pub(super) async fn check(conn: &mut SqliteConnection) -> Result<CheckReport, LedgerError> {
    let mut problems: Vec<String> = sqlx::query_scalar("PRAGMA quick_check(10)")
        .fetch_all(&mut *conn)
        .await?;
    problems.retain(|line| line != "ok");
    let invariants = [
        // Every reference, such as that of an issuance to its issuer.
        (
            "SELECT count(*) FROM pragma_foreign_key_check",
            "rows refer to rows that do not exist",
        ),
        (
            "SELECT count(*) FROM (SELECT 1 FROM intent WHERE serial IS NOT NULL
                GROUP BY issuer, serial HAVING count(*) > 1)",
            "serials were used more than once by one issuer",
        ),
        // A leaf's notAfter against its issuer's certificate.
        (
            "SELECT count(*) FROM (SELECT 1 FROM intent
                JOIN ca_certificate ON ca_certificate.id = intent.ca_certificate
                WHERE intent.not_after > ca_certificate.not_after LIMIT 1000)",
            "certificates outlive their issuer's",
        ),
        (
            "SELECT count(*) FROM bundle WHERE NOT EXISTS
                (SELECT 1 FROM bundle_anchor WHERE bundle_anchor.bundle = bundle.id)",
            "bundle versions are empty",
        ),
    ];
    for (count_violations, problem) in invariants {
        let count: i64 = sqlx::query_scalar(count_violations)
            .fetch_one(&mut *conn)
            .await?;
        if count > 0 {
            problems.push(format!("{count} {problem}"));
        }
    }
    for row in newest(conn, SAMPLE).await? {
        problems.extend(difference(&row));
    }
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM intent) AS intents,
            (SELECT count(*) FROM conclusion) AS conclusions,
            (SELECT count(*) FROM authority) AS authorities,
            (SELECT value FROM revision) AS revision,
            (SELECT max(version) FROM _sqlx_migrations) AS version",
    )
    .fetch_one(conn)
    .await?;
    let row = Columns(&row);
    let schema = row.number("version")?;
    if schema != newest_version() {
        problems.push(format!(
            "schema version {schema} is not {}",
            newest_version()
        ));
    }
    Ok(CheckReport {
        schema,
        intents: row.number("intents")?,
        conclusions: row.number("conclusions")?,
        authorities: row.number("authorities")?,
        revision: row.number("revision")?,
        problems,
    })
}

/// How a row differs from its certificate.
fn difference(row: &CertificateRow) -> Option<String> {
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
