//! Many calls at a time: callers that hang up, records that change under them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{bearer, istio_request};
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{TD, TestServer};

/// A caller that hangs up does not leave a record without a conclusion.
#[tokio::test(flavor = "multi_thread")]
async fn callers_that_hang_up_leave_concluded_records() {
    let setup = TestServer::with(&[("level = \"trace\"", "level = \"info\"")]);
    setup.lift_limits();
    let server = setup.serve().await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    let client = server.client(TD).await;
    let mut answered = 0;
    // Within about what a call takes here and now, so that some hang up in the middle of one.
    let mut longest = Duration::from_millis(2);
    for round in 0..1000 {
        let calls: Vec<_> = (0..20)
            .map(|n| {
                let limit = longest * n / 20;
                let (client, token, csr) = (client.clone(), token.clone(), csr.pem.clone());
                tokio::spawn(async move {
                    let body = istio_request(&csr, 0, &[]);
                    let call = client.create(body, bearer(&token));
                    tokio::time::timeout(limit, call)
                        .await
                        .is_ok_and(|answer| answer.is_ok())
                })
            })
            .collect();
        let mut in_time = 0;
        for call in calls {
            in_time += usize::from(call.await.unwrap());
        }
        answered += in_time;
        match in_time {
            0..5 => longest = longest * 3 / 2,
            15.. => longest = longest * 2 / 3,
            _ => {}
        }
        if round >= 20 && answered > 0 && setup.certificates(&[]).len() > answered {
            break;
        }
    }
    server.stop().await;
    let recorded = setup.certificates(&[]).len();
    assert!(
        recorded > answered && answered > 0,
        "{recorded} recorded, {answered} answered"
    );
    let open = setup.certificates(&["--state", "pending"]);
    assert!(open.is_empty(), "{open:#?}");
}

/// Roots and issuers change during calls: whichever snapshot a call uses, what it answers verifies
/// as a unit.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_of_one_snapshot() {
    let setup = TestServer::with(&[("level = \"trace\"", "level = \"info\"")]);
    setup.lift_limits();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = Arc::new(KeyAndCsr::workload("foo", "bar"));
    let done = Arc::new(AtomicBool::new(false));
    let (changes, calls_each) = (rounds(4, 12), rounds(50, 2500));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (client, token, csr, done) =
                (client.clone(), token.clone(), csr.clone(), done.clone());
            tokio::spawn(async move {
                let (mut calls, mut bundles) = (0, BTreeSet::new());
                while calls < calls_each || !done.load(Ordering::Relaxed) {
                    // Verified in `Chain`.
                    let chain = client.istio(&token, &csr).await.unwrap();
                    bundles.insert((chain.roots.len(), chain.above[0].fingerprint()));
                    calls += 1;
                }
                bundles
            })
        })
        .collect();
    swap(&setup, changes);
    done.store(true, Ordering::Relaxed);
    let mut seen = BTreeSet::new();
    for worker in workers {
        seen.extend(worker.await.unwrap());
    }
    let issuers: BTreeSet<_> = seen.iter().map(|(_, issuer)| issuer).collect();
    // Changes that follow each other quickly may be read as one.
    assert!(
        issuers.len() >= 3,
        "{} issuing certificates were seen",
        issuers.len()
    );
    server.stop().await;
}

/// New issuing certificates under new roots, each published with the change that uses it.
fn swap(setup: &TestServer, times: usize) {
    for n in 0..times {
        let root = OpensslCa::new(&setup.path(""), &format!("root-{n}"));
        let file = setup.path("root.pem");
        std::fs::write(&file, root.pem()).unwrap();
        let file = file.to_str().unwrap();
        setup.cli(&[
            "anchors",
            "add",
            file,
            "--trust-domain",
            TD,
            "--source",
            "swap",
        ]);
        let csr = setup.cli(&["ca", "request", "--trust-domain", TD]);
        std::fs::write(setup.path("chain.pem"), root.certify(&csr, 0) + &root.pem()).unwrap();
        setup.cli(&["ca", "import", setup.path("chain.pem").to_str().unwrap()]);
    }
}
