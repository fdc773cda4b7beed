//! The tables of a ledger, in the order in which rows refer to each other, with the statements that read
//! and write them. Both stores have the same columns.

use std::sync::LazyLock;

use crate::ledger::LedgerError;
use crate::ledger::sql::{MARK, Row, Value};

/// How many rows a statement inserts.
pub(super) const ROWS: usize = 100;
/// How many rows are read at once, and inserted in one transaction.
pub(super) const PAGE: usize = 1000;

/// Name, key, and columns with their types: `i` a number, `t` text, `b` bytes.
const TABLES: &[(&str, &str, &str)] = &[
    (
        "authority",
        "id",
        "id:i trust_domain:t created_at:i created_by:t removed_at:i removed_by:t",
    ),
    (
        "issuer",
        "id",
        "id:i key:t authority:i role:t state:t public_key:b path_len:i created_at:i created_by:t",
    ),
    // SQLite numbers the rows of every table.
    (
        "issuer_location",
        "rowid",
        "rowid:i issuer:i token:t token_serial:t key_id:b label:t",
    ),
    (
        "ca_certificate",
        "id",
        "id:i issuer:i der:b sha256:b state:t anchor:b not_before:i not_after:i added_at:i added_by:t",
    ),
    (
        "ca_path",
        "ca_certificate position",
        "ca_certificate:i position:i der:b",
    ),
    (
        "anchor",
        "id",
        "id:i authority:i sha256:b der:b origin:t source:t state:t expires_at:i added_at:i added_by:t \
         retired_at:i",
    ),
    (
        "bundle",
        "id",
        "id:i authority:i sequence:i digest:b created_at:i",
    ),
    (
        "bundle_anchor",
        "bundle position",
        "bundle:i position:i der:b",
    ),
    (
        "operator_action",
        "id",
        "id:i at:i actor:t via:t action:t target:t detail:t revision:i",
    ),
    ("instance", "name", "name:t boot:i lease:i lease_until:i"),
    ("epoch", "id", "id:i instance:t boot:i registered_at:i"),
    (
        "intent",
        "id",
        "id:i kind:i issuer:i ca_certificate:i serial:b algorithm:i not_before:i not_after:i subject:t \
         profile:t spki_sha256:b bundle_digest:b caller_trust_domain:t caller:t method:i method_detail:t \
         cluster:t pod:t node:t token_authenticated_at:i request_id:t epoch:i origin:t recorded_at:i tbs:b",
    ),
    (
        "conclusion",
        "intent",
        "intent:i state:i signature:b reason:t concluded_at:i",
    ),
    (
        "bundle_delivery",
        "cluster target",
        "cluster:t target:t bundle:i objects:i delivered_at:i delivered_by:t",
    ),
    (
        "ca_request",
        "id",
        "id:i authority:i upstream:t token:t token_serial:t key_id:b label:t kind:t path_len:i issuer:i \
         state:t csr:b reference:t problem:t attempts:i attempt_by:t next_attempt_at:i created_at:i \
         created_by:t changed_at:i ended_at:i",
    ),
    (
        "ca_answer",
        "request position",
        "request:i position:i der:b",
    ),
    (
        "bundle_lowest_sequence",
        "trust_domain",
        "trust_domain:t sequence:i",
    ),
    (
        "rotation",
        "id",
        "id:i authority:i kind:t phase:t backwards:i old_issuer:i old_anchor:b new_issuer:i new_anchor:b \
         key_kind:t token:t started_at:i started_by:t changed_at:i ended_at:i",
    ),
    (
        "rotation_step",
        "id",
        "id:i rotation:i phase:t backwards:i at:i by:t forced:t",
    ),
    (
        "planned_key",
        "id",
        "id:i authority:i role:t token:t token_serial:t key_id:b label:t kind:t path_len:i issuer:i \
         dropped_at:i planned_at:i planned_by:t",
    ),
    (
        "server_report",
        "instance authority",
        "instance:t authority:i boot:i sequence:i digest:b issuer:t details:t reported_at:i",
    ),
    (
        "bundle_watcher",
        "authority cluster name",
        "authority:i cluster:t name:t sequence:i digest:b details:t reported_at:i instance:t",
    ),
    (
        "gone_cluster",
        "cluster",
        "cluster:t reason:t declared_at:i declared_by:t returned_at:i",
    ),
    (
        "work_lease",
        "work",
        "work:t holder:t boot:i fence:i since:i",
    ),
];

/// What is not copied as rows: how far the records have come is written at the end, the rest is derived, or
/// says what a store is.
const OTHERS: &[&str] = &[
    "revision",
    "settled",
    "span",
    "span_subject",
    "rootbridge_schema",
    "_sqlx_migrations",
    MARK,
];

