//! A disk that is full or may not be written.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rootbridge::ledger::{Change, Filter, Ledger, LedgerError, OpenMode, State};
use rootbridge_test_support::command::run;

use crate::sqlite::{SqliteStore, open};
use crate::support::{Fixture, NOW, Store, block_on, domain, operator};

/// Set for a test that runs in a mount namespace.
const INSIDE: &str = "ROOTBRIDGE_TEST_MOUNT_NAMESPACE";

/// Runs `test`, which is `work`, in a mount namespace of its own, where it may mount file systems.
fn in_mount_namespace(test: &str, work: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return work();
    }
    let mut inner = Command::new("unshare");
    inner.args(["--mount", "--map-root-user"]);
    inner.arg(std::env::current_exe().unwrap());
    inner.args([test, "--exact", "--nocapture"]);
    let output = run(inner.env(INSIDE, "1"));
    assert!(output.contains("1 passed"), "{output}");
}

/// A small file system. It ends with the mount namespace.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(options: &str) -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        this.run(&["-t", "tmpfs", "-o", options, "tmpfs"]);
        this
    }

    fn run(&self, arguments: &[&str]) {
        run(Command::new("mount").args(arguments).arg(self.0.path()));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

/// Fills the ledger until it says that it cannot go on; answers what was durable.
async fn fill(fixture: &Fixture) -> (u64, LedgerError) {
    let mut durable = 0;
    for _ in 0..20_000 {
        let asked = (0..32).map(|_| fixture.ledger.record(fixture.intent("bar")));
        for record in futures_util::future::join_all(asked).await {
            match record {
                Ok(_) => durable += 1,
                Err(error) => return (durable, error),
            }
        }
    }
    panic!("the disk is never full");
}

#[test]
fn a_full_disk_is_reported_and_survived() {
    let test = "sqlite_disk::a_full_disk_is_reported_and_survived";
    in_mount_namespace(test, || block_on(full_disk()));
}

async fn full_disk() {
    let disk = Tmpfs::mount("size=4m");
    let path = disk.0.path().join("ledger.db");
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let fixture = Fixture::build(Arc::new(open(&path, OpenMode::Server).await.unwrap())).await;
    let (durable, error) = fill(&fixture).await;
    let LedgerError::Unavailable { reason } = &error else {
        panic!("{error:?}")
    };
    assert!(
        reason.contains("ledger.db") && reason.contains("free some space"),
        "{reason}"
    );
    // It stays closed to writing while the disk is full, and open to reading.
    for n in 0..3 {
        let change = Change::CreateAuthority {
            trust_domain: domain(&format!("b{n}.example")),
        };
        let apply = fixture.ledger.apply(change, &operator()).await;
        let record = fixture.ledger.record(fixture.intent("bar")).await;
        for error in [apply.err(), record.err()].into_iter().flatten() {
            assert!(
                matches!(error, LedgerError::Unavailable { .. }),
                "{error:?}"
            );
        }
        fixture.ledger.snapshot().await.unwrap();
    }
    let all = Filter {
        limit: u32::MAX,
        ..Filter::default()
    };
    assert!(
        fixture
            .ledger
            .certificates(all.clone())
            .await
            .unwrap()
            .len() as u64
            >= durable
    );
    // With free space, it works without a restart.
    fs::remove_file(&ballast).unwrap();
    fixture.issue(fixture.leaf("after")).await;
    fixture.ledger.close().await;
    let again = open(&path, OpenMode::Server).await.unwrap();
    assert_eq!(again.check().await.unwrap().problems, [""; 0]);
    assert!(again.certificates(all).await.unwrap().len() as u64 > durable);
}

/// A limit on the size of files, in a process of its own.
#[test]
fn a_file_that_may_not_grow_is_reported() {
    let script = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" --exact sqlite_disk::child_with_a_limit --ignored";
    let mut inner = Command::new("bash");
    inner.args(["-c", script]);
    let output = run(inner.arg(std::env::current_exe().unwrap()));
    assert!(output.contains("1 passed"), "{output}");
}

#[test]
#[ignore = "run by a_file_that_may_not_grow_is_reported"]
fn child_with_a_limit() {
    block_on(async {
        let store = SqliteStore::new();
        let fixture = Fixture::build(store.server().await).await;
        let (_, error) = fill(&fixture).await;
        assert!(
            matches!(error, LedgerError::Unavailable { .. }),
            "{error:?}"
        );
        fixture.ledger.snapshot().await.unwrap();
    });
}

#[test]
fn a_read_only_disk_is_reported_and_survived() {
    let test = "sqlite_disk::a_read_only_disk_is_reported_and_survived";
    in_mount_namespace(test, || block_on(read_only_disk()));
}

async fn read_only_disk() {
    let disk = Tmpfs::mount("size=16m");
    let path = disk.0.path().join("ledger.db");
    let fixture = Fixture::build(Arc::new(open(&path, OpenMode::Server).await.unwrap())).await;
    fixture.issue(fixture.leaf("bar")).await;
    fixture.ledger.close().await;
    disk.run(&["-o", "remount,ro"]);
    for mode in [OpenMode::Server, OpenMode::Shared] {
        let error = match open(&path, mode).await {
            Err(error) => error,
            Ok(ledger) => ledger.register("a", Duration::ZERO, NOW).await.unwrap_err(),
        };
        assert!(
            matches!(error, LedgerError::Unavailable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("ead-only"), "{error}");
    }
    disk.run(&["-o", "remount,rw"]);
    let server = open(&path, OpenMode::Server).await.unwrap();
    let issued = Filter {
        state: Some(State::Issued),
        ..Filter::default()
    };
    assert_eq!(server.certificates(issued).await.unwrap().len(), 1);
}
