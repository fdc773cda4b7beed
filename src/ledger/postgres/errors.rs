//! What PostgreSQL's errors mean to an operator.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::pooler;
use crate::error_chain::error_chain;
use crate::ledger::LedgerError;

/// What a failed statement means to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The schema rejects a row.
    Constraint,
    /// Another transaction was in the way: the same one may succeed when it is made again.
    Conflict,
    /// The store cannot be used now.
    Store,
}

pub(super) fn cause(error: &Error) -> Cause {
    match error.code() {
        Some(code) if is_constraint(code) => Cause::Constraint,
        Some(code)
            if *code == SqlState::T_R_SERIALIZATION_FAILURE
                || *code == SqlState::T_R_DEADLOCK_DETECTED =>
        {
            Cause::Conflict
        }
        _ => Cause::Store,
    }
}

/// Integrity constraint violations, and data that a column cannot hold.
fn is_constraint(code: &SqlState) -> bool {
    code.code().starts_with("23") || code.code().starts_with("22")
}

impl From<Error> for LedgerError {
    fn from(error: Error) -> Self {
        let text = match error.as_db_error() {
            Some(answer) => {
                let detail = answer.detail().map(|detail| format!(" ({detail})"));
                format!(
                    "{}{} [{}]",
                    answer.message(),
                    detail.unwrap_or_default(),
                    answer.code().code()
                )
            }
            None => error_chain(&error),
        };
        match error.code() {
            Some(code) if is_constraint(code) => {
                Self::Refused(format!("the ledger's schema forbids it: {text}"))
            }
            Some(code) => match meaning(code).or_else(|| pooler::meaning(&text)) {
                Some(meaning) => Self::unavailable(format!("{meaning}: {text}")),
                None => Self::unavailable(text),
            },
            None => match transport_meaning(&text) {
                Some(meaning) => Self::unavailable(format!("{meaning}: {text}")),
                None => Self::unavailable(text),
            },
        }
    }
}

const BY_HAND: &str =
    "the ledger's schema was changed by hand: restore a backup, or undo the change";

/// What to do about an answer of the server.
fn meaning(code: &SqlState) -> Option<&'static str> {
    let known = [
        (
            SqlState::INVALID_PASSWORD,
            "the database refuses the password: correct ledger.password_file, or the role's password",
        ),
        (
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            "the database refuses this user: check the user in ledger.url, and pg_hba.conf",
        ),
        (
            SqlState::INVALID_CATALOG_NAME,
            "there is no such database: create it (CREATE DATABASE), or correct ledger.url",
        ),
        (
            SqlState::READ_ONLY_SQL_TRANSACTION,
            "the server is a read-only standby: list every server in ledger.url, so that the primary is found",
        ),
        (
            SqlState::TOO_MANY_CONNECTIONS,
            "the server has no place for another connection: raise max_connections, or lower what others use",
        ),
        (
            SqlState::DISK_FULL,
            "the database server's disk is full: free some space",
        ),
        (
            SqlState::OUT_OF_MEMORY,
            "the database server is out of memory: lower what others use, or max_connections",
        ),
        (
            SqlState::IO_ERROR,
            "the database server cannot read or write a file: see its log, and its disk",
        ),
        (
            SqlState::DATA_CORRUPTED,
            "a file of the database is damaged: restore a backup",
        ),
        (
            SqlState::INDEX_CORRUPTED,
            "an index of the database is damaged: REINDEX it, and find out why",
        ),
        (
            SqlState::LOCK_NOT_AVAILABLE,
            "another session holds a lock on the ledger: find it in pg_locks and end it",
        ),
        (
            SqlState::QUERY_CANCELED,
            "a statement took too long, or an administrator cancelled it: see in pg_stat_activity what holds \
             the database up",
        ),
        (
            SqlState::INSUFFICIENT_PRIVILEGE,
            "the role may not do this: grant it what deploy/postgres/grants.sql grants",
        ),
        (
            SqlState::UNDEFINED_TABLE,
            "a table of the ledger is missing: restore a backup, or correct ledger.url",
        ),
        (SqlState::UNDEFINED_COLUMN, BY_HAND),
        (SqlState::UNDEFINED_FUNCTION, BY_HAND),
        (SqlState::DATATYPE_MISMATCH, BY_HAND),
        (
            SqlState::CANNOT_CONNECT_NOW,
            "the database server is starting or stopping",
        ),
        (
            SqlState::ADMIN_SHUTDOWN,
            "the database server is stopping, or an administrator ended the connection",
        ),
        (SqlState::CRASH_SHUTDOWN, "the database server crashed"),
    ];
    known
        .into_iter()
        .find_map(|(known, meaning)| (*code == known).then_some(meaning))
}

/// What to do when no server has answered.
fn transport_meaning(text: &str) -> Option<&'static str> {
    let known = [
        (
            "does not allow writes",
            "every server in ledger.url is a read-only standby: add the primary",
        ),
        (
            "does not support TLS",
            "the database server has no TLS: set ssl = on there",
        ),
        (
            "not valid for",
            "the database server's certificate is for another name: write that name in ledger.url",
        ),
        (
            "UnknownIssuer",
            "the database server's certificate is of another CA: correct sslrootcert in ledger.url",
        ),
        (
            "password missing",
            "the database asks for a password: set ledger.password_file",
        ),
        (
            "connection closed",
            "the connection was ended: the log of the database server, or of the pooler, says why",
        ),
        (
            "Connection refused",
            "no database server listens there: start it, or correct ledger.url",
        ),
    ];
    known
        .into_iter()
        .find_map(|(part, meaning)| text.contains(part).then_some(meaning))
}
