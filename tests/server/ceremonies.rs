//! `ca init`, whole and broken off, and what it leaves behind.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use rootbridge::x509::KeyKind;
use serde_json::Value;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{TD, TestServer};

fn issuers(setup: &TestServer) -> Vec<(String, String)> {
    let list: Vec<Value> = serde_json::from_str(&setup.cli(&["ca", "list", "-o", "json"])).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    list.iter()
        .map(|row| (text(row, "role"), text(row, "state")))
        .collect()
}

fn anchors(setup: &TestServer) -> usize {
    let list = setup.cli(&["anchors", "list", "-o", "json"]);
    serde_json::from_str::<Vec<Value>>(&list).unwrap().len()
}

pub(crate) fn both_active(setup: &TestServer) {
    let made: Vec<_> = issuers(setup);
    let expected = [("root", "active"), ("issuing", "active")];
    assert_eq!(
        made,
        expected.map(|(role, state)| (role.to_owned(), state.to_owned()))
    );
    assert_eq!(anchors(setup), 1);
}

#[test]
fn a_second_init_changes_nothing() {
    let setup = TestServer::new();
    both_active(&setup);
    let message = setup.refused(&["ca", "init", "--trust-domain", TD]);
    assert!(
        message.contains("already has an active issuing CA"),
        "{message}"
    );
    assert!(message.contains("ca request"), "{message}");
    both_active(&setup);
}

/// Killed at whatever step it has come to, it goes on from there when it is run again.
#[test]
fn an_interrupted_init_is_resumed() {
    let mut cut_short = 0;
    for after in [30, 60, 90, 120, 160, 200, 250, 300, 400, 600] {
        let setup = TestServer::bare();
        let mut command = setup.command(&["ca", "init", "--trust-domain", TD]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The moment is what is tried: wherever it has come to.
        std::thread::sleep(Duration::from_millis(after));
        let _ = child.kill();
        let killed = child.wait().unwrap().signal().is_some();
        let again = setup.try_cli(&["ca", "init", "--trust-domain", TD]);
        if !again.status.success() {
            let message = String::from_utf8_lossy(&again.stderr).into_owned();
            // SoftHSM writes its token's file in place at each login: killed at that moment, the
            // token itself is lost, which no ceremony can go on with.
            if message.contains("no token with label") {
                continue;
            }
            // It had come to its end all the same.
            assert!(
                message.contains("already has an active"),
                "after {after} ms: {message}"
            );
        }
        both_active(&setup);
        cut_short += u32::from(killed);
    }
    assert!(cut_short > 0, "every run was done before it was killed");
}

/// The same, step by step: each change of the records is refused once.
#[test]
fn every_step_of_init_may_fail() {
    for (table, what) in [
        ("issuer", "the root's key"),
        ("intent", "the root's certificate"),
        ("conclusion", "the root's signature"),
        ("anchor", "the anchor"),
        ("ca_certificate", "the root's record"),
    ] {
        for nth in 0..2 {
            let setup = TestServer::bare();
            // The ledger is made by a command that changes nothing in it.
            let message = setup.refused(&["ca", "init", "--trust-domain", TD, "--token", "none"]);
            assert!(message.contains("none"), "{message}");
            sql(
                &setup,
                &format!(
                    "CREATE TRIGGER broken BEFORE INSERT ON {table}
                 WHEN (SELECT count(*) FROM {table}) >= {nth}
                 BEGIN SELECT RAISE(ABORT, 'broken for a test'); END"
                ),
            );
            let first = setup.try_cli(&["ca", "init", "--trust-domain", TD]);
            sql(&setup, "DROP TRIGGER broken");
            if first.status.success() {
                // There is one anchor only.
                assert_eq!((table, nth), ("anchor", 1));
                continue;
            }
            setup.init(TD, &[]);
            both_active(&setup);
            let signed = setup.certificates(&["--state", "issued"]);
            let unfinished = usize::from(table == "conclusion");
            assert_eq!(signed.len(), 2, "{what} {nth}: {signed:#?}");
            let open = setup.certificates(&["--state", "pending"]).len();
            assert!(open <= unfinished, "{what} {nth}: {open} open");
        }
    }
}

#[test]
fn resuming_with_other_keys_is_refused() {
    let setup = TestServer::bare();
    setup.refused(&["ca", "init", "--trust-domain", TD, "--token", "none"]);
    sql(
        &setup,
        "CREATE TRIGGER broken BEFORE INSERT ON issuer WHEN NEW.role = 'issuing'
                BEGIN SELECT RAISE(ABORT, 'broken for a test'); END",
    );
    setup.refused(&["ca", "init", "--trust-domain", TD]);
    sql(&setup, "DROP TRIGGER broken");
    let message = setup.refused(&["ca", "init", "--trust-domain", TD, "--key", "ecdsa-p384"]);
    assert!(
        message.contains("did not finish") && message.contains("ECDSA P-256"),
        "{message}"
    );
    let message = setup.refused(&["ca", "init", "--trust-domain", TD, "--path-len", "1"]);
    assert!(message.contains("did not finish"), "{message}");
    setup.init(TD, &[]);
    both_active(&setup);
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_and_p384_authorities_sign() {
    for (kind, expected) in [
        ("rsa-2048", KeyKind::Rsa { bits: 2048 }),
        ("ecdsa-p384", KeyKind::EcdsaP384),
    ] {
        let setup = TestServer::bare();
        let root = setup.init(TD, &["--key", kind, "--path-len", "2"]);
        assert_eq!(
            (root.public_key().kind(), root.path_len()),
            (expected, Some(3))
        );
        let server = setup.serve().await;
        let client = server.client(TD).await;
        let token = setup.issuer.istio("foo", "bar");
        let chain = client
            .istio(&token, &KeyAndCsr::workload("foo", "bar"))
            .await
            .unwrap();
        assert_eq!(chain.above[0].public_key().kind(), expected);
        assert_eq!(chain.above[0].path_len(), Some(2));
        server.stop().await;
    }
}

/// Key and signature take longer than the lease, beside a server that concludes what expired.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_keeps_its_lease_while_the_token_is_slow() {
    let setup = TestServer::new();
    // Long enough for a slow disk to renew it in time.
    setup.edit("lease = \"5s\"", "lease = \"12s\"");
    let command = setup.use_faulty_module();
    let server = setup.serve().await;
    command("generate_ms 14000\nsign_ms 3000\n");
    setup.cli(&["ca", "request", "--trust-domain", "slow.example"]);
    command("");
    let made = setup.certificates(&["--kind", "request"]);
    assert_eq!(made.len(), 1, "{made:#?}");
    assert_eq!(made[0]["state"], "issued", "{made:#?}");
    let unknown = setup.certificates(&["--state", "unknown"]);
    assert!(unknown.is_empty(), "{unknown:#?}");
    server.stop().await;
}

/// By another program than the one under the test.
pub(crate) fn sql(setup: &TestServer, statement: &str) {
    query(setup, statement);
}

/// The first column of every row, one a line.
pub(crate) fn query(setup: &TestServer, statement: &str) -> String {
    let script = "import sqlite3, sys\n\
        c = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)\n\
        [print(row[0]) for row in c.execute(sys.argv[2])]";
    let mut python = std::process::Command::new("python3");
    python
        .args(["-c", script])
        .arg(setup.path("ledger.db"))
        .arg(statement);
    rootbridge_test_support::command::run(&mut python)
}
