//! Linkerd's side of a cluster: roots that proxies hold, and an issuer for its controller.

mod issuer;
mod status;
