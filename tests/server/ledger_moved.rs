//! The ledger's file is moved away, replaced, linked or loses its write-ahead log while the server runs:
//! nothing is signed and nothing is lost, the log says what happened, and it comes back alone.

use std::fs;
use std::path::Path;

use tonic::Code;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::refusal;
use rootbridge_test_support::{Client, PATIENCE, RunningServer, TD, TestServer, eventually};

struct Caller {
    client: Client,
    token: String,
    csr: KeyAndCsr,
    issued: Vec<String>,
}

impl Caller {
    async fn issue(&mut self) {
        let chain = self.client.istio(&self.token, &self.csr).await.unwrap();
        self.issued.push(chain.leaf.serial().to_string());
    }

    /// Nothing is signed, the server is not ready, and the log says what happened.
    async fn is_refused(&self, server: &RunningServer, says: &str) {
        let before = server.signatures().await;
        let answer = self.client.istio(&self.token, &self.csr).await;
        refusal(answer, Code::Unavailable);
        eventually(PATIENCE, "not ready", async || {
            server.get("/readyz").await.0 == 503
        })
        .await;
        server.wait_for_log(says).await;
        let answer = self.client.istio(&self.token, &self.csr).await;
        refusal(answer, Code::Unavailable);
        assert_eq!(server.signatures().await, before, "{says}");
    }

    async fn recovers(&mut self, server: &RunningServer) {
        eventually(PATIENCE, "it issues again", async || {
            let answer = self.client.istio(&self.token, &self.csr).await;
            let Ok(chain) = answer else { return false };
            self.issued.push(chain.leaf.serial().to_string());
            true
        })
        .await;
        server.ready().await;
    }
}

/// Moves the ledger and its companions.
fn move_ledger(from: &Path, to: &Path) {
    for end in ["", "-wal", "-shm"] {
        let name = format!("ledger.db{end}");
        let _ = fs::rename(from.join(&name), to.join(&name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_not_in_its_place_signs_nothing() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let mut caller = Caller {
        client: server.client(TD).await,
        token: setup.issuer.istio("foo", "bar"),
        csr: KeyAndCsr::workload("foo", "bar"),
        issued: Vec::new(),
    };
    caller.issue().await;
    let (here, away) = (setup.path(""), setup.path("away"));
    fs::create_dir(&away).unwrap();

    move_ledger(&here, &away);
    let moved = "it was moved away or removed while the server runs";
    caller.is_refused(&server, moved).await;
    // A copy of it is another file.
    for end in ["", "-wal"] {
        let name = format!("ledger.db{end}");
        fs::copy(away.join(&name), here.join(&name)).unwrap();
    }
    let replaced = "another file was put in its place while the server runs";
    caller.is_refused(&server, replaced).await;
    move_ledger(&away, &here);
    caller.recovers(&server).await;
    server.wait_for_log("ledger.db is in its place again").await;

    fs::hard_link(here.join("ledger.db"), away.join("second.db")).unwrap();
    caller
        .is_refused(&server, "it has 2 names (hard links)")
        .await;
    fs::remove_file(away.join("second.db")).unwrap();
    caller.recovers(&server).await;

    let wal = here.join("ledger.db-wal");
    fs::rename(&wal, away.join("wal")).unwrap();
    let lost = "its -wal file was moved, removed or replaced while the server runs";
    caller.is_refused(&server, lost).await;
    fs::rename(away.join("wal"), &wal).unwrap();
    caller.recovers(&server).await;
    // Removed for good: the end of the server writes it to the ledger.
    fs::remove_file(&wal).unwrap();
    caller.is_refused(&server, lost).await;
    let log = server.log();
    server.stop().await;
    let line = format!("is not in its place: {replaced}");
    assert_eq!(log.matches(&line).count(), 1, "logged once");

    let recorded = setup.certificates(&["--state", "issued", "--kind", "leaf"]);
    for serial in &caller.issued {
        let found = recorded.iter().any(|row| row["serial_number"] == *serial);
        assert!(found, "{serial} was answered and is not on record");
    }
}

/// By whatever name: a symbolic link in another directory leads to the same ledger.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_has_one_server_by_any_name() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let ledger = setup.path("ledger.db");
    let other = setup.path("other");
    fs::create_dir(&other).unwrap();
    let link = other.join("ledger.db");
    std::os::unix::fs::symlink(&ledger, &link).unwrap();
    setup.edit(&ledger.display().to_string(), &link.display().to_string());
    // A second server would not end by itself.
    let serve = |script: &str| {
        let inner = setup.command(&["serve"]);
        let mut command = std::process::Command::new("timeout");
        command.args(["60", "unshare", "--mount", "--map-root-user"]);
        command
            .args(["sh", "-c", script, "sh"])
            .args([&ledger, &link]);
        command.arg(inner.get_program());
        command.env("ROOTBRIDGE_CONFIG", setup.config());
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            error.contains("belongs to another server ("),
            "{script}: {:?} {error}",
            output.status
        );
    };
    serve("exec \"$3\" serve");
    fs::remove_file(&link).unwrap();
    // The same file with another lock file beside it.
    fs::write(&link, "").unwrap();
    serve("mount --bind \"$1\" \"$2\" && exec \"$3\" serve");
    server.stop().await;
}
