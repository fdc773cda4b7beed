//! Peers without a credential: what they cost the server, and that others are served meanwhile.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use rootbridge::mesh::proto::rootbridge_v1::GetTrustBundleRequest;
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::stranger::{Stranger, Unfinished};
use rootbridge_test_support::{Client, PATIENCE, RunningServer, TD, TestServer};

const MIB: u64 = 1024 * 1024;
/// What one stranger may cost, whatever it sends.
pub(crate) const BOUND: u64 = 64 * MIB;

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
pub(crate) const WATCH: &str = "/rootbridge.v1.TrustBundleService/WatchTrustBundle";
pub(crate) const ISTIO: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// A caller and a probe that ask every 100 ms, each time over a new connection.
pub(crate) struct Honest {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<(usize, Duration)>,
    probes: JoinHandle<(usize, Duration)>,
}

impl Honest {
    pub(crate) fn start(setup: &TestServer, server: &RunningServer) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (port, admin, roots) = (server.port(), server.admin, setup.roots(TD));
        let calls = repeated(Arc::clone(&stop), move || {
            let roots = roots.clone();
            async move {
                let client = Client::connect(port, &roots, None).await.unwrap();
                let request = GetTrustBundleRequest::default();
                client.bundles().get_trust_bundle(request).await.unwrap();
            }
        });
        let probes = repeated(Arc::clone(&stop), move || async move {
            let answer = tokio::task::spawn_blocking(move || probe(admin));
            let answer = answer.await.unwrap().unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        });
        let (calls, probes) = (tokio::spawn(calls), tokio::spawn(probes));
        Self {
            stop,
            calls,
            probes,
        }
    }

    /// None has failed; returns how many there were and the slowest of each.
    pub(crate) async fn end(self) -> [(usize, Duration); 2] {
        self.stop.store(true, Ordering::Relaxed);
        [self.calls.await.unwrap(), self.probes.await.unwrap()]
    }
}

/// As a kubelet asks, in a thread of its own: one that connects and then waits for its turn to send
/// is dropped for it.
fn probe(admin: u16) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", admin))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

async fn repeated<F: Future<Output = ()>>(
    stop: Arc<AtomicBool>,
    once: impl Fn() -> F,
) -> (usize, Duration) {
    let (mut done, mut slowest) = (0, Duration::ZERO);
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    // Once more after the end: at least one is begun and served in any case.
    let mut last = false;
    while !last {
        last = stop.load(Ordering::Relaxed);
        let started = Instant::now();
        once().await;
        slowest = slowest.max(started.elapsed());
        done += 1;
        pace.tick().await;
    }
    (done, slowest)
}

/// What `attack` costs beyond what was there before any, while others are served.
async fn cost<T>(
    setup: &TestServer,
    server: &RunningServer,
    before: u64,
    name: &str,
    attack: impl AsyncFnOnce() -> T,
) -> (u64, T) {
    let honest = Honest::start(setup, server);
    server.reset_peak_memory();
    let held = attack().await;
    let served = honest.end().await;
    let more = server.peak_memory().saturating_sub(before);
    eprintln!(
        "{name}: {} KiB more; calls and probes: {served:?}",
        more / 1024
    );
    (more, held)
}

