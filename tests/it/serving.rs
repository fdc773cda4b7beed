//! The server's start, as a load balancer sees it.

use std::time::Duration;

use crate::durability::spied;
use crate::support::openssl::handshake;
use crate::support::trace::strace;

/// `/readyz` is what sends traffic here: by then a client's handshake must succeed. Tracer and spy
/// make the way to the server's own certificate slow enough to see the difference.
#[test]
fn ready_means_that_handshakes_succeed() {
    let mesh = spied();
    let trace = mesh.path("trace");
    let mut server = mesh.serve_by(strace(&trace, &mesh.serve_command()));
    assert!(
        handshake(mesh.port),
        "ready, but no handshake\n{}",
        server.log()
    );
    server.terminate(Duration::from_secs(60));
}