#[derive(Clone, Copy, Debug)]
enum Type {
    Int,
    Text,
    Bytes,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    columns: Vec<(&'static str, Type)>,
    /// Positions in `columns`.
    key: Vec<usize>,
    pub(super) count: String,
    /// The key of the last row.
    pub(super) last: String,
    pub(super) first_page: String,
    /// What follows a key.
    pub(super) next_page: String,
    pub(super) insert_one: String,
    /// [`ROWS`] of them.
    pub(super) insert_many: String,
}

/// Statements are fixed text; values are bound.
pub(super) static ALL: LazyLock<Vec<Table>> =
    LazyLock::new(|| TABLES.iter().map(|each| Table::new(*each)).collect());

impl Table {
    fn new((name, key, columns): (&'static str, &'static str, &'static str)) -> Self {
        let columns: Vec<(&str, Type)> = columns
            .split(' ')
            .filter_map(|column| column.split_once(':'))
            .map(|(column, ty)| match ty {
                "i" => (column, Type::Int),
                "t" => (column, Type::Text),
                _ => (column, Type::Bytes),
            })
            .collect();
        let key: Vec<usize> = key
            .split(' ')
            .filter_map(|key| columns.iter().position(|(column, _)| *column == key))
            .collect();
        let quoted = |name: &str| format!("\"{name}\"");
        let list: Vec<String> = columns.iter().map(|(column, _)| quoted(column)).collect();
        let keys: Vec<String> = key.iter().filter_map(|at| list.get(*at).cloned()).collect();
        let (list, order) = (list.join(", "), keys.join(", "));
        let backwards: Vec<String> = keys.iter().map(|key| format!("{key} DESC")).collect();
        let backwards = backwards.join(", ");
        let values: Vec<String> = (1..=keys.len()).map(|n| format!("${n}")).collect();
        let row = |n: usize| {
            let first = n * columns.len() + 1;
            let values: Vec<String> = (first..first + columns.len())
                .map(|n| format!("${n}"))
                .collect();
            format!("({})", values.join(", "))
        };
        let many: Vec<String> = (0..ROWS).map(row).collect();
        let insert = format!("INSERT INTO {} ({list}) VALUES", quoted(name));
        let select = format!("SELECT {list} FROM {}", quoted(name));
        Self {
            name,
            count: format!("SELECT count(*) AS n FROM {}", quoted(name)),
            last: format!(
                "SELECT {order} FROM {} ORDER BY {backwards} LIMIT 1",
                quoted(name)
            ),
            first_page: format!("{select} ORDER BY {order} LIMIT {PAGE}"),
            next_page: format!(
                "{select} WHERE ({order}) > ({}) ORDER BY {order} LIMIT {PAGE}",
                values.join(", ")
            ),
            insert_one: format!("{insert} {}", row(0)),
            insert_many: format!("{insert} {}", many.join(", ")),
            columns,
            key,
        }
    }

    /// Every value of a row, in the order of the columns.
    pub(super) fn values(&self, row: &Row) -> Result<Vec<Value<'static>>, LedgerError> {
        let columns = self.columns.iter();
        columns.map(|(name, ty)| value(row, name, *ty)).collect()
    }

    /// The key of a row that has at least the key's columns.
    pub(super) fn key(&self, row: &Row) -> Result<Vec<Value<'static>>, LedgerError> {
        let columns = self.key.iter().filter_map(|at| self.columns.get(*at));
        columns.map(|(name, ty)| value(row, name, *ty)).collect()
    }
}

fn value(row: &Row, name: &str, ty: Type) -> Result<Value<'static>, LedgerError> {
    Ok(match ty {
        Type::Int => row.int(name)?.into(),
        Type::Text => row.text(name)?.map(str::to_owned).into(),
        Type::Bytes => row.bytes(name)?.map(<[u8]>::to_vec).into(),
    })
}

/// The columns (`table.column`) that a store has and a copy would not carry over, or the other way round.
pub(super) fn unknown(present: &[String]) -> Vec<String> {
    let mut wanted: Vec<String> = ALL
        .iter()
        .flat_map(|table| {
            let columns = table.columns.iter();
            columns.map(|(column, _)| format!("{}.{column}", table.name))
        })
        .filter(|column| !column.ends_with(".rowid"))
        .collect();
    let mut extra: Vec<String> = Vec::new();
    for column in present {
        let table = column.split('.').next().unwrap_or_default();
        if OTHERS.contains(&table) || column.ends_with(".rowid") {
            continue;
        }
        match wanted.iter().position(|each| each == column) {
            Some(at) => drop(wanted.swap_remove(at)),
            None => extra.push(column.clone()),
        }
    }
    extra.extend(wanted);
    extra
}
