//! Linkerd's side of a cluster: roots that proxies hold, another controller in the place of its own
//! and its events, and an issuer for its own.

mod events;
mod in_place;
mod issuer;
mod repoint;
mod status;
pub(crate) mod tools;
mod verify;
