//! Commands that talk to a server.

pub(super) mod bundle;
mod connect;
mod fetch;
mod keypair;
mod profile;
pub(super) mod sign;
