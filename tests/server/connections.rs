//! Connections without calls: how many there may be, how long they last, and that callers and probes
//! from elsewhere are served meanwhile.

use std::time::Duration;

use bytes::Bytes;
use rootbridge::mesh::proto::rootbridge_v1::WatchTrustBundleRequest;
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::stranger::{GOAWAY, PING, Stranger, Unfinished};
use rootbridge_test_support::{Client, PATIENCE, RunningServer, TD, TestServer, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::strangers::{BOUND, Honest, ISTIO, WATCH};

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
    // More addresses than have a part of all handshakes each.
    for octet in 2..12 {
        let stranger = Stranger::new(octet, port, roots);
        for _ in 0..rounds(90, 1_050) {
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
    server.reset_peak_memory();
    let before = server.memory();
    let mut held = Vec::new();
    for bytes in [&b""[..], b"\x16\x03\x01"] {
        drop(held);
        held = silent(server.port(), &roots, bytes).await;
    }
    for bytes in [
        &b""[..],
        b"GET /livez HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        drop(held);
        held = silent(server.admin, &roots, bytes).await;
    }
    let served = honest.end().await;
    let more = server.peak_memory().saturating_sub(before);
    eprintln!("{} KiB more; calls and probes: {served:?}", more / 1024);
    assert!(more < BOUND, "{} KiB more", more / 1024);
    drop(held);
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

/// Connections with a call that has no end: one source keeps as many as it may have, a load balancer
/// more.
#[tokio::test(flavor = "multi_thread")]
async fn one_source_leaves_connections_to_others() {
    let limits = "max_connections = 30\nmax_connections_per_source = 10\n\
                  shared_sources = [\"127.0.0.3/32\"]\nhandshake_timeout = \"2s\"\n\
                  request_memory_bytes = 4194304\n";
    let (setup, server) = limited(limits).await;
    let roots = setup.roots(TD);
    let honest = Honest::start(&setup, &server);
    let mut held = Vec::new();
    for (octet, attempts, most) in [(2, 40, 10), (3, 15, 15)] {
        let mut stranger = Stranger::new(octet, server.port(), &roots);
        let (mut calls, mut answered) = (Vec::new(), Vec::new());
        for attempt in 0..attempts {
            let Ok(connection) = stranger.http2().await else {
                continue;
            };
            let Ok(mut call) = Unfinished::start(connection, WATCH, 0).await else {
                continue;
            };
            let _ = call.end();
            match attempt < most {
                // Its connection is not idle when the next one comes.
                true => answered.push(in_time(call.answer).await.unwrap()),
                false => calls.push(call),
            }
        }
        for call in calls {
            // They are closed when their handshake's time is over.
            answered.extend(in_time(call.answer).await);
        }
        assert_eq!(answered.len(), most, "127.0.0.{octet}");
        held.push((stranger, answered));
    }
    // A quarter of the memory for requests is for 85 of at least 12 KiB, until their answers are read.
    let mut stranger = Stranger::new(4, server.port(), &roots);
    let connection = stranger.http2_reading(0).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..100 {
        let mut call = Unfinished::start(connection.clone(), WATCH, 0)
            .await
            .unwrap();
        let _ = call.end();
        answers.push(in_time(call.answer).await.unwrap());
    }
    let statuses: Vec<_> = answers
        .iter()
        .map(|each| each.headers().get("grpc-status"))
        .collect();
    let begun = statuses.iter().filter(|status| status.is_none()).count();
    assert!((50..=85).contains(&begun), "{begun} of {}", statuses.len());
    let refused = |status: &&Option<_>| status.is_some_and(|status| status == "8");
    assert_eq!(
        statuses.iter().filter(refused).count(),
        100 - begun,
        "RESOURCE_EXHAUSTED"
    );
    honest.end().await;
    server.wait_for_log("name it in shared_sources").await;
    server.wait_for_log("request_memory_bytes are in use").await;
    server.stop().await;
}

/// What happens within [`PATIENCE`].
async fn in_time<F: Future>(step: F) -> F::Output {
    let ended = tokio::time::timeout(PATIENCE, step).await;
    ended.expect("it has not happened yet")
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_old_connections_are_closed_in_order() {
    // The second has a short grace for calls, of which the first needs none.
    let limits = "idle_timeout = \"2s\"\nkeepalive_interval = \"200ms\"\nbody_timeout = \"1s\"\n\
                  drain_timeout = \"60s\"\n\
                  [listeners.aging]\naddress = \"127.0.0.1:0\"\napis = [\"bundles\"]\n\
                  [listeners.aging.tls]\ntrust_domain = \"cluster.local\"\ndns = [\"localhost\"]\n\
                  [listeners.aging.limits]\nmax_connection_age = \"6s\"\ndrain_timeout = \"500ms\"\n";
    let (setup, server) = limited(limits).await;
    let roots = setup.roots(TD);
    // Two that answer pings: one has never called, and one has a call that it does not finish.
    let idle = Stranger::new(2, server.port(), &roots);
    let idle = tokio::spawn(async move { idle.idle_until_its_end().await });
    let mut slow = Stranger::new(3, server.port(), &roots);
    let mut call = Unfinished::start(slow.http2().await.unwrap(), ISTIO, 1_000)
        .await
        .unwrap();
    // It may be too late already.
    let _ = call.send(10).await;
    let (head, _) = in_time(call.answer).await.unwrap().into_parts();
    assert_eq!(
        head.headers["grpc-status"], "4",
        "DEADLINE_EXCEEDED: {head:?}"
    );

    // A call holds its connection, until the connection is old.
    let started = std::time::Instant::now();
    let connecting = Client::connect(server.port_of("aging"), &roots, None);
    let watching = connecting.await.unwrap();
    let mut bundles = watching.bundles();
    let mut watch = None;
    eventually(PATIENCE, "a watch", async || {
        let request = WatchTrustBundleRequest::default();
        watch = bundles.watch_trust_bundle(request).await.ok();
        watch.is_some()
    })
    .await;
    let mut watch = watch.unwrap().into_inner();
    let frames = in_time(idle).await.unwrap();
    assert!(frames.contains(&PING), "{frames:?}");
    assert!(frames.contains(&GOAWAY), "{frames:?}");
    in_time(slow.all_ended()).await;
    let ends = async { while watch.message().await.is_ok() {} };
    in_time(ends).await;
    let took = started.elapsed();
    assert!(took > Duration::from_secs(4), "{took:?}");
    // The same channel connects again, once it has seen the end.
    eventually(PATIENCE, "another connection", async || {
        let request = WatchTrustBundleRequest::default();
        bundles.watch_trust_bundle(request).await.is_ok()
    })
    .await;
    drop((bundles, watching));
    eventually(PATIENCE, "no connection", async || {
        let open = server
            .metric("rootbridge_listener_connections{listener=\"aging\"}")
            .await;
        open == Some(0.0)
    })
    .await;
    server.stop_in_order().await;
}
