//! Durability itself: the order of system calls, and what happens when the disk fails.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::interop::{Answer, Call, calls};
use crate::support::mesh::{MODULE, Mesh};
use crate::support::openssl::handshake;
use crate::support::process::Process;
use crate::support::trace::{Event, parse, strace};
use crate::support::{repository, run};

const SPY: &str = "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so";
/// SHA-256 of the constant that the prober has signed: it can be no certificate.
const SELF_TEST: &str = "rootbridge HSM self-test: this is not a certificate";
const LEAF: u8 = 1;

/// A CA whose module is the spy, which writes what it is asked to standard error.
pub(crate) fn spied() -> Mesh {
    let mesh = Mesh::new();
    mesh.edit(MODULE, SPY);
    mesh.edit(
        "environment = {",
        &format!("environment = {{ PKCS11SPY = \"{MODULE}\","),
    );
    mesh
}

/// Tracer and spy are slow; what `/readyz` promises is `serving.rs`'s matter.
fn until_served(mesh: &Mesh, server: &Process) {
    let begun = Instant::now();
    while !handshake(mesh.port) {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{}",
            server.log()
        );
    }
}

/// One request by a client that does not try again.
fn ask(mesh: &Mesh, name: &str) -> Answer {
    let token = mesh.issuer.token_file("foo", "bar", "istio-ca");
    let bearer = format!("Bearer {}", std::fs::read_to_string(token).unwrap());
    let call = Call {
        name: name.to_owned(),
        client: "raw".to_owned(),
        key: "ecdsa-p256".to_owned(),
        identity: "spiffe://cluster.local/ns/foo/sa/bar".to_owned(),
        headers: [("authorization".to_owned(), bearer)].into(),
        ..Call::default()
    };
    calls(mesh, &[call]).remove(0)
}

fn position(events: &[Event], from: usize, wanted: impl Fn(&Event) -> bool) -> Option<usize> {
    events[from..].iter().position(wanted).map(|at| at + from)
}

/// Where the first flush returned that covers the first write of these bytes to the ledger's log.
fn durable(events: &[Event], hex: &str) -> Option<usize> {
    let wal = |name: &str| name.ends_with("ledger.db-wal");
    let written = position(
        events,
        0,
        |event| matches!(event, Event::Write { to, hex: bytes, .. } if wal(to) && bytes.contains(hex)),
    )?;
    position(
        events,
        written,
        |event| matches!(event, Event::Synced { file, result: 0 } if wal(file)),
    )
}

#[test]
fn intent_before_signature_and_conclusion_before_answer() {
    let mesh = spied();
    let trace = mesh.path("trace");
    let mut server = mesh.serve_by(strace(&trace, &mesh.serve_command()));
    until_served(&mesh, &server);
    for n in 0..8 {
        let answer = ask(&mesh, &format!("traced {n}"));
        assert_eq!(
            (answer.code.as_str(), answer.problem.as_str()),
            ("OK", ""),
            "{answer:?}"
        );
    }
    server.terminate(Duration::from_secs(60));
    let events = parse(&std::fs::read_to_string(&trace).unwrap());
    let socket = format!("127.0.0.1:{}->", mesh.port);
    let leaves: Vec<_> = mesh
        .signed()
        .into_iter()
        .filter(|signed| signed.kind == LEAF)
        .collect();
    assert!(leaves.len() >= 8, "{leaves:?}");
    let mut answered = 0;
    for leaf in &leaves {
        let Some(signed) = position(
            &events,
            0,
            |e| matches!(e, Event::Sign { digest } if *digest == leaf.digest),
        ) else {
            panic!("the HSM was never asked for {leaf:?}");
        };
        let intent = durable(&events, &leaf.serial).expect("the intent was never made durable");
        assert!(
            intent < signed,
            "signed at {signed}, the intent durable at {intent} only: {leaf:?}"
        );
        let concluded =
            durable(&events, &leaf.signature).expect("the conclusion was never made durable");
        assert!(concluded > signed, "{leaf:?}");
        // The certificate is larger than all else that goes to a client while it waits.
        let answer = position(
            &events,
            signed,
            |event| matches!(event, Event::Write { to, size, .. } if to.contains(&socket) && *size > 1000),
        );
        if let Some(answer) = answer {
            assert!(
                concluded < answer,
                "answered at {answer}, concluded at {concluded}: {leaf:?}"
            );
            answered += 1;
        }
    }
    assert!(answered >= 8, "only {answered} answers were seen");
}

