//! Two servers on one PostgreSQL database.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::fake_clock::FakeClock;
use rootbridge_test_support::files::write_secret;
use rootbridge_test_support::grpc::refusal;
use rootbridge_test_support::postgres::{PASSWORD, PostgresServer};
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};
use tonic::Code;

/// A CA whose ledger is in a database.
pub(crate) fn with_database(database: &PostgresServer, name: &str) -> TestServer {
    let setup = TestServer::bare();
    write_secret(&setup.path("db-password"), PASSWORD);
    let path = |name: &str| setup.path(name).display().to_string();
    setup.edit(
        &format!("path = \"{}\"", path("ledger.db")),
        &format!(
            "url = \"{}\"\npassword_file = \"{}\"\nhigh_water_directory = \"{}\"",
            database.tls_url(name),
            path("db-password"),
            path("high-water"),
        ),
    );
    setup.edit("level = \"trace\"", "level = \"info\"");
    setup.init(TD, &[]);
    setup
}

/// Another server of the same CA.
pub(crate) async fn another(setup: &TestServer, name: &str, lease: &str) -> RunningServer {
    another_with(setup, name, &[("ROOTBRIDGE_INSTANCE__LEASE", lease)]).await
}

/// The same with more of the configuration in the environment.
pub(crate) async fn another_with(
    setup: &TestServer,
    name: &str,
    environment: &[(&str, &str)],
) -> RunningServer {
    let directory = setup.path(name);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join(format!("{TD}.pem")), setup.roots(TD)).unwrap();
    let mut command = setup.command(&["serve"]);
    command.env("ROOTBRIDGE_INSTANCE__NAME", name);
    command.envs(environment.iter().copied());
    let secrets = vec![setup.operator.clone(), PASSWORD.to_owned()];
    let minted = setup.issuer.minted.clone();
    let server = RunningServer::start(command, directory, secrets, minted).await;
    server.ready().await;
    server
}

/// Serials that callers of `server` hold, until `done`.
fn load(
    setup: &TestServer,
    client: rootbridge_test_support::Client,
    done: &Arc<AtomicBool>,
    number: usize,
) -> tokio::task::JoinHandle<Vec<String>> {
    let account = format!("caller-{number}");
    let token = setup.issuer.istio("foo", &account);
    let csr = KeyAndCsr::workload("foo", &account);
    let done = Arc::clone(done);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while !done.load(Ordering::Relaxed) {
            match client.istio(&token, &csr).await {
                Ok(chain) => held.push(chain.leaf.serial().to_string()),
                // The server was killed, or the database was.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        held
    })
}

/// Both issue. One is killed under load: the other goes on,
/// concludes what was left open, and every certificate that any caller holds is on record once.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_issue_and_one_is_killed() {
    let database = PostgresServer::start();
    let name = database.database();
    let setup = with_database(&database, &name);
    let one = setup.serve().await;
    let two = another(&setup, "test-1", "5s").await;
    let done = Arc::new(AtomicBool::new(false));
    let mut calls = Vec::new();
    for n in 0..4 {
        let server = if n % 2 == 0 { &one } else { &two };
        calls.push(load(&setup, server.client(TD).await, &done, n));
    }
    let issued = |server: &RunningServer| server.log().matches("certificate issued").count();
    eventually(PATIENCE, "both issue", async || {
        issued(&one) >= 10 && issued(&two) >= 10
    })
    .await;

    // One whose clock is wrong would conclude what the others work on: it does not start.
    let late = FakeClock::new(&setup, "-1h")
        .serve(&setup)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&late.stderr);
    assert!(!late.status.success(), "{said}");
    assert!(
        said.contains("behind the database's") && said.contains("NTP"),
        "{said}"
    );

    // Killed, with requests in flight, of which one is certain to be left open.
    let open = database.psql(
        &name,
        "CREATE TEMP TABLE left_open AS SELECT intent.* FROM intent JOIN epoch ON epoch.id = epoch
            WHERE kind = 1 AND instance = 'test-0' ORDER BY intent.id DESC LIMIT 1;
         UPDATE left_open SET id = nextval('intent_id'), serial = '\\x0123456789abcdef', origin = NULL;
         INSERT INTO intent SELECT * FROM left_open RETURNING id",
    );
    drop(one);
    let before = issued(&two);
    eventually(PATIENCE, "the other goes on", async || {
        issued(&two) >= before + 10
    })
    .await;
    // The lease is 5 s.
    eventually(PATIENCE, "what was left open is concluded", async || {
        let open = setup.certificates(&["--state", "pending"]);
        open.iter().all(|row| row["instance"]["name"] != "test-0")
    })
    .await;
    let unknown = setup.certificates(&["--state", "unknown"]);
    let open: i64 = open.parse().unwrap();
    let left = unknown.iter().find(|row| row["id"] == open);
    let reason = left.unwrap()["reason"].as_str().unwrap();
    assert!(
        reason.contains("of test-0, concluded by epoch 1 of test-1"),
        "{reason}"
    );

    done.store(true, Ordering::Relaxed);
    let mut held = Vec::new();
    for call in calls {
        held.extend(call.await.unwrap());
    }
    two.stop_in_order().await;
    let on_record: Vec<String> = setup
        .certificates(&["--state", "issued"])
        .iter()
        .map(|row| row["serial_number"].as_str().unwrap_or_default().to_owned())
        .collect();
    for serial in &held {
        let times = on_record.iter().filter(|each| *each == serial).count();
        assert_eq!(times, 1, "{serial} is on record {times} times");
    }
    assert!(held.len() >= 20, "{}", held.len());
    assert!(setup.cli(&["check"]).contains("all invariants hold"));

    // The database is killed and comes back: calls are refused meanwhile, and nothing is lost.
    let mut database = database;
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    client.istio(&token, &csr).await.unwrap();
    database.kill();
    refusal(client.istio(&token, &csr).await, Code::Unavailable);
    database.run();
    eventually(PATIENCE, "it is back", async || {
        client.istio(&token, &csr).await.is_ok()
    })
    .await;
    server
        .wait_for_log("the ledger is available again: a new epoch starts")
        .await;
    server.stop_in_order().await;
    let now = setup.certificates(&["--state", "issued"]).len();
    assert!(now >= on_record.len() + 2, "{now}");
}
