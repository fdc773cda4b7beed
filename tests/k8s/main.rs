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
mod callers;
mod certify;
mod chart;
mod check;
mod csr;
mod faults;
mod faulty;
mod hang;
mod harness;
mod istiod;
mod istiod_ra;
mod kept;
mod linkerd;
mod nodes;
#[allow(dead_code)]
mod objects;
mod pods;
mod publisher;
mod rootbridge;
#[allow(dead_code)]
mod server;
mod shim;
mod signing;
mod speed;
/// The real binary on a SoftHSM token, as the tests of the line start it.
#[allow(dead_code, unused_imports)]
#[path = "../line/support/mod.rs"]
mod support;
/// As the tests of clusters serve theirs.
#[path = "../cluster/tls.rs"]
mod tls;
mod watch;
