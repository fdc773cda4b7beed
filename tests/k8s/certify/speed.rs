//! `Certify` beside Istio's call, of one server in one run:
//! `cargo test --release --test k8s -- --ignored --nocapture beside_istio`.
//! PAIRS (10), SECONDS (3) of a window and TASKS (64) may be given.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use linkerd2_proxy_api::identity::CertifyRequest;
use rootbridge::mesh::proto::istio::IstioCertificateRequest;
use tonic::metadata::MetadataMap;

use super::proxy::{Proxy, name, request};
use super::{AUDIENCE, LISTENER};
use crate::callers::headers;
use crate::speed::setting;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::istio_request;
use rootbridge_test_support::jwt::claims;
use rootbridge_test_support::{Client, RunningServer, TD, TestServer};

/// Different calls of each kind, which are repeated.
const CALLS: usize = 2000;
/// One for so many tasks.
const CONNECTIONS: usize = 16;

struct Istio(Vec<Client>, Vec<(IstioCertificateRequest, MetadataMap)>);
struct Linkerd(Vec<Proxy>, Vec<CertifyRequest>);

/// What a window came to.
struct Window {
    rate: f64,
    /// CPU time of the server for a certificate, in microseconds.
    cpu: f64,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute of load; for figures"]
async fn beside_istio() {
    let (pairs, tasks) = (setting("PAIRS", 10), setting("TASKS", 64));
    let span = Duration::from_secs(setting("SECONDS", 3) as u64);
    let setup = TestServer::with(&[
        (
            "istio = \"istio-ca\"",
            &format!("linkerd = \"{AUDIENCE}\", istio = \"istio-ca\""),
        ),
        ("level = \"trace\"", "level = \"info\""),
        (
            "[jwt.cluster]",
            &format!(
                "{}\n[jwt.cluster]",
                LISTENER.replace("clusters = [\"east\"]", "jwt = [\"cluster\"]")
            ),
        ),
    ]);
    let server = setup.serve().await;
    let istio = Arc::new(istio(&setup, &server).await);
    let linkerd = Arc::new(linkerd(&setup, &server).await);
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        // Who begins changes, so that a machine that becomes busier favours neither.
        let (one, other) = match pair % 2 {
            0 => {
                let one = by_istio(&server, &istio, tasks, span).await;
                (one, by_linkerd(&server, &linkerd, tasks, span).await)
            }
            _ => {
                let other = by_linkerd(&server, &linkerd, tasks, span).await;
                (by_istio(&server, &istio, tasks, span).await, other)
            }
        };
        eprintln!(
            "pair {pair}: Istio {:.0} CSR/s at {:.0} us of CPU, Linkerd {:.0} CSR/s at {:.0} us",
            one.rate, one.cpu, other.rate, other.cpu
        );
        rates.push(other.rate / one.rate);
        costs.push(other.cpu / one.cpu);
    }
    let (rate, cost) = (median(&mut rates), median(&mut costs));
    eprintln!("Linkerd's rate is {rate:.2} of Istio's, its CPU time {cost:.2}, in the median");
    assert!(rate >= 0.9, "{rates:?}");
}

fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn account(number: usize) -> (String, String) {
    (format!("ns-{}", number % 50), format!("sa-{number}"))
}

async fn istio(setup: &TestServer, server: &RunningServer) -> Istio {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(server.client(TD).await);
    }
    let calls = (0..CALLS).map(|number| {
        let (ns, sa) = account(number);
        let csr = KeyAndCsr::workload(&ns, &sa);
        let token = setup.issuer.istio(&ns, &sa);
        (istio_request(&csr.pem, 86_400, &[]), headers(&token, None))
    });
    Istio(clients, calls.collect())
}

async fn linkerd(setup: &TestServer, server: &RunningServer) -> Linkerd {
    let mut proxies = Vec::new();
    for _ in 0..CONNECTIONS {
        let port = server.port_of("identity");
        let proxy = Proxy::connect(port, &setup.roots(TD), None).await;
        proxies.push(proxy.unwrap());
    }
    let calls = (0..CALLS).map(|number| {
        let (ns, sa) = account(number);
        let name = name(&ns, &sa);
        let token = setup.issuer.mint(&claims(&ns, &sa, AUDIENCE));
        request(&name, &token, &KeyAndCsr::new(&[&name]))
    });
    Linkerd(proxies, calls.collect())
}

async fn by_istio(
    server: &RunningServer,
    with: &Arc<Istio>,
    tasks: usize,
    span: Duration,
) -> Window {
    window(server, tasks, span, |task, call| {
        let with = Arc::clone(with);
        async move {
            let (body, headers) = with.1[call % CALLS].clone();
            let answer = with.0[task % CONNECTIONS].create(body, headers).await;
            assert!(answer.unwrap().cert_chain.len() >= 2);
        }
    })
    .await
}

async fn by_linkerd(
    server: &RunningServer,
    with: &Arc<Linkerd>,
    tasks: usize,
    span: Duration,
) -> Window {
    window(server, tasks, span, |task, call| {
        let with = Arc::clone(with);
        async move {
            let call = with.1[call % CALLS].clone();
            let answer = with.0[task % CONNECTIONS].certify(call).await;
            assert!(!answer.unwrap().leaf_certificate.is_empty());
        }
    })
    .await
}

/// `tasks` calls at a time for `span`, each task one after another.
async fn window<F, C>(server: &RunningServer, tasks: usize, span: Duration, call: F) -> Window
where
    F: Fn(usize, usize) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let next = AtomicUsize::new(0);
    let before = cpu_time(server);
    let started = Instant::now();
    let running = (0..tasks).map(|task| {
        let (next, call) = (&next, &call);
        async move {
            let mut done = 0_u32;
            while started.elapsed() < span {
                let number = next.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(call(task, number)).await.unwrap();
                done += 1;
            }
            done
        }
    });
    let done: u32 = futures_util::future::join_all(running).await.iter().sum();
    let took = started.elapsed().as_secs_f64();
    let cpu = cpu_time(server) - before;
    Window {
        rate: f64::from(done) / took,
        cpu: cpu * 1e6 / f64::from(done),
    }
}

/// Seconds of CPU that the server has used.
fn cpu_time(server: &RunningServer) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // utime and stime (proc(5)), in ticks of 10 ms.
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
