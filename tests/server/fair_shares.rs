//! A neighbour that floods: what it costs others, and what it gets.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{bearer, istio_request};
use rootbridge_test_support::jwt::claims;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};

const OTHER: &str = "other.example";

/// A second trust domain on the same listener and the same token.
fn two_domains(more: &[(&str, &str)]) -> TestServer {
    let mut edits = vec![
        (
            "jwt = [\"cluster\", \"people\"]",
            "jwt = [\"cluster\", \"other\"]",
        ),
        ("level = \"trace\"", "level = \"info\""),
        // Nothing here is refused for its time, however slow the machine is.
        ("deadline = \"5s\"", "deadline = \"120s\""),
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

/// 600 calls of one trust domain in flight, each of another pod.
struct Flood {
    done: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
    last: Arc<Mutex<Option<Status>>>,
    calls: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Every call that is refused comes again when the answer says.
    async fn start(setup: &TestServer, server: &RunningServer) -> Self {
        let csr = Arc::new(KeyAndCsr::workload("shop", "cart"));
        let done = Arc::new(AtomicBool::new(false));
        let refused = Arc::new(AtomicUsize::new(0));
        let last = Arc::new(Mutex::new(None));
        let mut calls = Vec::new();
        for n in 0..6 {
            let client = server.client(TD).await;
            for m in 0..100 {
                let token = token(setup, TD, &format!("noisy-{n}-{m}"));
                let (client, csr, done) = (client.clone(), Arc::clone(&csr), Arc::clone(&done));
                let (refused, last) = (Arc::clone(&refused), Arc::clone(&last));
                calls.push(tokio::spawn(async move {
                    while !done.load(Ordering::Relaxed) {
                        let body = istio_request(&csr.pem, 0, &[]);
                        let Err(status) = client.create(body, bearer(&token)).await else {
                            continue;
                        };
                        refused.fetch_add(1, Ordering::Relaxed);
                        let retry = status.get_details_retry_info();
                        if retry.is_some() {
                            *last.lock().unwrap() = Some(status);
                        }
                        let pause = retry.and_then(|info| info.retry_delay);
                        let pause = pause.unwrap_or(Duration::from_secs(1));
                        tokio::time::sleep(pause).await;
                    }
                }));
            }
        }
        let flood = Self {
            done,
            refused,
            last,
            calls,
        };
        // With a queue of 256, so many find no room in the first wave.
        eventually(PATIENCE, "the first wave is answered", async || {
            flood.refused.load(Ordering::Relaxed) >= 370
        })
        .await;
        flood
    }

    /// The last refusal.
    async fn end(self) -> Status {
        self.done.store(true, Ordering::Relaxed);
        for call in self.calls {
            call.await.unwrap();
        }
        self.last.lock().unwrap().take().unwrap()
    }
}

/// Calls of the other trust domain, one after the other, none of which may be refused; sorted.
async fn quiet_calls(setup: &TestServer, server: &RunningServer, count: usize) -> Vec<Duration> {
    let quiet = server.client(TD).await;
    let other = KeyAndCsr::new(&["spiffe://other.example/ns/shop/sa/cart"]);
    let mut times = Vec::new();
    for n in 0..count {
        let token = token(setup, OTHER, &format!("quiet-{n}"));
        let body = istio_request(&other.pem, 0, &[]);
        let started = Instant::now();
        let answer = quiet.create(body, bearer(&token)).await;
        assert!(answer.is_ok(), "call {n}: {answer:?}");
        times.push(started.elapsed());
    }
    times.sort();
    times
}

/// A token that takes its time, and 600 calls of one trust domain in flight: none of another trust
/// domain's calls is refused.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_refused_for_a_neighbours_flood() {
    let setup = two_domains(&[]);
    let slow = setup.use_faulty_module();
    let server = setup.serve().await;
    slow("sign_ms 50\n");
    let flood = Flood::start(&setup, &server).await;
    quiet_calls(&setup, &server, 10).await;
    slow("");
    let refusal = flood.end().await;
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    let retry = refusal.get_details_retry_info().unwrap().retry_delay;
    let expected = Duration::from_secs(1)..=Duration::from_secs(3);
    assert!(expected.contains(&retry.unwrap()), "{retry:?}");
    let share = "rootbridge_requests_limited_total{trust_domain=\"cluster.local\",cluster=\"\",\
                 limit=\"hsm_queue\",reason=\"share\"}";
    assert!(server.metric(share).await.unwrap() > 0.0);
    server
        .wait_for_log("has its share of the HSM's queue")
        .await;
    server.stop().await;
}

/// `make abuse`: what the flood costs the other trust domain in time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures, on a machine without other load"]
async fn a_neighbours_flood_in_figures() {
    let setup = two_domains(&[]);
    let slow = setup.use_faulty_module();
    let server = setup.serve().await;
    slow("sign_ms 20\n");
    let count = rounds(200, 1000);
    quiet_calls(&setup, &server, 20).await;
    let alone = quiet_calls(&setup, &server, count).await;
    let flood = Flood::start(&setup, &server).await;
    // After the first wave, whose checks alone take the processors' time.
    let issued =
        "rootbridge_certificates_issued_total{trust_domain=\"cluster.local\",method=\"jwt\"}";
    eventually(PATIENCE, "the first wave is signed", async || {
        server.metric(issued).await.unwrap_or_default() >= 300.0
    })
    .await;
    let beside = quiet_calls(&setup, &server, count).await;
    flood.end().await;
    server.stop().await;
    let of = |times: &[Duration], percent: usize| times[times.len() * percent / 100];
    for (name, times) in [("alone", &alone), ("beside the flood", &beside)] {
        let (p50, p99) = (of(times, 50), of(times, 99));
        eprintln!(
            "{name}: p50 {p50:?}, p99 {p99:?}, longest {:?}",
            times[times.len() - 1]
        );
    }
    let factor = of(&beside, 99).as_secs_f64() / of(&alone, 99).as_secs_f64();
    eprintln!("p99 beside the flood: {factor:.2} times that alone; none of {count} refused");
    assert!(factor < 2.0, "{factor:.2}");
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
    // All at once, because a slow machine earns more while it works.
    let calls = (0..30).map(|_| client.create(istio_request(&csr.pem, 0, &[]), bearer(&noisy)));
    let answers = futures_util::future::join_all(calls).await;
    let (issued, refusals): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    let issued = issued.len();
    let refusals: Vec<_> = refusals.into_iter().map(Result::unwrap_err).collect();
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
