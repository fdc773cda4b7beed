//! Connections without calls: how many there may be, how long they last, and that callers and probes
//! from elsewhere are served meanwhile.

use std::time::Duration;

use bytes::Bytes;
use rootbridge::mesh::proto::rootbridge_v1::WatchTrustBundleRequest;
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::stranger::{Stranger, Unfinished};
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::strangers::{Honest, ISTIO};

async fn limited(limits: &str) -> (TestServer, RunningServer) {
    let section = format!("[listeners.mesh.limits]\n{limits}\n[jwt.cluster]");
    let quiet = ("level = \"trace\"", "level = \"info\"");
    let setup = TestServer::with(&[("[jwt.cluster]", &section), quiet]);
    let server = setup.serve().await;
    server.client(TD).await;
    (setup, server)
}

/// More connections than there are slots, which send `bytes` and then nothing.
async fn silent(port: u16, roots: &str, bytes: &[u8]) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for octet in [2, 3, 4] {
        let stranger = Stranger::new(octet, port, roots);
        for _ in 0..rounds(300, 3_500) {
            // Refused or reset is as good.
            if let Ok(mut stream) = stranger.tcp().await {
                let _ = stream.write_all(bytes).await;
                all.push(stream);
            }
        }
    }
    all
}

/// On both ports: without a byte, and in the middle of the first request or handshake.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_nobody_out() {
    let limits = "handshake_timeout = \"10m\"\nmax_connections = 100\nmax_handshakes = 64\n";
    let (setup, server) = limited(limits).await;
    let roots = setup.roots(TD);
    let honest = Honest::start(&setup, &server);
    let mut held = Vec::new();
    for bytes in [&b""[..], b"\x16\x03\x01"] {
        held.push(silent(server.port(), &roots, bytes).await);
    }
    for bytes in [
        &b""[..],
        b"GET /livez HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        held.push(silent(server.admin, &roots, bytes).await);
    }
    let served = honest.end().await;
    eprintln!("calls and probes: {served:?}");
    server
        .wait_for_log("TLS handshakes are dropped for newer ones")
        .await;
    let dropped = "rootbridge_listener_dropped_total{listener=\"mesh\",reason=\"handshakes\"}";
    assert!(server.metric(dropped).await.unwrap() > 0.0);
    server.stop_in_order().await;
}

/// Answers that nobody reads do not keep probes out either.
#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_of_the_admin_port_keep_no_probe_out() {
    let setup = TestServer::with(&[("level = \"trace\"", "level = \"info\"")]);
    let server = setup.serve().await;
    let roots = setup.roots(TD);
    let honest = Honest::start(&setup, &server);
    let mut held = Vec::new();
    for octet in 2..30 {
        let stranger = Stranger::new(octet, server.admin, &roots);
        for path in ["/livez", "/metrics", "/metrics", "/readyz"] {
            let stream = stranger.tcp().await.unwrap();
            // A window of nothing: the answer's body cannot be sent.
            let mut client = h2::client::Builder::new();
            client.initial_window_size(0);
            let Ok((send, connection)) = client.handshake::<_, Bytes>(stream).await else {
                continue;
            };
            let driven = tokio::spawn(connection);
            let Ok(mut send) = send.ready().await else {
                continue;
            };
            let request = http::Request::get(format!("http://localhost{path}"));
            let answer = send.send_request(request.body(()).unwrap(), true);
            held.push((driven, answer));
        }
    }
    let served = honest.end().await;
    eprintln!("calls and probes: {served:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_old_connections_are_closed_in_order() {
    let limits = "idle_timeout = \"2s\"\nkeepalive_interval = \"200ms\"\nmax_connection_age = \"6s\"\n\
                  drain_timeout = \"500ms\"\nbody_timeout = \"1s\"\n";
    let (setup, server) = limited(limits).await;
    let roots = setup.roots(TD);
    // Two that answer pings: one has never called, and one has a call that it does not finish.
    let mut idle = Stranger::new(2, server.port(), &roots);
    let _idle = idle.http2().await.unwrap();
    let mut slow = Stranger::new(3, server.port(), &roots);
    let mut call = Unfinished::start(slow.http2().await.unwrap(), ISTIO, 1_000)
        .await
        .unwrap();
    call.send(10).await.unwrap();
    let (head, _) = call.answer.await.unwrap().into_parts();
    assert_eq!(
        head.headers["grpc-status"], "4",
        "DEADLINE_EXCEEDED: {head:?}"
    );

    // A call holds its connection, until the connection is old.
    let watching = server.client(TD).await;
    let started = std::time::Instant::now();
    let watch = watching
        .bundles()
        .watch_trust_bundle(WatchTrustBundleRequest::default())
        .await;
    let mut watch = watch.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    assert!(
        idle.all_ended().await && slow.all_ended().await,
        "no GOAWAY"
    );
    assert!(
        watch.message().await.is_err(),
        "it ends with its connection"
    );
    let took = started.elapsed();
    assert!(took > Duration::from_secs(4), "{took:?}");
    // The same channel connects again, once it has seen the end.
    let mut bundles = watching.bundles();
    eventually(PATIENCE, "another connection", async || {
        let request = WatchTrustBundleRequest::default();
        bundles.watch_trust_bundle(request).await.is_ok()
    })
    .await;
    drop((bundles, watching));
    eventually(PATIENCE, "no connection", async || {
        let open = server
            .metric("rootbridge_listener_connections{listener=\"mesh\"}")
            .await;
        open == Some(0.0)
    })
    .await;
    server.stop_in_order().await;
}
