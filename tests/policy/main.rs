//! What policy allows and refuses, as tables: each row changes one thing about a request that is
//! allowed, so that each condition of the decision has a row that fails without it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod bounds;
mod decisions;
mod profiles;
mod requests;
