//! A workload under mTLS: it renews, and verifies its peers with the roots that it holds.

use std::io;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rootbridge::x509::Certificate;
use rootbridge_test_support::RunningServer;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::grpc::Client;
use rootbridge_test_support::mutual_tls::{Connection, Peer};

use super::LIFETIME;

/// A workload that verifies its peers, and is verified by them.
pub(super) struct Workload {
    pub(super) account: String,
    pub(super) token: String,
    pub(super) peer: Peer,
    pub(super) not_after: i64,
    /// It reads its roots from the cluster's object instead of its certificate's answer.
    pub(super) reads: bool,
    pub(super) at: Instant,
}

impl Workload {
    /// A new certificate, over a connection that is verified with the roots that it holds.
    /// `Err(Some)` if these do not verify the server.
    pub(super) async fn renew(&mut self, server: &RunningServer) -> Result<(), Option<String>> {
        let roots: String = self.peer.roots.iter().map(Certificate::to_pem).collect();
        let connection = Client::connect(server.port(), &roots, None).await;
        let connection = connection.map_err(|error| {
            let error = format!("{error:?}");
            // The second is what is said of another key of the same name.
            let refused = error.contains("UnknownIssuer") || error.contains("BadSignature");
            refused.then(|| format!("{} to the server: {error}", self.account))
        })?;
        let csr = KeyAndCsr::workload("shop", &self.account);
        let seconds = i64::try_from(LIFETIME.as_secs()).unwrap();
        let answer = connection.istio_for(&self.token, &csr, seconds).await;
        let answer = answer.map_err(|_| None)?;
        let roots = match self.reads {
            true => &self.peer.roots,
            false => &answer.roots,
        };
        self.peer = Peer::new(&answer.pem(), csr.key.serialize_der(), roots);
        self.not_after = answer.leaf.not_after().secs();
        self.at = Instant::now();
        Ok(())
    }

    pub(super) fn has_expired(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(now.as_secs()).unwrap() + 1 >= self.not_after
    }

    /// A mutual handshake, each side with its own roots.
    pub(super) async fn connect(&self, other: &Self) -> io::Result<Connection> {
        self.peer.connect(&other.peer).await
    }
}
