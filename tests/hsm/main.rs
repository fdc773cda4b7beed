//! The HSM room against real tokens.
//!
//! A PKCS#11 module reads its environment once and is initialized once for each process, so every
//! scenario runs in a process of its own: see `support::isolated`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

/// `scenario!(name, Kit, async |place| …)`: a test in a process of its own.
macro_rules! scenario {
    ($name:ident, $kit:expr, $body:expr) => {
        #[test]
        fn $name() {
            crate::support::isolated(
                concat!(module_path!(), "::", stringify!($name)),
                $kit,
                $body,
            );
        }
    };
}

mod bad_input;
mod keys;
mod pin;
mod queue;
mod recovery;
mod remote;
mod support;
