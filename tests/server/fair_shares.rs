//! A neighbour that floods: what it costs others, and what it gets.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tonic::Code;
use tonic_types::StatusExt as _;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{bearer, istio_request};
use rootbridge_test_support::jwt::claims;
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

const OTHER: &str = "other.example";

/// A second trust domain on the same listener and the same token.
fn two_domains(more: &[(&str, &str)]) -> TestServer {
    let mut edits = vec![
        (
            "jwt = [\"cluster\", \"people\"]",
            "jwt = [\"cluster\", \"other\"]",
        ),
        ("level = \"trace\"", "level = \"info\""),
    ];
    edits.extend(more);
    let setup = TestServer::with(&edits);
    let jwks = setup.path("jwks.json");
    let section = format!(
        "[jwt.other]\nissuer = \"https://other.example\"\ntrust_domain = \"{OTHER}\"\n\
         subject = \"kubernetes\"\naudiences = {{ istio = \"istio-ca\" }}\njwks_file = \"{}\"\n\n\
         [jwt.people]",
        jwks.display()
    );
    setup.edit("[jwt.people]", &section);
    setup.edit(
        "[[policy.rules]]",
        &format!(
            "[[policy.rules]]\ncallers = [\"spiffe://{OTHER}/ns/*/sa/*\"]\nprofiles = \
             [\"workload\"]\nnames = [\"self\"]\n\n[[policy.rules]]"
        ),
    );
    setup.init(OTHER, &[]);
    setup
}

/// Of a pod in the first or the other trust domain.
fn token(setup: &TestServer, domain: &str, pod: &str) -> String {
    let mut claims = claims("shop", "cart", "istio-ca");
    if domain == OTHER {
        claims["iss"] = "https://other.example".into();
    }
    claims["kubernetes.io"]["pod"]["uid"] = pod.into();
    setup.issuer.mint(&claims)
}

/// 600 calls of one trust domain in flight, each of another pod, and a token that takes its time: none of
/// another trust domain's calls is refused.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_refused_for_a_neighbours_flood() {
    let setup = two_domains(&[]);
    let slow = setup.use_faulty_module();
    let server = setup.serve().await;
    let csr = Arc::new(KeyAndCsr::workload("shop", "cart"));
    let done = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicUsize::new(0));
    let refusal = Arc::new(Mutex::new(None));
    slow("sign_ms 50\n");
    let mut flood = Vec::new();
    for n in 0..6 {
        let client = server.client(TD).await;
        for m in 0..100 {
            let token = token(&setup, TD, &format!("noisy-{n}-{m}"));
            let (client, csr, done) = (client.clone(), Arc::clone(&csr), Arc::clone(&done));
            let (refused, refusal) = (Arc::clone(&refused), Arc::clone(&refusal));
            flood.push(tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let body = istio_request(&csr.pem, 0, &[]);
                    let Err(status) = client.create(body, bearer(&token)).await else {
                        continue;
                    };
                    refused.fetch_add(1, Ordering::Relaxed);
                    *refusal.lock().unwrap() = Some(status);
                    // It heeds nothing, but leaves the processors to the test.
                    tokio::time::sleep(Duration::from_millis(3000)).await;
                }
            }));
        }
    }
    eventually(PATIENCE, "the flood is refused in part", async || {
        refused.load(Ordering::Relaxed) > 0
    })
    .await;
    let quiet = server.client(TD).await;
    let other = KeyAndCsr::new(&["spiffe://other.example/ns/shop/sa/cart"]);
    let mut times = Vec::new();
    for n in 0..10 {
        let token = token(&setup, OTHER, &format!("quiet-{n}"));
        let started = Instant::now();
        let body = istio_request(&other.pem, 0, &[]);
        let answer = quiet.create(body, bearer(&token)).await;
        assert!(answer.is_ok(), "call {n}: {answer:?}");
        times.push(started.elapsed());
    }
    done.store(true, Ordering::Relaxed);
    slow("");
    times.sort();
    println!("median {:?}, longest {:?}", times[5], times[9]);
    for call in flood {
        call.await.unwrap();
    }
    let refusal = refusal.lock().unwrap().take().unwrap();
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    let retry = refusal.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(retry, Some(Duration::from_secs(1)));
    let share = "rootbridge_requests_limited_total{trust_domain=\"cluster.local\",cluster=\"\",\
                 limit=\"hsm_queue\",reason=\"share\"}";
    assert!(server.metric(share).await.unwrap() > 0.0);
    server
        .wait_for_log("has its share of the HSM's queue")
        .await;
    server.stop().await;
}

/// A pod that asks too much: refused before anything is recorded, told when to come again, seen in log
/// and metrics; another pod of its account is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_asks_too_much_is_refused_before_anything_is_recorded() {
    let limits = "[admission]\npod = { per_second = 1, burst = 5 }\n\n[jwt.people]";
    let setup = TestServer::with(&[
        ("[jwt.people]", limits),
        ("level = \"trace\"", "level = \"info\""),
    ]);
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let csr = KeyAndCsr::workload("shop", "cart");
    let noisy = token(&setup, TD, "noisy");
    let mut refusals = Vec::new();
    let mut issued = 0;
    for _ in 0..30 {
        let body = istio_request(&csr.pem, 0, &[]);
        match client.create(body, bearer(&noisy)).await {
            Ok(_) => issued += 1,
            Err(status) => refusals.push(status),
        }
    }
    assert!((5..20).contains(&issued), "{issued} of 30");
    for status in &refusals {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let retry = status
            .get_details_retry_info()
            .unwrap()
            .retry_delay
            .unwrap();
        assert!(
            !retry.is_zero() && retry <= Duration::from_secs(1),
            "{retry:?}"
        );
    }
    client
        .istio(&token(&setup, TD, "quiet"), &csr)
        .await
        .unwrap();
    let name = "rootbridge_requests_limited_total{trust_domain=\"cluster.local\",cluster=\"\",\
                limit=\"pod\",reason=\"rate\"}";
    assert_eq!(server.metric(name).await, Some(refusals.len() as f64));
    let logged = "requests more than admission.pod.per_second allows";
    server.wait_for_log(logged).await;
    assert_eq!(
        server.log().matches(logged).count(),
        1,
        "once for each reason and address"
    );
    server.stop().await;
    let recorded = setup.certificates(&["--state", "issued"]);
    let of_cart = recorded
        .iter()
        .filter(|row| row["subject"].as_str().unwrap().contains("/sa/cart"));
    assert_eq!(of_cart.count(), issued + 1);
}
