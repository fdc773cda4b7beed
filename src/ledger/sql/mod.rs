//! What SQLite and PostgreSQL share: the records and their changes, epochs, the rules of intents and
//! outcomes, batches. What differs is how a connection is made, how many rows are inserted at once,
//! and how certificates are searched.

mod admission;
mod anchors;
mod authorities;
mod batch;
mod bundles;
mod ca_request_rows;
mod ca_requests;
mod certificate_row;
mod change;
mod change_context;
mod check;
mod columns;
mod connection;
mod epochs;
mod grouped;
mod high_water;
mod issuers;
mod known;
mod live_certificates;
mod lookup;
mod outcomes;
mod planned_keys;
mod presence;
mod rollouts;
mod rotations;
mod row;
mod snapshot;
mod work_leases;

pub(super) use admission::{IntentRow, admit_all, settle_conflicts};
pub(super) use batch::{Batch, BatchError, BatchResults, BatchStore, Reply, write_batch};
pub(super) use bundles::bundle;
pub(super) use certificate_row::certificate_row;
pub(super) use change::apply;
pub(super) use change_context::revision;
pub(super) use check::{check, difference};
pub(super) use columns::{Columns, algorithm_code, kind_code, method_code, state_code};
pub(super) use connection::{Connection, Query, Value, query, query_scalar};
pub(super) use epochs::{OpenIntents, boot, reconcile, register, renew, reopen};
pub(super) use high_water::{behind, high_water, identity};
pub(super) use known::Known;
pub(super) use live_certificates::{live_certificates, own_keys};
pub(super) use lookup::authority;
pub(super) use outcomes::{conclusions_of, outcome_columns};
pub(super) use presence::{gone_clusters, live_servers, report_server, report_watchers, watchers};
pub(super) use rollouts::{newest as newest_rollouts, record as record_rollout};
pub(super) use rotations::rotations;
pub(super) use row::{Row, RowSource, damaged};
pub(super) use snapshot::{authority_record, snapshot};
pub(super) use work_leases::{Found, claim, give_up, look, require, work_leases};
