//! Rootbridge: a mesh CA whose issuing key stays in a PKCS#11 token.
//!
//! The request path: mesh API, authenticate, authorize, admit the CSR, record the intent, sign in the
//! HSM, verify the certificate, conclude the record, respond. `docs/architecture.md` describes the
//! layers; `tests/architecture` verifies that modules import only from lower ones.

pub mod backoff;
pub mod clock;
pub mod config_issue;
pub mod digest;
pub mod error_chain;
pub mod fair_queue;
pub mod file_access;
pub mod log_limit;
pub mod private_file;
pub mod rate_limit;
pub mod x509;

pub mod authn;
pub mod hsm;
pub mod ledger;
pub mod policy;

pub mod cluster;
pub mod issuance;
pub mod trust;

pub mod federation;
pub mod net;
pub mod rotation;
pub mod upstream;

pub mod admin;
pub mod controllers;
pub mod mesh;

pub mod app;
pub mod cli;
pub mod config;
