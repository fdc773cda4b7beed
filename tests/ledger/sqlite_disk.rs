//! A disk that is full or may not be written.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rootbridge::ledger::{Change, Filter, Ledger, LedgerError, OpenMode, State};

use crate::sqlite::{SqliteStore, open};
use crate::support::{Fixture, NOW, Store, block_on, domain, operator};

/// A small file system of its own; `None` where this process may not mount one.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let this = Self(dir);
        this.run(&["-t", "tmpfs", "-o", options, "tmpfs"])
            .then_some(this)
    }

    fn run(&self, arguments: &[&str]) -> bool {
        let done = Command::new("mount")
            .args(arguments)
            .arg(self.0.path())
            .output();
        done.is_ok_and(|done| done.status.success())
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
    let Some(disk) = Tmpfs::mount("size=4m") else {
        return full_by_limit();
    };
    block_on(async {
        let path = disk.0.path().join("ledger.db");
        let ballast = disk.0.path().join("ballast");
        fs::write(&ballast, vec![0; 1 << 20]).unwrap();
        let fixture = Fixture::build(Arc::new(open(&path, OpenMode::Server).await.unwrap())).await;
        let (durable, error) = fill(&fixture).await;
        let LedgerError::Unavailable { reason } = &error else {
            panic!("{error:?}")
        };
        assert!(
            reason.contains("ledger.db") && reason.contains("full"),
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
    });
}

/// Without the right to mount, a limit on the size of files does it, in a process of its own.
fn full_by_limit() {
    let exe = std::env::current_exe().unwrap();
    let script = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" --exact sqlite_disk::child_with_a_limit --ignored";
    let done = Command::new("bash")
        .arg("-c")
        .arg(script)
        .arg(exe)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stdout)
    );
}

#[test]
#[ignore = "run by full_by_limit"]
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
    let Some(disk) = Tmpfs::mount("size=16m") else {
        println!("not shown: this process may not mount a file system");
        return;
    };
    block_on(async {
        let path = disk.0.path().join("ledger.db");
        let fixture = Fixture::build(Arc::new(open(&path, OpenMode::Server).await.unwrap())).await;
        fixture.issue(fixture.leaf("bar")).await;
        fixture.ledger.close().await;
        assert!(disk.run(&["-o", "remount,ro"]));
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
        assert!(disk.run(&["-o", "remount,rw"]));
        let server = open(&path, OpenMode::Server).await.unwrap();
        let issued = Filter {
            state: Some(State::Issued),
            ..Filter::default()
        };
        assert_eq!(server.certificates(issued).await.unwrap().len(), 1);
    });
}
