//! More connections than the process may open files, and a shutdown with silent connections.

use std::process::Command;

use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// `rootbridge serve` with this limit of open files (`SOFT:HARD`).
fn limited(setup: &TestServer, open_files: &str) -> Command {
    let serve = setup.command(&["serve"]);
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--nofile={open_files}"))
        .arg(serve.get_program());
    command.args(serve.get_args());
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

async fn silent(server: &RunningServer, connections: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..connections {
        all.push(
            TcpStream::connect(("127.0.0.1", server.port()))
                .await
                .unwrap(),
        );
    }
    all
}

/// With 64 files and 150 connections probes are answered, the log says once at the start what to do, and
/// callers are served again when the connections are gone.
#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_open_files_wait_and_probes_are_answered() {
    let setup = TestServer::new();
    let server = setup.start_with(limited(&setup, "64")).await;
    server.ready().await;
    server
        .wait_for_log("max_handshakes are more than the open files")
        .await;
    let connections = silent(&server, 150).await;
    for _ in 0..20 {
        let (status, _) = server.get("/livez").await;
        assert_eq!(status, 200);
    }
    let log = server.log();
    let refused = log.matches("connections are not accepted").count();
    assert!(refused <= 1, "{refused} lines");
    drop(connections);
    let client = server.client(TD).await;
    let token = setup.issuer.istio("shop", "cart");
    client
        .istio(&token, &KeyAndCsr::workload("shop", "cart"))
        .await
        .unwrap();
    server.stop().await;
}

/// The soft limit is raised to what the configuration needs, where the hard limit allows it.
#[tokio::test(flavor = "multi_thread")]
async fn the_soft_limit_is_raised() {
    let setup = TestServer::new();
    let server = setup.start_with(limited(&setup, "256:")).await;
    server
        .wait_for_log("the limit of open files is raised")
        .await;
    let path = format!("/proc/{}/limits", server.id());
    let limits = std::fs::read_to_string(path).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let number = |at| line.split_whitespace().nth(at).unwrap().parse::<u64>();
    // What 2000 connections and 512 handshakes need, or all that this machine allows.
    let (soft, hard) = (number(3).unwrap(), number(4).unwrap_or(u64::MAX));
    assert!(soft > 2512 || soft == hard, "{line}");
    let says = server.log().contains("max_handshakes are more than");
    assert_eq!(says, soft < 2512, "{line}");
    server.stop().await;
}

/// Connections that have sent nothing do not delay a shutdown, with or without a handshake.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_connections_that_have_asked_nothing() {
    let limits = "[listeners.mesh.limits]\nhandshake_timeout = \"10m\"\n\n[jwt.cluster]";
    let setup = TestServer::with(&[("[jwt.cluster]", limits)]);
    let mut server = setup.serve().await;
    let mut connections = silent(&server, 5).await;
    // The sixth has sent half of a ClientHello's header.
    connections[0].writable().await.unwrap();
    connections[0].try_write(&[22, 3, 1]).unwrap();
    // All are accepted before the signal.
    let port = server.port();
    eventually(PATIENCE, "accepted connections", async || {
        let tcp = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let local = format!("0100007F:{port:04X}");
        // Established, on the server's side.
        let established = tcp.lines().filter(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"01")
        });
        established.count() == 5
    })
    .await;
    let status = server.terminate(PATIENCE).await;
    assert!(status.success(), "{status}");
    let mut byte = [0];
    let closed = connections[1].read(&mut byte).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert!(
        !server
            .log()
            .contains("still open at the end of the drain timeout")
    );
}
