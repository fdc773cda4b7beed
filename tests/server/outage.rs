//! The ledger fails: nothing is signed, and it comes back alone.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tonic::Code;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::refusal;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually, stays};

/// Another process that holds the ledger's write lock until it is dropped.
pub(crate) struct Lock(Child);

impl Lock {
    pub(crate) fn take(setup: &TestServer) -> Self {
        let script = "import sqlite3, sys\n\
            c = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)\n\
            c.execute('BEGIN EXCLUSIVE')\n\
            print('locked', flush=True)\n\
            sys.stdin.read()";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(setup.path("ledger.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut message = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut message)
            .unwrap();
        assert_eq!(message.trim(), "locked");
        Self(child)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Locked for longer than the server waits: UNAVAILABLE, no signature, a new epoch afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_ledger_signs_nothing_and_recovers() {
    let setup = TestServer::new();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    client.istio(&token, &csr).await.unwrap();
    let before = server.signatures().await;

    let lock = Lock::take(&setup);
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let (client, token, csr) = (client.clone(), token.clone(), csr.pem.clone());
            tokio::spawn(async move {
                let body = rootbridge_test_support::grpc::istio_request(&csr, 0, &[]);
                client
                    .create(body, rootbridge_test_support::grpc::bearer(&token))
                    .await
            })
        })
        .collect();
    for call in calls {
        refusal(call.await.unwrap(), Code::Unavailable);
    }
    eventually(PATIENCE, "not ready", async || {
        server.get("/readyz").await.0 == 503
    })
    .await;
    let (_, message) = server.get("/readyz").await;
    assert!(
        message.contains("ledger") && !message.contains("/tmp"),
        "{message}"
    );
    refusal(client.istio(&token, &csr).await, Code::Unavailable);
    assert_eq!(
        server.signatures().await,
        before,
        "something was signed without a record"
    );

    drop(lock);
    eventually(PATIENCE, "it is back", async || {
        client.istio(&token, &csr).await.is_ok()
    })
    .await;
    server
        .wait_for_log("the ledger is available again: a new epoch starts")
        .await;
    eventually(PATIENCE, "ready", async || {
        server.get("/readyz").await.0 == 200
    })
    .await;
    server.stop().await;
    for state in ["pending", "unknown"] {
        let open = setup.certificates(&["--state", state]);
        assert!(open.is_empty(), "{state}: {open:#?}");
    }
}

/// Waits until the server has issued so many more certificates.
async fn answers(server: &RunningServer, more: usize) {
    let issued = || server.log().matches("certificate issued").count();
    let before = issued();
    eventually(PATIENCE, "answers", async || issued() >= before + more).await;
}

/// Locked in the midst of load: what was signed and could not be concluded is not answered, and
/// ends as unknown; no client holds a certificate that is not on record as issued.
#[tokio::test(flavor = "multi_thread")]
async fn an_intent_without_an_outcome_at_the_crash_is_unknown() {
    let setup = TestServer::with(&[("level = \"trace\"", "level = \"info\"")]);
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = std::sync::Arc::new(KeyAndCsr::workload("foo", "bar"));
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load: Vec<_> = (0..32)
        .map(|_| {
            let (client, token, csr, done) =
                (client.clone(), token.clone(), csr.clone(), done.clone());
            tokio::spawn(async move {
                let mut held = Vec::new();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    match client.istio(&token, &csr).await {
                        Ok(chain) => held.push(chain.leaf.serial().to_string()),
                        Err(status) => assert!(
                            matches!(status.code(), Code::Unavailable | Code::ResourceExhausted),
                            "{status:?}"
                        ),
                    }
                }
                held
            })
        })
        .collect();
    // A lock may come between two batches, when no call waits for its outcome.
    eventually(
        PATIENCE * 2,
        "an outcome that was not recorded",
        async || {
            answers(&server, 20).await;
            let _lock = Lock::take(&setup);
            let refused = "rootbridge_certificates_refused_total{cause=\"ledger\"}";
            let refusals = async || server.metric(refused).await.unwrap_or_default();
            let (before, mut queued) = (refusals().await, false);
            eventually(
                PATIENCE,
                "outcomes wait, or every caller was refused twice",
                async || {
                    let outcomes = server.metric("rootbridge_ledger_queued_outcomes").await;
                    queued = outcomes.is_some_and(|outcomes| outcomes > 0.0);
                    queued || refusals().await >= before + 64.0
                },
            )
            .await;
            queued
        },
    )
    .await;
    eventually(PATIENCE, "it is back", async || {
        client.istio(&token, &csr).await.is_ok()
    })
    .await;
    answers(&server, 100).await;
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut held = std::collections::BTreeSet::new();
    for worker in load {
        held.extend(worker.await.unwrap());
    }
    eventually(PATIENCE, "nothing is open", async || {
        setup.certificates(&["--state", "pending"]).is_empty()
    })
    .await;
    server.stop().await;
    let not_issued: Vec<_> = ["pending", "failed", "unknown"]
        .iter()
        .flat_map(|state| setup.certificates(&["--state", state]))
        .collect();
    for row in &not_issued {
        let serial = row["serial_number"].as_str().unwrap();
        assert!(
            !held.contains(serial),
            "{serial} was answered and is {}",
            row["state"]
        );
    }
    assert!(
        !not_issued.is_empty(),
        "nothing was caught: this has shown nothing"
    );
}

/// At the start, what this instance left open earlier is concluded, and no other instance's.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_reconciles_only_its_own_records() {
    let setup = TestServer::with(&[("level = \"trace\"", "level = \"info\"")]);
    let mut server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = std::sync::Arc::new(KeyAndCsr::workload("foo", "bar"));
    let load: Vec<_> = (0..32)
        .map(|_| {
            let (client, token, csr) = (client.clone(), token.clone(), csr.clone());
            tokio::spawn(async move { while client.istio(&token, &csr).await.is_ok() {} })
        })
        .collect();
    answers(&server, 100).await;
    server.kill();
    for worker in load {
        worker.await.unwrap();
    }
    drop(server);
    // Another instance's open record, under an active lease.
    crate::ceremonies::sql(
        &setup,
        "INSERT INTO instance VALUES ('other-0', 1, 3600, strftime('%s','now') + 3600)",
    );
    crate::ceremonies::sql(
        &setup,
        "INSERT INTO epoch (instance, boot, registered_at) VALUES ('other-0', 1, 0)",
    );
    crate::ceremonies::sql(&setup, "INSERT INTO intent SELECT
        (SELECT max(id) + 1 FROM intent), kind, issuer, ca_certificate, x'01020304', algorithm, not_before,
        not_after, subject, profile, spki_sha256, bundle_digest, caller_trust_domain, caller, method,
        method_detail, cluster, pod, node, token_authenticated_at, 'others', (SELECT max(id) FROM epoch),
        NULL, recorded_at, tbs FROM intent WHERE kind = 1 LIMIT 1");
    let server = setup.serve().await;
    eventually(PATIENCE, "its own are concluded", async || {
        setup.certificates(&["--state", "pending"]).len() == 1
    })
    .await;
    stays(
        Duration::from_secs(4),
        "another instance's is left alone",
        async || setup.certificates(&["--state", "pending"]).len() == 1,
    )
    .await;
    let open = setup.certificates(&["--state", "pending"]);
    assert_eq!(open.len(), 1, "{open:#?}");
    assert_eq!(open[0]["request_id"], "others");
    // Its lease expires: any instance may reconcile it.
    crate::ceremonies::sql(
        &setup,
        "UPDATE instance SET lease_until = 0 WHERE name = 'other-0'",
    );
    eventually(PATIENCE, "the other's is concluded", async || {
        setup.certificates(&["--state", "pending"]).is_empty()
    })
    .await;
    server.stop().await;
}

/// A full disk and a read-only one: no record, no signature, and readiness says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_signs_nothing() {
    let setup = TestServer::new();
    let disk = setup.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let ledger = setup.path("ledger.db").display().to_string();
    setup.edit(&ledger, &disk.join("ledger.db").display().to_string());
    // A small file system that only the server sees.
    let script = "mount -t tmpfs -o size=2m tmpfs \"$1\" && cp \"$2\" \"$1\" && exec \"$3\" serve";
    let inner = setup.command(&[]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]);
    command
        .arg(&disk)
        .arg(setup.path("ledger.db"))
        .arg(inner.get_program());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let server = setup.start_with(command).await;
    server.ready().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    client.istio(&token, &csr).await.unwrap();

    let inside = format!("/proc/{}/root{}", server.id(), disk.display());
    let mut filler = std::fs::File::create(format!("{inside}/filler")).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
    drop(filler);
    eventually(PATIENCE, "a full disk", async || {
        client
            .istio(&token, &csr)
            .await
            .is_err_and(|status| status.code() == Code::Unavailable)
    })
    .await;
    let before = server.signatures().await;
    for _ in 0..5 {
        refusal(client.istio(&token, &csr).await, Code::Unavailable);
    }
    assert_eq!(server.signatures().await, before);
    eventually(PATIENCE, "not ready", async || {
        server.get("/readyz").await.0 == 503
    })
    .await;

    std::fs::remove_file(format!("{inside}/filler")).unwrap();
    eventually(PATIENCE, "space again", async || {
        client.istio(&token, &csr).await.is_ok()
    })
    .await;
    eventually(PATIENCE, "ready", async || {
        server.get("/readyz").await.0 == 200
    })
    .await;
    server.stop().await;
}

