//! Durability: the order of system calls, and failing disks.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use rootbridge_test_support::command::run;
use rootbridge_test_support::files::repository;
use rootbridge_test_support::{PATIENCE, RunningServer, TestServer, softhsm};

use crate::support::interop::{Answer, Call, calls};
use crate::support::trace::{Event, parse, strace};
use crate::support::{handshake, ledger};

/// The constant that the prober has signed; its SHA-256 is what the HSM gets.
const SELF_TEST: &str = "rootbridge HSM self-test: this is not a certificate";
const LEAF: u8 = 1;

/// A CA whose module is `pkcs11-spy`, which logs each call to standard error.
pub(crate) fn spied() -> TestServer {
    let setup = TestServer::on_fixed_ports();
    let (module, spy) = (softhsm::module(), softhsm::spy());
    let module = module.display();
    setup.edit(&module.to_string(), &spy.display().to_string());
    setup.edit(
        "environment = {",
        &format!("environment = {{ PKCS11SPY = \"{module}\","),
    );
    setup
}

/// `rootbridge serve` with the module's variables set beforehand, so that it need not start itself
/// again with them: not every tool in front of it survives that.
pub(crate) fn serve_command(setup: &TestServer) -> Command {
    let mut command = setup.command(&["serve"]);
    command
        .env("SOFTHSM2_CONF", setup.path("token/softhsm2.conf"))
        .env("PKCS11SPY", softhsm::module());
    command
}

/// Starts the server with a command and a module that logs PINs.
pub(crate) async fn serve_spied(setup: &TestServer, command: Command) -> RunningServer {
    let mut server = setup.start_with(command).await;
    server.may_log_secrets();
    server.ready().await;
    server
}

/// Tracer and spy are slow. `readiness.rs` tests what `/readyz` promises.
fn wait_for_handshake(setup: &TestServer, server: &RunningServer) {
    let start = Instant::now();
    while !handshake(setup.port) {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{}",
            server.log()
        );
    }
}

/// One request by a client that does not retry.
fn request(setup: &TestServer, name: &str) -> Answer {
    let token = setup.issuer.token_file("foo", "bar", "istio-ca");
    let bearer = format!("Bearer {}", std::fs::read_to_string(token).unwrap());
    let call = Call {
        name: name.to_owned(),
        client: "raw".to_owned(),
        key: "ecdsa-p256".to_owned(),
        identity: "spiffe://cluster.local/ns/foo/sa/bar".to_owned(),
        headers: [("authorization".to_owned(), bearer)].into(),
        ..Call::default()
    };
    calls(setup, &[call]).remove(0)
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

#[tokio::test]
async fn intents_are_durable_before_signatures_and_outcomes_before_answers() {
    let setup = spied();
    let trace = setup.path("trace");
    let mut server = serve_spied(&setup, strace(&trace, &serve_command(&setup))).await;
    wait_for_handshake(&setup, &server);
    for n in 0..8 {
        let answer = request(&setup, &format!("traced {n}"));
        assert_eq!(
            (answer.code.as_str(), answer.problem.as_str()),
            ("OK", ""),
            "{answer:?}"
        );
    }
    server.terminate(Duration::from_secs(60)).await;
    let events = parse(&std::fs::read_to_string(&trace).unwrap());
    let socket = format!("127.0.0.1:{}->", setup.port);
    let leaves: Vec<_> = ledger::signed(&setup)
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
            panic!("the HSM never got {leaf:?}");
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
async fn serve_on_a_failing_disk(setup: &TestServer) -> RunningServer {
    let shim = setup.path("disk.so");
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&shim)
        .arg(repository("tests/fixtures/faults/disk.c")));
    let mut command = serve_command(setup);
    command
        .env("LD_PRELOAD", shim)
        .env("DISK_FAULT", setup.path("fault"));
    serve_spied(setup, command).await
}

/// `sync ERRNO`, `write ERRNO` or nothing.
fn fault(setup: &TestServer, what: &str) {
    let new = setup.path("fault.new");
    std::fs::write(&new, what).unwrap();
    std::fs::rename(new, setup.path("fault")).unwrap();
}

/// The digests that the spy logged for C_Sign.
fn digests_sent_to_the_hsm(server: &RunningServer) -> BTreeSet<String> {
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

#[tokio::test]
async fn a_failing_disk_gives_no_signature_until_it_recovers() {
    let setup = spied();
    // One worker, so that the lines of one call are together in the spy's log.
    setup.edit("workers = 2", "workers = 1");
    let mut server = serve_on_a_failing_disk(&setup).await;
    wait_for_handshake(&setup, &server);
    let faults = [
        ("a failing fdatasync", "sync 5"),
        ("a full disk", "write 28"),
        ("a read-only disk", "write 30"),
    ];
    for (name, what) in faults {
        assert_eq!(request(&setup, "before").code, "OK", "before {name}");
        let before = digests_sent_to_the_hsm(&server);
        fault(&setup, what);
        for _ in 0..3 {
            let answer = request(&setup, name);
            assert_eq!(answer.code, "Unavailable", "{name}: {answer:?}");
        }
        let mut digests = digests_sent_to_the_hsm(&server);
        digests.remove(&self_test());
        assert!(
            digests.is_subset(&before),
            "{name}: a request to the HSM without a durable intent"
        );
        fault(&setup, "");
        let start = Instant::now();
        while request(&setup, "after").code != "OK" {
            assert!(
                start.elapsed() < PATIENCE,
                "{name}: no recovery\n{}",
                server.log()
            );
        }
    }
    assert!(server.terminate(Duration::from_secs(20)).await.success());
    let report = ledger::verify(&setup, &[]);
    assert_eq!(report["counts"]["pending"], 0, "{report:#}");

    // The HSM's own log agrees with the ledger: every request to it is on record.
    let mut known: BTreeSet<String> = ledger::signed(&setup)
        .into_iter()
        .map(|signed| signed.digest)
        .collect();
    known.insert(self_test());
    let digests = digests_sent_to_the_hsm(&server);
    assert!(
        digests.is_subset(&known),
        "unrecorded: {:?}",
        digests.difference(&known)
    );
}