/// Messages of 4 MB by their prefix, to services that anyone may call.
async fn unfinished(
    stranger: &mut Stranger,
    path: &str,
    streams: usize,
    bytes: usize,
) -> Vec<Unfinished> {
    let connection = stranger.http2().await.unwrap();
    let mut all = Vec::new();
    for _ in 0..streams {
        let Ok(mut call) = Unfinished::start(connection.clone(), path, 4_000_000).await else {
            break;
        };
        let sent = tokio::time::timeout(Duration::from_millis(500), call.send(bytes)).await;
        if matches!(sent, Ok(Ok(()))) {
            all.push(call);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_messages_cost_little() {
    let setup = TestServer::with(&[("level = \"trace\"", "level = \"info\"")]);
    let server = setup.serve().await;
    let (port, roots) = (server.port(), setup.roots(TD));
    // What honest callers need is there before.
    Honest::start(&setup, &server).end().await;
    let before = server.memory();
    // Connections that have called and are idle: what `instance.memory_mib` counts for each.
    let mut stranger = Stranger::with_chain(10, port, &roots, 15_000);
    let (more, held) = cost(&setup, &server, before, "idle connections", async || {
        let mut held = Vec::new();
        for _ in 0..200 {
            let connection = stranger.http2().await.unwrap();
            let call = Unfinished::start(connection.clone(), HEALTH, 0).await;
            let mut call = call.unwrap();
            call.end().unwrap();
            let answer = call.answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            held.push((connection, answer));
        }
        held
    })
    .await;
    assert!(
        more < 200 * 96 * 1024,
        "a connection: {} KiB",
        more / 200 / 1024
    );
    drop(held);
    let mut all = vec![("idle connections", more)];
    for (octet, path) in [(2, HEALTH), (3, REFLECTION)] {
        let mut stranger = Stranger::new(octet, port, &roots);
        let call = Unfinished::start(stranger.http2().await.unwrap(), HEALTH, 4_097);
        let answer = tokio::time::timeout(PATIENCE, call.await.unwrap().answer);
        let answer = answer.await.unwrap().unwrap();
        let status = &answer.headers()["grpc-status"];
        assert_eq!(status, "11", "OUT_OF_RANGE");
        let (more, _held) = cost(&setup, &server, before, path, async || {
            unfinished(&mut stranger, path, 100, 1_500_000).await
        })
        .await;
        all.push((path, more));
    }
    let mut stranger = Stranger::new(4, port, &roots);
    let (more, _held) = cost(&setup, &server, before, "20 x 100 messages", async || {
        let mut held = Vec::new();
        for _ in 0..20 {
            let connection = stranger.http2().await.unwrap();
            for _ in 0..100 {
                let started = Unfinished::start(connection.clone(), ISTIO, 65_000).await;
                let Ok(mut call) = started else { continue };
                let _ = tokio::time::timeout(Duration::from_millis(500), call.send(64_000)).await;
                held.push(call);
            }
        }
        held
    })
    .await;
    all.push((ISTIO, more));
    // Many headers, which HTTP/2 packs into a byte each.
    let mut stranger = Stranger::new(7, port, &roots);
    let (more, _held) = cost(
        &setup,
        &server,
        before,
        "20 x 100 x 1700 headers",
        async || {
            let mut held = Vec::new();
            for _ in 0..20 {
                let connection = stranger.http2().await.unwrap();
                for _ in 0..100 {
                    held.extend(
                        Unfinished::with_headers(connection.clone(), ISTIO, 65_000, 1_700).await,
                    );
                }
            }
            held
        },
    )
    .await;
    all.push(("headers", more));
    // Answers that are not read: of a stream that has no end, and of bundles.
    for (octet, window) in [(8, 0), (9, 1)].into_iter().take(rounds(1, 2)) {
        let mut stranger = Stranger::new(octet, port, &roots);
        let (more, _held) = cost(
            &setup,
            &server,
            before,
            "20 x 100 unread answers",
            async || {
                let mut held = Vec::new();
                for _ in 0..rounds(7, 20) {
                    let connection = stranger.http2_reading(window).await.unwrap();
                    for _ in 0..100 {
                        let mut call = Unfinished::start(connection.clone(), WATCH, 0)
                            .await
                            .unwrap();
                        call.end().unwrap();
                        held.push(call);
                    }
                }
                held
            },
        )
        .await;
        all.push(("unread answers", more));
    }
    for (octet, bytes) in [(5, 60_000), (6, 15_000)] {
        let mut stranger = Stranger::with_chain(octet, port, &roots, bytes);
        let (more, _held) = cost(&setup, &server, before, "long chains", async || {
            let mut held = Vec::new();
            for _ in 0..300 {
                held.extend(stranger.http2().await);
            }
            held
        })
        .await;
        all.push(("client chains", more));
        if bytes > 16_384 {
            let refused = tokio::time::timeout(PATIENCE, stranger.all_ended()).await;
            refused.expect("a chain of 60 KB is kept");
        }
    }
    for (name, more) in all {
        assert!(more < BOUND, "{name}: {} KiB more", more / 1024);
    }
    server.stop_in_order().await;
}
