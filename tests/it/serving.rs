//! The server's start, as a load balancer sees it.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::mesh::Mesh;
use crate::support::openssl::handshake;

/// `/readyz` is what sends traffic here: by then a client's handshake must succeed, however slow
/// the disk was with the record of the server's own certificate.
#[test]
fn ready_means_that_handshakes_succeed() {
    let mesh = Mesh::new();
    let serve = mesh.command(&["serve"]);
    let mut slow = Command::new("strace");
    slow.args(["-D", "-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"])
        .args(["-e", "inject=fdatasync,fsync:delay_enter=300000"])
        .arg(serve.get_program())
        .args(serve.get_args())
        .stdin(Stdio::null());
    for (name, value) in serve.get_envs() {
        slow.env(name, value.unwrap_or_default());
    }
    let mut server = mesh.serve_by(slow);
    assert!(
        handshake(mesh.port),
        "ready, but no handshake\n{}",
        server.log()
    );
    server.terminate(Duration::from_secs(60));
}
