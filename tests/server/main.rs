//! The request path from end to end: the real binary on a real SoftHSM token with its real ledger, and
//! clients over real TLS.
//!
//! Every server logs at `trace`, and every test ends with a search of its log for secrets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod access_matrix;
mod addresses;
mod admin;
mod admin_listener;
mod adopted;
mod authorities;
mod bundles;
mod ceremonies;
mod check_files;
mod compromised;
mod concurrent_calls;
mod concurrent_changes;
mod connections;
mod enterprise;
mod existing_keys;
mod fair_shares;
mod faulty_signatures;
mod federation;
mod handshakes;
mod hostile_api_server;
mod http_routes;
mod idempotency;
mod issuance;
mod istio;
mod kryoptic;
mod ledger_moved;
mod ledger_of_root;
mod ledger_older;
mod lifecycle;
mod limits;
mod listener_files;
mod lost_token;
mod monitoring;
mod mtls;
mod name_constraints;
mod nss;
mod open_files;
mod outage;
mod planned_keys;
mod postgres;
mod postgres_changes;
mod postgres_faults;
mod postgres_stopped;
mod refusals;
mod reserved_keys;
mod resumption;
mod rotation_gates;
mod rotation_load;
mod rotation_room;
mod rotation_servers;
mod rotation_upstream;
mod same_keys;
mod sds;
mod serving;
mod strangers;
mod token_failures;
mod token_marks;
mod tpm;
mod watchers;
mod worthless_credentials;
