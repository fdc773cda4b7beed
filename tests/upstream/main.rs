//! The enterprise's own CA certifies the issuing key: what every implementation of an upstream CA does
//! with the same answers, and the life of an issuing CA.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod adcs;
mod authority;
mod aws_pca;
mod cert_manager;
mod cfssl;
mod cmp;
mod command;
mod contract;
mod ejbca;
mod enterprise;
mod est;
mod examination;
mod interrupted_key;
mod life;
mod many;
mod offline;
mod openbao;
mod renewal;
mod rotation;
mod speed;
mod step_ca;
mod vault;
mod vault_logins;