/// The server with a disk that fails when `fault` says so.
fn serve_on_a_failing_disk(mesh: &Mesh) -> Process {
    let shim = mesh.path("disk.so");
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&shim)
        .arg(repository("tests/fixtures/faults/disk.c")));
    let mut command = mesh.serve_command();
    command
        .env("LD_PRELOAD", shim)
        .env("DISK_FAULT", mesh.path("fault"));
    mesh.serve_by(command)
}

/// `sync ERRNO`, `write ERRNO` or nothing.
fn fault(mesh: &Mesh, what: &str) {
    let new = mesh.path("fault.new");
    std::fs::write(&new, what).unwrap();
    std::fs::rename(new, mesh.path("fault")).unwrap();
}

/// The digests that the spy saw go into C_Sign.
fn asked_of_the_hsm(server: &Process) -> BTreeSet<String> {
    let log = server.log();
    let calls = log.split(": C_Sign\n").skip(1);
    calls
        .map(|call| {
            let data = call.split("pData[ulDataLen]").nth(1).unwrap_or_default();
            let lines = data
                .lines()
                .skip(1)
                .take_while(|line| line.starts_with("    "));
            lines
                .filter_map(|line| line.trim_start().split("  ").nth(1))
                .map(|bytes| bytes.to_lowercase().replace(' ', ""))
                .collect()
        })
        .collect()
}

fn self_test() -> String {
    let text =
        run(Command::new("bash").args(["-c", &format!("printf %s '{SELF_TEST}' | sha256sum")]));
    text.split(' ').next().unwrap().to_owned()
}

#[test]
fn a_failing_disk_gives_no_signature_and_mends() {
    let mesh = spied();
    // One worker, so that the lines of the spy's log keep together.
    mesh.edit("workers = 2", "workers = 1");
    let mut server = serve_on_a_failing_disk(&mesh);
    until_served(&mesh, &server);
    let faults = [
        ("a failing fdatasync", "sync 5"),
        ("a full disk", "write 28"),
        ("a read-only disk", "write 30"),
    ];
    for (name, what) in faults {
        assert_eq!(ask(&mesh, "before").code, "OK", "before {name}");
        let before = asked_of_the_hsm(&server);
        fault(&mesh, what);
        for _ in 0..3 {
            let answer = ask(&mesh, name);
            assert_eq!(answer.code, "Unavailable", "{name}: {answer:?}");
        }
        let mut asked = asked_of_the_hsm(&server);
        asked.remove(&self_test());
        assert!(
            asked.is_subset(&before),
            "{name}: the HSM was asked without a durable intent"
        );
        fault(&mesh, "");
        let mended = Instant::now();
        while ask(&mesh, "after").code != "OK" {
            assert!(
                mended.elapsed() < Duration::from_secs(5),
                "{name}: not mended\n{}",
                server.log()
            );
        }
    }
    assert!(server.terminate(Duration::from_secs(20)).success());
    let verdict = mesh.judge_ledger(&[] as &[PathBuf]);
    assert_eq!(verdict["counts"]["pending"], 0, "{verdict:#}");

    // The HSM's own log reconciles with the ledger: whatever it was asked is on record.
    let mut known: BTreeSet<String> = mesh
        .signed()
        .into_iter()
        .map(|signed| signed.digest)
        .collect();
    known.insert(self_test());
    let asked = asked_of_the_hsm(&server);
    assert!(
        asked.is_subset(&known),
        "unrecorded: {:?}",
        asked.difference(&known)
    );
}
