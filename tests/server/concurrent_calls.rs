//! Many calls at a time: callers that hang up, records that change under them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{bearer, istio_request};
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{TD, TestServer};

/// A caller that hangs up does not leave a record without a conclusion.
#[tokio::test(flavor = "multi_thread")]
async fn callers_that_hang_up_leave_concluded_records() {
    let setup = TestServer::with(&[("level = \"trace\"", "level = \"info\"")]);
    let server = setup.serve().await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");
    let mut answered = 0;
    for round in 0..20_u64 {
        let client = server.client(TD).await;
        let calls: Vec<_> = (0..20_u64)
            .map(|n| {
                let limit = Duration::from_micros((round * 20 + n) * 150);
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
        for call in calls {
            answered += usize::from(call.await.unwrap());
        }
    }
    server.stop().await;
    let open = setup.certificates(&["--state", "pending"]);
    assert!(open.is_empty(), "{open:#?}");
    let recorded = setup.certificates(&[]).len();
    assert!(
        recorded > answered && answered > 0,
        "{recorded} recorded, {answered} answered"
    );
}

/// Roots and issuers change during 10,000 calls: whichever snapshot a call uses,
/// what it answers verifies as a unit.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_of_one_snapshot() {
    let setup = TestServer::with(&[("level = \"trace\"", "level = \"info\"")]);
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = Arc::new(KeyAndCsr::workload("foo", "bar"));
    let done = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (client, token, csr, done) =
                (client.clone(), token.clone(), csr.clone(), done.clone());
            tokio::spawn(async move {
                let (mut calls, mut bundles) = (0_u32, BTreeSet::new());
                while calls < 2500 || !done.load(Ordering::Relaxed) {
                    // Verified in `Chain`.
                    let chain = client.istio(&token, &csr).await.unwrap();
                    bundles.insert((chain.roots.len(), chain.above[0].fingerprint()));
                    calls += 1;
                }
                bundles
            })
        })
        .collect();
    swap(&setup);
    done.store(true, Ordering::Relaxed);
    let mut seen = BTreeSet::new();
    for worker in workers {
        seen.extend(worker.await.unwrap());
    }
    let issuers: BTreeSet<_> = seen.iter().map(|(_, issuer)| issuer).collect();
    assert!(
        issuers.len() > 3,
        "{} issuing certificates were seen",
        issuers.len()
    );
    server.stop().await;
}

/// New issuing certificates under new roots, each published with the change that uses it.
fn swap(setup: &TestServer) {
    for n in 0..12 {
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
