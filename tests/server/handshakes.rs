//! TLS handshakes that fail: each is counted by its reason, and a proxy with an old root is in the log.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use rootbridge_test_support::tls_client::leaf;
use rootbridge_test_support::{PATIENCE, TD, TestServer, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn failed_handshakes_are_counted_by_reason() {
    let setup = TestServer::new();
    setup.edit("level = \"trace\"", "level = \"info\"");
    let server = setup.serve().await;
    let count = async |reason: &str| {
        let labels = format!("listener=\"mesh\",reason=\"{reason}\"");
        server
            .metric(&format!(
                "rootbridge_listener_handshakes_failed_total{{{labels}}}"
            ))
            .await
    };
    let reasons = [
        "server_certificate",
        "client_certificate",
        "protocol",
        "closed",
        "timeout",
    ];
    for reason in reasons {
        assert_eq!(count(reason).await, Some(0.0), "{reason}");
    }
    leaf(server.port(), "localhost", &setup.roots(TD))
        .await
        .unwrap();

    // A client with another root, and one that expects another name.
    let stranger = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap();
    let old_root = leaf(server.port(), "localhost", &stranger.cert.pem()).await;
    assert!(old_root.unwrap_err().to_string().contains("UnknownIssuer"));
    leaf(server.port(), "other.example", &setup.roots(TD))
        .await
        .unwrap_err();
    server
        .wait_for_log("does not accept this listener's certificate")
        .await;
    // No TLS; and a client that goes away.
    let mut plain = TcpStream::connect(("127.0.0.1", server.port()))
        .await
        .unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    server.wait_for_log("a TLS handshake fails").await;
    drop(
        TcpStream::connect(("127.0.0.1", server.port()))
            .await
            .unwrap(),
    );
    for (reason, expected) in [
        ("server_certificate", 2.0),
        ("protocol", 1.0),
        ("closed", 1.0),
    ] {
        eventually(PATIENCE, reason, async || {
            count(reason).await == Some(expected)
        })
        .await;
    }
    let lines = server
        .log()
        .matches("does not accept this listener's")
        .count();
    assert_eq!(lines, 1, "once a minute");
    server.stop().await;
}
