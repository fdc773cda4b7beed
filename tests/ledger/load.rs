//! How fast it is: `cargo test --release --test ledger -- --ignored --nocapture figures`.
//! ROWS (1000000), CALLERS (64), COUNT (20000 certificates in a run) and DIR may be given.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rootbridge::clock::{Clock, SystemClock};
use rootbridge::ledger::{Filter, Intent, OpenMode, Sqlite, State};
use rootbridge::x509::Serial;

use crate::support::{Fixture, block_on, issued, new};

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// CPU time of this process so far, all threads, to a hundredth of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

pub struct Run {
    pub per_second: f64,
    pub cpu_us: f64,
}

fn made(fixture: &Fixture, n: u64) -> Intent {
    let now = SystemClock.now();
    let subject = format!("spiffe://mesh.example/ns/ns-{}/sa/workload-{n:x}", n % 97);
    Intent {
        serial: Some(Serial::new(now)),
        recorded_at: now,

        lease: None,
        ..fixture.intent(&subject)
    }
}

/// `count` certificates by `callers` at once, each recorded, then concluded.
pub async fn run(fixture: &Arc<Fixture>, callers: u64, count: u64) -> Run {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let left = Arc::new(AtomicU64::new(count));
    let (started, cpu_before) = (Instant::now(), cpu());
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (fixture, left) = (Arc::clone(fixture), Arc::clone(&left));
            tokio::spawn(async move {
                let more = |left: u64| left.checked_sub(1);
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
                    .is_ok()
                {
                    let n = NEXT
                        .fetch_add(1, Ordering::Relaxed)
                        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let id = new(fixture.ledger.record(made(&fixture, n)).await.unwrap());
                    fixture.ledger.conclude(id, issued(&[5; 71])).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let micros = (cpu() - cpu_before).as_secs_f64() * 1e6;
    Run {
        per_second: count as f64 / started.elapsed().as_secs_f64(),
        cpu_us: micros / count as f64,
    }
}

/// The file with one more authority in it.
async fn open(path: &Path, domain: &str) -> Arc<Fixture> {
    let ledger = Sqlite::open(path, OpenMode::Server, Arc::new(SystemClock))
        .await
        .unwrap();
    Arc::new(Fixture::build_for(Arc::new(ledger), domain).await)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn timed(fixture: &Fixture, what: &str, filter: Filter) {
    let started = Instant::now();
    let found = fixture.ledger.certificates(filter).await.unwrap().len();
    println!("  {what}: {found} rows in {:?}", started.elapsed());
}

pub async fn show() {
    let (rows, callers, count) = (
        setting("ROWS", 1_000_000),
        setting("CALLERS", 64),
        setting("COUNT", 20_000),
    );
    let dir = tempfile::tempdir_in(std::env::var("DIR").unwrap_or_else(|_| ".".into())).unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let big = open(&at("big.db"), "big.example").await;

    let started = cpu();
    for n in 0..count {
        drop((made(&big, n), issued(&[5; 71])));
    }
    println!(
        "making an intent: {:.1} us",
        (cpu() - started).as_secs_f64() * 1e6 / count as f64
    );
    let started = Instant::now();
    for n in 0..200 {
        let id = new(big.ledger.record(made(&big, n)).await.unwrap());
        big.ledger.conclude(id, issued(&[5; 71])).await.unwrap();
    }
    println!(
        "one caller: {:?} for an intent and its conclusion",
        started.elapsed() / 200
    );
    if rows > 0 {
        let filled = run(&big, 256, rows).await;
        println!(
            "filling: {:.0}/s, {:.1} us",
            filled.per_second, filled.cpu_us
        );
    }
    big.ledger.close().await;
    let (mut empty, mut full) = (Vec::new(), Vec::new());
    for pair in 0..10 {
        for (name, runs) in [("small", &mut empty), ("big", &mut full)] {
            // Never both at once: SQLite's page caches may share their room.
            let _ = std::fs::remove_file(at("small.db"));
            let fixture = open(&at(&format!("{name}.db")), &format!("pair-{pair}.example")).await;
            // A file that has just been made or opened is slower for a moment.
            run(&fixture, callers, 20_000).await;
            let run = run(&fixture, callers, count).await;
            fixture.ledger.close().await;
            println!(
                "{name:>6}: {:.0}/s, {:.1} us CPU",
                run.per_second, run.cpu_us
            );
            runs.push(run);
        }
    }
    for (what, runs) in [("empty", &empty), (&*format!("{rows} rows"), &full)] {
        let per_second = median(runs.iter().map(|run| run.per_second).collect());
        let cpu_us = median(runs.iter().map(|run| run.cpu_us).collect());
        println!("{what}, {callers} callers: {per_second:.0}/s, {cpu_us:.1} us CPU for each");
    }
    let big = open(&at("big.db"), "questions.example").await;
    let subject = big
        .ledger
        .certificates(Filter {
            limit: 1,
            ..Filter::default()
        })
        .await
        .unwrap();
    let base = Filter::default;
    timed(&big, "newest 100", base()).await;
    timed(
        &big,
        "subject",
        Filter {
            subject: Some(subject[0].subject.clone()),
            ..base()
        },
    )
    .await;
    timed(
        &big,
        "no such subject",
        Filter {
            subject: Some("spiffe://x/y".into()),
            ..base()
        },
    )
    .await;
    let prefix = Some("spiffe://mesh.example/ns/ns-5/*".into());
    timed(
        &big,
        "prefix",
        Filter {
            subject: prefix,
            ..base()
        },
    )
    .await;
    let serial = subject[0].serial;
    timed(&big, "serial", Filter { serial, ..base() }).await;
    timed(
        &big,
        "pending",
        Filter {
            state: Some(State::Pending),
            ..base()
        },
    )
    .await;
    timed(
        &big,
        "unknown",
        Filter {
            state: Some(State::Unknown),
            ..base()
        },
    )
    .await;
    timed(
        &big,
        "root's",
        Filter {
            issuer: Some(big.root.id()),
            ..base()
        },
    )
    .await;
    let later = Some(SystemClock.now().plus(Duration::from_secs(86_400 * 9)));
    timed(
        &big,
        "expires later",
        Filter {
            expires_after: later,
            ..base()
        },
    )
    .await;
    let before = Some(SystemClock.now().minus(Duration::from_secs(86_400)));
    timed(
        &big,
        "recorded before",
        Filter {
            recorded_before: before,
            ..base()
        },
    )
    .await;
    for what in ["first", "second"] {
        let started = Instant::now();
        let done = big
            .ledger
            .reconcile(&big.epoch, SystemClock.now())
            .await
            .unwrap();
        println!("  {what} reconciliation: {done} in {:?}", started.elapsed());
    }
    let started = Instant::now();
    let report = big.ledger.check().await.unwrap();
    println!(
        "  check: {} intents in {:?}",
        report.intents,
        started.elapsed()
    );
    big.ledger.close().await;
    println!(
        "  file: {} MiB",
        std::fs::metadata(at("big.db")).unwrap().len() >> 20
    );
}

#[test]
#[ignore = "minutes of load; for figures"]
fn figures() {
    block_on(show());
}

/// What a certificate costs in each store, with its indexes:
/// `cargo test --test ledger -- --ignored --nocapture bytes_of_a_certificate`.
#[test]
#[ignore = "a minute of load; for figures"]
fn bytes_of_a_certificate() {
    use crate::postgres::PostgresStore;
    use crate::support::Store as _;

    let count = setting("COUNT", 20_000);
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let ledger = Sqlite::open(&path, OpenMode::Server, Arc::new(SystemClock));
        let fixture = Arc::new(Fixture::build(Arc::new(ledger.await.unwrap())).await);
        run(&fixture, 64, count).await;
        fixture.ledger.close().await;
        let bytes = std::fs::metadata(&path).unwrap().len();
        println!("SQLite: {} bytes a certificate", bytes / count);

        let store = PostgresStore::new();
        let fixture = Arc::new(Fixture::build(store.server().await).await);
        run(&fixture, 64, count).await;
        let bytes = store
            .psql("SELECT pg_total_relation_size('intent') + pg_total_relation_size('conclusion')");
        let bytes: u64 = bytes.parse().unwrap();
        println!("PostgreSQL: {} bytes a certificate", bytes / count);
    });
}
