//! kill -9 under load: what a process has reported as durable is there afterwards.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rootbridge::ledger::{Filter, Intent, Ledger, OpenMode, Outcome, State};
use rootbridge::x509::Serial;

use crate::sqlite::{SqliteStore, open};
use crate::support::{Fixture, LEASE, NOW, block_on, failed, intent, issued, new};

const PATH: &str = "ROOTBRIDGE_TEST_LEDGER";

#[test]
#[ignore = "run by survives_kill_9"]
fn child_under_load() {
    let path = PathBuf::from(std::env::var(PATH).unwrap());
    block_on(async {
        let ledger = Arc::new(open(&path, OpenMode::Server).await.unwrap());
        let snapshot = ledger.snapshot().await.unwrap();
        let authority = &snapshot.authorities[0];
        let epoch = ledger.register("server-0", LEASE, NOW).await.unwrap();
        let mut tasks = Vec::new();
        for task in 0..32 {
            let (ledger, epoch) = (Arc::clone(&ledger), epoch.clone());
            let (issuer, domain) = (
                authority.issuers[1].id.clone(),
                authority.trust_domain.clone(),
            );
            tasks.push(tokio::spawn(async move {
                for n in 0_u64.. {
                    let serial = Serial::new(NOW);
                    let tbs = [b"tbs".as_slice(), serial.as_bytes()].concat();
                    let base = intent(&issuer, &domain, &epoch, "bar");
                    let asked = Intent {
                        serial: Some(serial),
                        tbs,
                        ..base
                    };
                    let id = new(ledger.record(asked).await.unwrap());
                    say(&format!("recorded {id} {serial}"));
                    let outcome = if n % 7 == task % 7 {
                        failed("f")
                    } else {
                        issued(&[n as u8; 70])
                    };
                    let state = outcome.state();
                    ledger.conclude(id, outcome).await.unwrap();
                    say(&format!("concluded {id} {state}"));
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Never a part of a line.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
fn survives_kill_9() {
    let store = SqliteStore::new();
    block_on(async {
        let fixture = Fixture::build(Arc::new(store.open(OpenMode::Server).await.unwrap())).await;
        fixture.ledger.close().await;
    });
    let mut recorded: HashMap<i64, Serial> = HashMap::new();
    let mut concluded: HashMap<i64, State> = HashMap::new();
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "crash::child_under_load",
                "--ignored",
                "--nocapture",
            ])
            .env(PATH, store.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut kill_at, mut outcomes) = (None, 0);
        for line in lines {
            let line = line.unwrap();
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("recorded"), Some(id), Some(serial)) => {
                    recorded.insert(id.parse().unwrap(), serial.parse().unwrap());
                }
                (Some("concluded"), Some(id), Some(state)) => {
                    concluded.insert(id.parse().unwrap(), state.parse().unwrap());
                    outcomes += 1;
                }
                _ => continue,
            }
            let wait = Duration::from_millis(30 + 37 * round);
            let kill_at = *kill_at.get_or_insert_with(|| Instant::now() + wait);
            if outcomes > 50 && Instant::now() > kill_at {
                // The pipe is read to its end: what was said before the end was durable.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(outcomes > 50, "round {round}: it ended by itself");
        block_on(after(&store, &recorded, &concluded));
    }
}

async fn after(
    store: &SqliteStore,
    recorded: &HashMap<i64, Serial>,
    concluded: &HashMap<i64, State>,
) {
    let ledger = store.open(OpenMode::Server).await.unwrap();
    let rows = ledger
        .certificates(Filter {
            limit: u32::MAX,
            ..Filter::default()
        })
        .await
        .unwrap();
    let rows: HashMap<i64, _> = rows.into_iter().map(|row| (row.id.get(), row)).collect();
    for (id, serial) in recorded {
        let row = &rows[id];
        assert_eq!(row.serial, Some(*serial));
        assert_eq!(row.tbs, [b"tbs".as_slice(), serial.as_bytes()].concat());
    }
    for (id, state) in concluded {
        assert_eq!(rows[id].state, *state, "intent {id}");
    }
    for row in rows.values() {
        assert_eq!(row.signature.is_some(), row.state == State::Issued);
    }
    let open = rows
        .values()
        .filter(|row| row.state == State::Pending)
        .count() as u64;
    let epoch = ledger.register("server-0", LEASE, NOW).await.unwrap();
    assert_eq!(ledger.reconcile(&epoch, NOW).await.unwrap(), open);
    let report = ledger.check().await.unwrap();
    assert_eq!(
        (report.intents, report.conclusions),
        (rows.len() as u64, rows.len() as u64)
    );
    let other: Vec<_> = report
        .problems
        .iter()
        .filter(|message| !message.contains("assemble"))
        .collect();
    assert!(other.is_empty(), "{other:?}");
    // What was reconciled stays as it is.
    let unknown = Filter {
        state: Some(State::Unknown),
        limit: 1,
        ..Filter::default()
    };
    if let Some(row) = ledger.certificates(unknown).await.unwrap().first() {
        let outcome = Outcome::Issued { signature: vec![1] };
        ledger.conclude(row.id, outcome).await.unwrap_err();
    }
    ledger.close().await;
}
