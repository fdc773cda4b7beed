//! Linkerd's side of a cluster: roots that proxies hold, and an issuer for its controller,
//! events in its place.

mod events;
mod issuer;
mod status;
