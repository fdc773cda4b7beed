//! What a client may do to a listener, and what that costs the others: nothing.

use std::time::{Duration, Instant};

use rootbridge::mesh::proto::rootbridge_v1::WatchTrustBundleRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::{bearer, istio_request, sign_request};
use rootbridge_test_support::tls_client::handshake;
use rootbridge_test_support::{Client, PATIENCE, RunningServer, TD, TestServer, eventually};

const LIMITS: &str = "[listeners.mesh.limits]\nhandshake_timeout = \"500ms\"\nmax_streams = 3\n\
                      max_connections = 8\nmax_header_bytes = 20480\n\n[jwt.cluster]";

async fn limited() -> (TestServer, RunningServer) {
    let setup = TestServer::with(&[("[jwt.cluster]", LIMITS)]);
    let server = setup.serve().await;
    server.client(TD).await;
    (setup, server)
}

/// Waits for the other end to close; answers how long that took.
async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Duration {
    let started = Instant::now();
    let mut bytes = vec![0; 4096];
    tokio::time::timeout(Duration::from_secs(20), async {
        while matches!(stream.read(&mut bytes).await, Ok(read) if read > 0) {}
    })
    .await
    .expect("it is still open");
    started.elapsed()
}

async fn still_serves(setup: &TestServer, server: &RunningServer) {
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    client
        .istio(&token, &KeyAndCsr::workload("foo", "bar"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_headers_have_a_size() {
    let (setup, server) = limited().await;
    let client = server.client(TD).await;
    let token = setup.issuer.istio("foo", "bar");
    let csr = KeyAndCsr::workload("foo", "bar");

    let big = "x".repeat(70_000);
    let answer = client
        .create(istio_request(&big, 0, &[]), bearer(&token))
        .await;
    assert_eq!(answer.unwrap_err().code(), Code::OutOfRange);
    let mut body = sign_request(&csr, "workload", &[]);
    body.names = vec!["x".repeat(1000); 70];
    assert_eq!(
        client.sign(&setup.operator, body).await.unwrap_err().code(),
        Code::OutOfRange
    );

    let mut headers = bearer(&token);
    headers.insert("x-filler", "x".repeat(30_000).parse().unwrap());
    let answer = client
        .create(istio_request(&csr.pem, 0, &[]), headers)
        .await;
    assert!(answer.is_err(), "{answer:?}");
    // A token at its own limit fits.
    let answer = client
        .create(istio_request(&csr.pem, 0, &[]), bearer(&"x".repeat(16_000)))
        .await;
    assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated);
    still_serves(&setup, &server).await;
    server.stop().await;
}

/// Silent clients are disconnected: before the handshake, after it, and between two requests.
#[tokio::test(flavor = "multi_thread")]
async fn silence_is_bounded() {
    let (setup, server) = limited().await;
    let roots = setup.roots(TD);
    let bound = Duration::from_millis(300)..Duration::from_secs(10);
    let mut silent = TcpStream::connect(("127.0.0.1", server.port()))
        .await
        .unwrap();
    assert!(bound.contains(&closed(&mut silent).await), "no handshake");

    for alpn in [&[b"h2".as_slice()][..], &[b"http/1.1"], &[]] {
        let tls = || {
            handshake(
                server.port(),
                "localhost",
                &roots,
                rustls::DEFAULT_VERSIONS,
                &[],
                alpn,
            )
        };
        let mut handshake = tls().await.unwrap();
        let took = closed(&mut handshake.stream).await;
        assert!(
            bound.contains(&took),
            "nothing after the handshake, {alpn:?}: {took:?}"
        );
        let mut handshake = tls().await.unwrap();
        handshake
            .stream
            .write_all(b"PRI * HTTP/2.0\r\n")
            .await
            .unwrap();
        let took = closed(&mut handshake.stream).await;
        assert!(bound.contains(&took), "half a preface, {alpn:?}: {took:?}");
    }
    let tls = || {
        handshake(
            server.port(),
            "localhost",
            &roots,
            rustls::DEFAULT_VERSIONS,
            &[],
            &[b"http/1.1"],
        )
    };
    let mut slow = tls().await.unwrap();
    let head = b"GET /v1/trust-bundles/cluster.local HTTP/1.1\r\nHost: localhost\r\n";
    slow.stream.write_all(head).await.unwrap();
    assert!(
        bound.contains(&closed(&mut slow.stream).await),
        "half a header"
    );
    let mut idle = tls().await.unwrap();
    idle.stream
        .write_all(&[head.as_slice(), b"\r\n"].concat())
        .await
        .unwrap();
    assert!(
        bound.contains(&closed(&mut idle.stream).await),
        "idle after a request"
    );
    // A header without an end.
    let mut endless = tls().await.unwrap();
    endless.stream.write_all(head).await.unwrap();
    let filler = format!("x-filler: {}\r\n", "x".repeat(1000));
    for _ in 0..100 {
        if endless.stream.write_all(filler.as_bytes()).await.is_err() {
            break;
        }
    }
    closed(&mut endless.stream).await;
    still_serves(&setup, &server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_to_the_tls_port_is_no_danger() {
    let (setup, server) = limited().await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0x16; 5000],
        &[0; 100],
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port()))
            .await
            .unwrap();
        stream.write_all(bytes).await.unwrap();
        closed(&mut stream).await;
    }
    still_serves(&setup, &server).await;
    server.stop().await;
}

/// More streams than one connection may have wait for their turn; other connections do not.
#[tokio::test(flavor = "multi_thread")]
async fn streams_and_connections_are_counted() {
    let (setup, server) = limited().await;
    let greedy = server.client(TD).await;
    let watch = |client: &Client| {
        let mut bundles = client.bundles();
        async move {
            bundles
                .watch_trust_bundle(WatchTrustBundleRequest::default())
                .await
        }
    };
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(watch(&greedy).await.unwrap());
    }
    let fourth = tokio::time::timeout(Duration::from_secs(1), watch(&greedy)).await;
    assert!(fourth.is_err(), "a fourth stream beside three");
    still_serves(&setup, &server).await;
    held.pop();
    tokio::time::timeout(Duration::from_secs(5), watch(&greedy))
        .await
        .unwrap()
        .unwrap();

    // Connections with a call: the ninth waits until one of the eight has none.
    let mut others = Vec::new();
    while others.len() < 7 {
        let other = server.client(TD).await;
        others.push((watch(&other).await.unwrap(), other));
    }
    let roots = setup.roots(TD);
    let ninth = async || {
        let call = async {
            watch(&Client::connect(server.port(), &roots, None).await.ok()?)
                .await
                .ok()
        };
        let called = tokio::time::timeout(Duration::from_secs(2), call).await;
        called.ok().flatten().is_some()
    };
    assert!(!ninth().await, "a ninth connection beside eight calls");
    // The admin port has its own.
    assert_eq!(server.get("/livez").await.0, 200);
    let (stream, idle) = others.pop().unwrap();
    drop(stream);
    eventually(PATIENCE, "the slot of an idle one", async || ninth().await).await;
    server.wait_for_log("idle connections are closed for").await;
    // The client connects again by itself, and loses nothing but the connection.
    others.clear();
    // A call that meets the close itself is made again.
    let again = async || watch(&idle).await.is_ok();
    eventually(PATIENCE, "another connection", again).await;
    server.stop().await;
}
