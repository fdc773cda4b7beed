//! The `hsm` module with real tokens.
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

/// `scenario!(name, Module, async |scenario| …)`: a test in a process of its own.
macro_rules! scenario {
    ($name:ident, $module:expr, $body:expr) => {
        #[test]
        fn $name() {
            crate::support::isolated(
                concat!(module_path!(), "::", stringify!($name)),
                $module,
                $body,
            );
        }
    };
}

mod bad_input;
mod chaos;
mod hanging_login;
mod keys;
mod module_restart;
mod pin;
mod queue;
mod recovery;
mod remote;
mod same_keys;
mod support;
mod vendors;
