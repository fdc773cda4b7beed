//! The rules of a rotation, in every order in which things can happen.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod known;
mod mesh;
mod model;
mod rules;
mod schedules;
