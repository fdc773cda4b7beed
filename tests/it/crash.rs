//! kill -9 under load, many times: the ledger keeps its invariants, and has every certificate
//! that a client received.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::{PATIENCE, TestServer, eventually};

use crate::support::interop::{driver, workloads};
use crate::support::ledger;

#[tokio::test]
async fn crashes_under_load() {
    let setup = TestServer::on_fixed_ports();
    setup.lift_limits();
    let callers = workloads(&setup, 16);
    let mut witnesses = Vec::new();
    let rounds = rounds(6, 20);
    for round in 0..rounds {
        let mut server = setup.serve().await;
        let witness = setup.path(&format!("witness-{round}"));
        let mut load = driver("issue", &setup)
            .arg("-workloads")
            .arg(&callers)
            .args(["-for", "60s", "-workers", "16", "-reuse", "-out"])
            .arg(&witness)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A later kill in each round: the first ones hit the making of connections.
        eventually(PATIENCE, "certificates", async || {
            lines(&witness) >= 20 * round
        })
        .await;
        server.kill();
        // Answers in transit may arrive and be written down.
        std::thread::sleep(Duration::from_millis(100));
        kill(
            Pid::from_raw(i32::try_from(load.id()).unwrap()),
            Signal::SIGKILL,
        )
        .unwrap();
        load.wait().unwrap();
        if witness.exists() {
            witnesses.push(witness);
        }
    }
    // The next start closes what the last crash left open.
    let mut server = setup.serve().await;
    assert!(
        server.terminate(Duration::from_secs(20)).await.success(),
        "{}",
        server.log()
    );
    let report = ledger::verify(&setup, &witnesses);
    let counts = &report["counts"];
    assert_eq!(counts["pending"], 0, "{report:#}");
    assert_eq!(counts["other"], serde_json::Value::Null, "{report:#}");
    // The test means something only if the crashes interrupted work.
    assert!(
        report["witnessed"].as_u64().unwrap() >= 20 * rounds as u64,
        "{report:#}"
    );
    assert!(
        counts["unknown"].as_u64().unwrap() > 0,
        "no crash met an open intent: {report:#}"
    );
}

fn lines(file: &Path) -> usize {
    std::fs::read(file).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count())
}
