//! kill -9 under load, twenty times: then the ledger keeps every promise, with the certificates
//! that clients hold as the witness from outside.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::interop::{driver, workloads};
use crate::support::mesh::Mesh;

const ROUNDS: u64 = 20;

#[test]
fn twenty_crashes_under_load() {
    let mesh = Mesh::new();
    let callers = workloads(&mesh, 16);
    let mut witnesses = Vec::new();
    for round in 0..ROUNDS {
        let mut server = mesh.serve();
        let witness = mesh.path(&format!("witness-{round}"));
        let mut load = driver("issue", &mesh)
            .arg("-workloads")
            .arg(&callers)
            .args(["-for", "60s", "-workers", "16", "-reuse", "-out"])
            .arg(&witness)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Never the same moment twice: early rounds die while the connections are made.
        std::thread::sleep(Duration::from_millis(150 + round * 37));
        server.kill();
        // What was on its way to the clients may arrive and be written down.
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
    // What the last crash left open is judged by the next start.
    let mut server = mesh.serve();
    assert!(
        server.terminate(Duration::from_secs(20)).success(),
        "{}",
        server.log()
    );
    let verdict = mesh.judge_ledger(&witnesses);
    let counts = &verdict["counts"];
    assert_eq!(counts["pending"], 0, "{verdict:#}");
    assert_eq!(counts["other"], serde_json::Value::Null, "{verdict:#}");
    // The test is worth something only if the crashes fell into work.
    assert!(
        verdict["witnessed"].as_u64().unwrap() > 20 * ROUNDS,
        "{verdict:#}"
    );
    assert!(
        counts["unknown"].as_u64().unwrap() > 0,
        "no crash met an open intent: {verdict:#}"
    );
}
