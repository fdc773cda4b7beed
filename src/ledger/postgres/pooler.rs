//! What PgBouncer's own messages mean to an operator. It gives all of them one code, and an error of the
//! database behind it keeps its own.

/// What to do about a message of the pooler.
pub(super) fn meaning(text: &str) -> Option<&'static str> {
    let known = [
        (
            "not allowed in statement pooling mode",
            "PgBouncer gives each statement another connection, with which no transaction is whole: set \
             pool_mode = transaction, or session, for this database",
        ),
        (
            "max_client_conn",
            "PgBouncer has no place for another client: raise its max_client_conn",
        ),
        (
            "query_wait_timeout",
            "PgBouncer had no connection to the database to give: raise its default_pool_size, and \
             max_connections of the database where that is the limit",
        ),
        (
            "unsupported startup parameter",
            "PgBouncer refuses a parameter of the connection: add its name to ignore_startup_parameters",
        ),
        (
            "server_login_retry",
            "PgBouncer cannot log in to the database: see its log for the reason",
        ),
        (
            "cannot connect to server",
            "PgBouncer cannot reach the database: see its log for the reason",
        ),
        (
            "SASL authentication failed",
            "PgBouncer refuses the password: correct ledger.password_file, or its auth_file",
        ),
        (
            "password authentication failed",
            "the password is refused: correct ledger.password_file, or what PgBouncer compares it with",
        ),
        (
            "no such user",
            "PgBouncer does not know this user: add it to its auth_file, or set auth_query",
        ),
        (
            "no such database",
            "PgBouncer does not know this database: add it to its [databases], or correct ledger.url",
        ),
        (
            "idle_transaction_timeout",
            "PgBouncer ended a transaction: its idle_transaction_timeout must be at least 5 s",
        ),
        (
            "idle transaction timeout",
            "PgBouncer ended a transaction: its idle_transaction_timeout must be at least 5 s",
        ),
        (
            "query_timeout",
            "PgBouncer ended a statement: its query_timeout must be at least 15 s",
        ),
        (
            "query timeout",
            "PgBouncer ended a statement: its query_timeout must be at least 15 s",
        ),
    ];
    known
        .into_iter()
        .find_map(|(part, meaning)| text.contains(part).then_some(meaning))
}
