//! `/readyz`, as a load balancer uses it.

use std::time::Duration;

use crate::durability::{serve_command, serve_spied, spied};
use crate::support::handshake;
use crate::support::trace::strace;

/// A load balancer sends traffic once `/readyz` succeeds: by then handshakes must succeed. Tracer
/// and spy delay the server's own certificate long enough to see the difference.
#[tokio::test]
async fn ready_means_that_handshakes_succeed() {
    let setup = spied();
    let trace = setup.path("trace");
    let mut server = serve_spied(&setup, strace(&trace, &serve_command(&setup))).await;
    assert!(
        handshake(setup.port),
        "ready, but no handshake\n{}",
        server.log()
    );
    server.terminate(Duration::from_secs(60)).await;
}
