//! Linkerd's side of a cluster: roots that proxies hold.

mod status;
