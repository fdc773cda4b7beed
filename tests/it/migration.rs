//! A live mesh moves to Rootbridge: its workloads have certificates of another CA (a `cacerts`
//! secret, or istiod's self-signed root), and traffic continues while they change to this one, back,
//! and to this one again.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rootbridge_test_support::openssl::{Material, OpensslCa};
use rootbridge_test_support::{PATIENCE, TD, TestServer};

use crate::support::envoy::{Envoy, Secrets, client, server, watched};
use crate::support::http::get;
use crate::support::interop::certify;
use crate::support::{fingerprint, ledger};

const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
/// Requests that must have gone through before the next step, each by a handshake of its own.
const STEP: u64 = 10;

/// One side of the traffic: its Envoy and what its agent hands to it.
struct Side {
    envoy: Envoy,
    secrets: Secrets,
}

impl Side {
    /// Another certificate, active when this returns.
    fn own(&self, material: &Material) {
        self.change(|| self.secrets.set_own(material));
    }

    /// Other roots, active when this returns.
    fn roots(&self, pem: &str) {
        self.change(|| self.secrets.set_roots(pem));
    }

    fn change(&self, set: impl FnOnce()) {
        let updates = || self.envoy.counter("ssl_context_update_by_sds");
        let before = updates();
        set();
        let started = Instant::now();
        while updates() == before {
            assert!(
                started.elapsed() < PATIENCE,
                "Envoy did not take its secret:\n{}",
                self.envoy.process.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Requests one after another, until it is stopped.
struct Traffic {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    asking: JoinHandle<Vec<String>>,
}

impl Traffic {
    fn through(port: u16) -> Self {
        let (stop, good) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&good));
        let asking = thread::spawn(move || {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                match get(port, "/") {
                    Ok(answer) if answer.status == 200 => {
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                    other => failures.push(format!("{other:?}")),
                }
            }
            failures
        });
        Self { stop, good, asking }
    }

    /// Waits until the present state of things has carried some requests.
    fn goes_on(&self) {
        let (before, started) = (self.good.load(Ordering::SeqCst), Instant::now());
        while self.good.load(Ordering::SeqCst) < before + STEP {
            assert!(started.elapsed() < PATIENCE, "the traffic stands still");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        (
            self.good.load(Ordering::SeqCst),
            self.asking.join().unwrap(),
        )
    }
}

/// Two sides with certificates and roots of the old CA.
fn old_sides(directory: &Path, old: &OpensslCa) -> (Side, Side) {
    let roots = fs::read_to_string(old.pem_file()).unwrap();
    let secrets = |name: &str, id: &str| {
        let secrets = Secrets::new(directory.join(name));
        secrets.set_own(&old.workload(name, id));
        secrets.set_roots(&roots);
        secrets
    };
    let (theirs, ours) = (secrets("server", SERVER), secrets("client", CLIENT));
    let to = server(directory, "server", &watched(&theirs, CLIENT));
    let from = client(directory, "client", &watched(&ours, SERVER), &to);
    let side = |envoy, secrets| Side { envoy, secrets };
    (side(to, theirs), side(from, ours))
}

/// The bundle as anybody downloads it now.
fn published(setup: &TestServer) -> String {
    let endpoint = format!("https://127.0.0.1:{}", setup.port);
    let roots = ledger::anchors(setup);
    let at = ["--endpoint", &endpoint, "--bundle", roots.to_str().unwrap()];
    setup.cli(
        &[
            &["bundle", "show", "-o", "pem", "--trust-domain", TD][..],
            &at,
        ]
        .concat(),
    )
}

#[tokio::test]
async fn without_a_failed_handshake() {
    let setup = TestServer::on_fixed_ports();
    let _server = setup.serve().await;
    let old = OpensslCa::new(&setup.path(""), "old");
    let (to, from) = old_sides(&setup.path(""), &old);
    let traffic = Traffic::through(from.envoy.port);
    traffic.goes_on();

    // The old root joins the bundle; whatever follows is trusted by both sides.
    let root = old.pem_file();
    let add = [
        "anchors",
        "add",
        "--trust-domain",
        TD,
        "--source",
        "cacerts",
    ];
    setup.cli(&[&add[..], &[root.to_str().unwrap()]].concat());
    let both = published(&setup);
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2, "{both}");
    for side in [&to, &from] {
        side.roots(&both);
        traffic.goes_on();
    }

    // The CA is changed, one workload after another.
    let new = |name: &str, account: &str| certify(&setup, name, "shop", account, "ecdsa-p256");
    let certified = new("new-client", "client");
    let sent = fs::read_to_string(&certified.roots).unwrap();
    assert_eq!(
        sent.matches("BEGIN CERTIFICATE").count(),
        2,
        "what agents get has both roots"
    );
    from.own(&certified);
    traffic.goes_on();
    to.own(&new("new-server", "server"));
    traffic.goes_on();

    // The way back, as long as both are trusted; and forth again.
    to.own(&old.workload("server-again", SERVER));
    traffic.goes_on();
    to.own(&new("newer-server", "server"));
    traffic.goes_on();

    // Nobody has a certificate of the old CA any more: its root goes.
    setup.cli(&["anchors", "remove", &fingerprint(&root)]);
    let alone = published(&setup);
    assert_eq!(alone.matches("BEGIN CERTIFICATE").count(), 1, "{alone}");
    for side in [&from, &to] {
        side.roots(&alone);
        traffic.goes_on();
    }

    let (good, failures) = traffic.end();
    assert!(
        failures.is_empty(),
        "{} of {good} failed: {failures:#?}",
        failures.len()
    );
    for side in [&to, &from] {
        assert_eq!(side.envoy.counter(".ssl.fail_verify_error"), 0);
        assert_eq!(side.envoy.counter(".ssl.connection_error"), 0);
    }
    assert!(
        to.envoy.counter(".ssl.handshake") >= good,
        "each request was a handshake"
    );

    // The control: now that the old root is gone, its certificates are refused.
    to.own(&old.workload("server-late", SERVER));
    assert_eq!(get(from.envoy.port, "/").unwrap().status, 503);
    assert!(from.envoy.counter(".ssl.fail_verify_error") > 0);
}
