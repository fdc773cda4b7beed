//! Linkerd's side of a cluster: roots that proxies hold, and another controller in the place of its
//! own.

mod in_place;
mod repoint;
mod status;
pub(crate) mod tools;
