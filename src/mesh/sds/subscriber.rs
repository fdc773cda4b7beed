//! Who reads a stream, and what it says of what it was sent.

use std::net::SocketAddr;

use super::metrics::{Counted, SdsMetrics, State};
use crate::authn::Caller;
use crate::mesh::proto::envoy::config::core::v3::Node;
use crate::mesh::proto::google::rpc;
use crate::net::Peer;

/// The longest text of a client that is logged, in characters.
const MAX_TEXT: usize = 512;

#[derive(Debug)]
pub(super) struct Subscriber {
    listener: String,
    caller: String,
    peer: Option<SocketAddr>,
    node: String,
    /// Of the last answer.
    nonce: u64,
    counted: Counted,
}

impl Subscriber {
    pub(super) fn new(
        listener: &str,
        caller: &Caller,
        peer: Option<&Peer>,
        metrics: &SdsMetrics,
    ) -> Self {
        Self {
            listener: listener.to_owned(),
            caller: caller.identity.to_string(),
            peer: peer.map(|peer| peer.address),
            node: String::new(),
            nonce: 0,
            counted: metrics.open(listener),
        }
    }

    /// What the client calls itself; it need not repeat it.
    pub(super) fn node(&mut self, node: Option<&Node>) {
        if let Some(node) = node {
            self.node = shown(&node.id);
        }
    }

    /// The nonce of an answer that is sent now.
    pub(super) fn sent(&mut self) -> String {
        self.nonce += 1;
        self.counted.set(State::waiting);
        self.nonce.to_string()
    }

    pub(super) fn is_last(&self, nonce: &str) -> bool {
        self.nonce > 0 && nonce == self.nonce.to_string()
    }

    /// What the client says of the last answer. Its first word counts.
    pub(super) fn verdict(&mut self, refused: Option<&rpc::Status>) {
        if !self.counted.is_waiting() {
            return;
        }
        let peer = self.peer.map(|peer| peer.to_string());
        match refused {
            None => {
                tracing::debug!(
                    listener = self.listener,
                    caller = self.caller,
                    node = self.node,
                    peer,
                    nonce = self.nonce,
                    "a client of SDS has taken its roots"
                );
                self.counted.set(State::accepted);
            }
            Some(refused) => {
                tracing::warn!(
                    listener = self.listener,
                    caller = self.caller,
                    node = self.node,
                    peer,
                    nonce = self.nonce,
                    code = refused.code,
                    detail = shown(&refused.message),
                    "a client of SDS refuses the roots that it was sent: it goes on with those that it has"
                );
                self.counted.set(State::refused);
            }
        }
    }
}

/// A text as logs can show it.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(MAX_TEXT).collect()
}
