//! Rootbridge: a mesh CA whose issuing key lives in a PKCS#11 token.
//!
//! A request for a certificate walks straight down the house, once, and comes straight back:
//! mesh API, authenticate, authorize, admit the CSR, record the intent, sign in the HSM, check,
//! conclude the record, answer. `docs/architecture.md` draws the rooms; `tests/architecture`
//! keeps the direction of their imports.

pub mod backoff;
pub mod clock;
pub mod config_issue;
pub mod digest;
pub mod error_chain;
pub mod log_limit;
pub mod x509;

pub mod authn;
pub mod hsm;
pub mod ledger;
pub mod policy;

pub mod cluster;
pub mod issuance;
pub mod trust;

pub mod admin;
pub mod controllers;
pub mod mesh;
pub mod net;

pub mod app;
pub mod cli;
pub mod config;
