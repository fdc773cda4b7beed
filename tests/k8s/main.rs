//! Rootbridge with real clusters: kube-apiserver and etcd, as `scripts/cluster-tools` builds them.
//!
//! There is no kubelet, no scheduler and no controller manager: nodes and pods are objects that the
//! tests make, and a namespace that is deleted stays terminating.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

#[allow(dead_code)]
mod access;
mod admin;
mod callers;
mod cert_manager;
mod certify;
mod chart;
mod check;
mod csr;
mod faults;
mod faulty_proxy;
mod guarded_process;
mod harness;
mod istiod;
mod istiod_ra;
mod linkerd;
mod nodes;
#[allow(dead_code)]
mod objects;
mod openbao;
mod pods;
mod proxies;
mod publisher;
mod renewals;
mod rootbridge;
#[allow(dead_code)]
mod server;
mod signing;
mod speed;
mod strangers;
mod unresponsive_api_server;
mod vault;
mod watch;