/// A caller that hangs up while the HSM signs: the certificate is issued all the same, and is in the
/// log, the counters and the ledger; no gauge counts it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_hangs_up_leaves_nothing_uncounted() {
    let setup = TestServer::with(&[("probe_interval = \"500ms\"", "probe_interval = \"1h\"")]);
    let command = setup.use_faulty_module();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::workload("foo", "bar");
    let token = setup.issuer.istio("foo", "bar");
    let issued =
        "rootbridge_certificates_issued_total{trust_domain=\"cluster.local\",method=\"jwt\"}";
    let in_progress = async || server.metric("rootbridge_issuances_under_way").await;
    command("sign_ms 1500\n");
    {
        let call = client.istio(&token, &csr);
        tokio::pin!(call);
        let under_way = eventually(PATIENCE, "it is being signed", async || {
            in_progress().await == Some(1.0)
        });
        tokio::select! {
            answer = &mut call => panic!("answered before it hung up: {:?}", answer.is_ok()),
            _ = under_way => {}
        }
    }
    command("");
    server
        .wait_for_log("\"caller\":\"spiffe://cluster.local/ns/foo/sa/bar\"")
        .await;
    eventually(PATIENCE, "its end is counted", async || {
        in_progress().await == Some(0.0) && server.metric(issued).await == Some(1.0)
    })
    .await;
    server.stop().await;
}
