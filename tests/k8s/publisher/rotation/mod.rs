//! A root is rotated under mTLS traffic: sidecars that get their roots with certificates, a pod that
//! reads them from the cluster's object, new connections and ones that are kept.
//!
//! One task does everything in turn, so that a slow machine changes no order: a round of traffic, then
//! at most one move of the rotation.

mod workload;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rootbridge::digest::hex;
use rootbridge::x509::parse_pem_chain;
use rootbridge_test_support::mutual_tls::{Connection, Peer};
use rootbridge_test_support::{RunningServer, TestServer};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Cluster, ISTIO, PATIENCE};
use workload::Workload;

/// Short lives, so that the old root's last certificate expires during the test.
const LIFETIME: Duration = Duration::from_secs(30);
const RENEW_AFTER: Duration = Duration::from_secs(4);
/// Between two attempts to move the rotation.
const BETWEEN: Duration = Duration::from_millis(400);
/// A pod's object is never older than that when it verifies: `rotation.settle` is twice as long.
const READ_WITHIN: Duration = Duration::from_secs(5);
const ROTATION: &str = r#"
[profiles.serving]
default_ttl = "30s"
backdate = "1s"
usages = ["server"]

[rotation]
settle = "10s"
"#;

struct Mesh<'a> {
    cluster: &'a Cluster,
    setup: &'a TestServer,
    workloads: Vec<Workload>,
    kept: Vec<Connection>,
    handshakes: u64,
    renewals: u64,
    /// What verifiers said of certificates that had not expired.
    failures: Vec<String>,
}

impl<'a> Mesh<'a> {
    async fn start(cluster: &'a Cluster, setup: &'a TestServer, server: &RunningServer) -> Self {
        let mut mesh = Self {
            cluster,
            setup,
            workloads: Vec::new(),
            kept: Vec::new(),
            handshakes: 0,
            renewals: 0,
            failures: Vec::new(),
        };
        for (account, reads) in [
            ("web", false),
            ("cart", false),
            ("stock", false),
            ("reader", true),
        ] {
            let mut workload = Workload {
                account: account.to_owned(),
                token: setup.issuer.istio("shop", account),
                peer: Peer::default(),
                not_after: 0,
                reads,
                at: Instant::now(),
            };
            let roots = parse_pem_chain(setup.roots("cluster.local").as_bytes()).unwrap();
            workload.peer.roots = roots;
            workload.renew(server).await.unwrap();
            mesh.workloads.push(workload);
        }
        for (one, other) in [(0, 1), (1, 3), (3, 2)] {
            let (one, other) = (&mesh.workloads[one], &mesh.workloads[other]);
            mesh.kept.push(one.connect(other).await.unwrap());
        }
        mesh
    }

    /// Who reads reads, who is due renews, everybody connects to everybody, and kept connections are
    /// used.
    async fn round(&mut self, server: Option<&RunningServer>) {
        let read_at = Instant::now();
        if let Some(pem) = self.cluster.pem("default").await {
            let roots = parse_pem_chain(pem.as_bytes()).unwrap();
            for each in self.workloads.iter_mut().filter(|each| each.reads) {
                each.peer.roots.clone_from(&roots);
            }
        }
        for each in &mut self.workloads {
            if let Some(server) = server
                && each.at.elapsed() > RENEW_AFTER
            {
                match each.renew(server).await {
                    Ok(()) => self.renewals += 1,
                    Err(why) => self.failures.extend(why),
                }
            }
        }
        for (one, other) in pairs(self.workloads.len()) {
            let (one, other) = (&self.workloads[one], &self.workloads[other]);
            // A machine that stops for so long breaks the bound that is configured.
            if (one.reads || other.reads) && read_at.elapsed() > READ_WITHIN {
                continue;
            }
            match one.connect(other).await {
                Ok(_) => self.handshakes += 1,
                Err(error) => {
                    let whom = format!("{} to {}: {error}", one.account, other.account);
                    let expired = one.has_expired() || other.has_expired();
                    self.failures.extend((!expired).then_some(whom));
                }
            }
        }
        for (one, other) in &mut self.kept {
            one.write_all(b"x").await.unwrap();
            one.flush().await.unwrap();
            let mut read = [0; 1];
            other.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"x");
        }
    }

    fn rotations(&self, server: &RunningServer, arguments: &[&str]) -> Result<Value, String> {
        let admin = format!("http://127.0.0.1:{}", server.admin);
        let file = self.setup.path("operator.token").display().to_string();
        let access = ["--admin", &admin, "--credential-file", &file, "-o", "json"];
        let output = self
            .setup
            .try_cli(&[&["rotate"], arguments, &access].concat());
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }

    /// Rounds of traffic until the rotation's next move succeeds; returns the new phase, and every
    /// condition that held it back meanwhile.
    async fn advance(&mut self, server: &RunningServer) -> (String, BTreeMap<String, String>) {
        let mut held = BTreeMap::new();
        let started = Instant::now();
        loop {
            self.round(Some(server)).await;
            assert_eq!(self.failures, [""; 0], "{held:?}");
            let domain = ["advance", "--trust-domain", "cluster.local"];
            match self.rotations(server, &domain) {
                Ok(moved) => return (moved["phase"].as_str().unwrap().to_owned(), held),
                Err(why) => assert!(started.elapsed() < PATIENCE + LIFETIME, "{why}"),
            }
            tokio::time::sleep(BETWEEN).await;
            let Ok(status) =
                self.rotations(server, &["explain", "--trust-domain", "cluster.local"])
            else {
                continue;
            };
            for reason in status["held"].as_array().unwrap() {
                let condition = reason["condition"].as_str().unwrap().to_owned();
                held.insert(condition, reason.to_string());
            }
        }
    }
}

fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count)
        .flat_map(move |one| (0..count).map(move |other| (one, other)))
        .filter(|(one, other)| one != other)
}

/// Rotates by hand, with the server killed in each phase; then a move that is forced too early.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_rotated_without_a_failed_handshake() {
    let cluster = Cluster::of_chart().await;
    let setup = cluster.setup(&format!("{ISTIO}{ROTATION}"));
    setup.edit("backdate = \"2m\"", "backdate = \"1s\"");
    let mut server = setup.serve().await;
    let old = setup.roots("cluster.local");
    cluster.has("default", &old, PATIENCE).await;
    let mut mesh = Mesh::start(&cluster, &setup, &server).await;
    mesh.round(Some(&server)).await;

    let domain = ["--trust-domain", "cluster.local"];
    let start = [&["start"], &domain[..]].concat();
    let started = mesh.rotations(&server, &start).unwrap();
    assert_eq!(started["rotation"], 1);
    let again = mesh.rotations(&server, &start).unwrap_err();
    assert!(again.contains("open already"), "{again}");

    let mut conditions = BTreeMap::new();
    for phase in ["publish", "converge", "activate", "drain", "retire", "done"] {
        server.kill();
        mesh.round(None).await;
        server = setup.serve().await;
        let (reached, held) = mesh.advance(&server).await;
        assert_eq!(reached, phase, "{held:?}");
        conditions.extend(held);
    }
    mesh.round(Some(&server)).await;
    assert_eq!(mesh.failures, [""; 0]);
    // They were waited for: the object, the time in which it is read, those who had the old bundle, and
    // certificates below the old root.
    for condition in ["settling", "holder", "alive"] {
        assert!(
            conditions.contains_key(condition),
            "{condition}: {conditions:?}"
        );
    }
    let all = mesh.rotations(&server, &["status", "--all"]).unwrap();
    let published = cluster.pem("default").await.unwrap();
    let published = parse_pem_chain(published.as_bytes()).unwrap();
    let published: Vec<_> = published
        .iter()
        .map(|root| hex(&root.fingerprint()))
        .collect();
    assert_eq!(published, [all[0]["new_anchor"].as_str().unwrap()]);
    let steps = all[0]["steps"].as_array().unwrap().iter();
    let steps: Vec<_> = steps.map(|step| step["phase"].as_str().unwrap()).collect();
    assert_eq!(
        steps,
        [
            "prepare", "publish", "converge", "activate", "drain", "retire", "done"
        ]
    );
    eprintln!("{} handshakes, {} renewals", mesh.handshakes, mesh.renewals);
    assert!(mesh.handshakes > 100 && mesh.renewals > 4);

    forced_too_early(&mut mesh, &server).await;
    server.metrics_are_listed().await;
    server.stop().await;
}

/// Activates a new root before anybody has it: handshakes fail until it has gone back.
async fn forced_too_early(mesh: &mut Mesh<'_>, server: &RunningServer) {
    let domain = ["--trust-domain", "cluster.local"];
    mesh.rotations(
        server,
        &[
            &["start", "--kind", "key-algorithm", "--key", "ecdsa-p384"],
            &domain[..],
        ]
        .concat(),
    )
    .unwrap();
    for phase in ["publish", "converge"] {
        assert_eq!(mesh.advance(server).await.0, phase);
    }
    let refused = mesh.rotations(server, &[&["advance"], &domain[..]].concat());
    let refused = refused.unwrap_err();
    assert!(refused.contains("old bundle"), "{refused}");
    let reason = ["--force", "--reason", "a test of what happens"];
    let forced = [&["advance"], &domain[..], &reason].concat();
    let moved = mesh.rotations(server, &forced).unwrap();
    assert_eq!(moved["phase"], "activate");
    // The first to renew has the new root's certificate, and its peers have not heard of that root.
    let mut handshake = Ok(());
    let started = Instant::now();
    while handshake.is_ok() && started.elapsed() < PATIENCE {
        let mut first = mesh.workloads.remove(0);
        first.renew(server).await.unwrap_or_default();
        handshake = first.connect(&mesh.workloads[0]).await.map(drop);
        mesh.workloads.insert(0, first);
    }
    let failed = handshake.unwrap_err().to_string();
    assert!(
        failed.contains("UnknownIssuer") || failed.contains("UnknownCA"),
        "{failed}"
    );

    let back = [&["back", "--reason", "handshakes fail"], &domain[..]].concat();
    assert_eq!(mesh.rotations(server, &back).unwrap()["phase"], "drain");
    let all = mesh.rotations(server, &["status"]).unwrap();
    assert_eq!(all[0]["backwards"], true);
    let steps = all[0]["steps"].as_array().unwrap();
    assert_eq!(steps[3]["forced"], "a test of what happens");
    assert_eq!(steps[3]["by"], "operator:admin");
}
