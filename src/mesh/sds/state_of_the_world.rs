//! `StreamSecrets` and `FetchSecrets`: each answer holds every secret that is subscribed to and exists.

use std::collections::BTreeSet;

use tonic::Status;

use super::secrets::{Named, Secrets, TYPE_URL, check_names, check_type};
use super::stream::Protocol;
use super::subscriber::Subscriber;
use crate::digest::{hex, sha256};
use crate::mesh::proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};

#[derive(Debug)]
pub(super) struct StateOfTheWorld {
    secrets: Secrets,
    subscriber: Subscriber,
    names: BTreeSet<String>,
    /// The version that was sent last.
    sent: Option<String>,
}

impl StateOfTheWorld {
    pub(super) fn new(secrets: Secrets, subscriber: Subscriber) -> Self {
        Self {
            secrets,
            subscriber,
            names: BTreeSet::new(),
            sent: None,
        }
    }
}

impl Protocol for StateOfTheWorld {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn read(&mut self, request: DiscoveryRequest) -> Result<Option<DiscoveryResponse>, Status> {
        check_type(&request.type_url)?;
        self.subscriber.node(request.node.as_ref());
        let nonce = &request.response_nonce;
        match self.subscriber.is_last(nonce) {
            true => self.subscriber.verdict(request.error_detail.as_ref()),
            // The answer to this one is still on its way back.
            false if !nonce.is_empty() => return Ok(None),
            false => self.sent = None,
        }
        self.names = request.resource_names.into_iter().collect();
        check_names(&self.names)?;
        Ok(self.changed())
    }

    /// What the client has refused is not sent a second time: only another version is.
    fn changed(&mut self) -> Option<DiscoveryResponse> {
        let existing = self.secrets.existing(&self.names);
        let version = version(&existing);
        // Envoy refuses an answer without secrets, and waits for the ones that there will be.
        if existing.is_empty() || self.sent.as_ref() == Some(&version) {
            return None;
        }
        self.sent = Some(version.clone());
        Some(response(existing, version, self.subscriber.sent()))
    }
}

/// The answer to a request without a stream.
// The error is as large as tonic made it.
#[allow(clippy::result_large_err)]
pub(super) fn once(
    secrets: &Secrets,
    request: &DiscoveryRequest,
) -> Result<DiscoveryResponse, Status> {
    check_type(&request.type_url)?;
    let names = request.resource_names.iter().cloned().collect();
    check_names(&names)?;
    let existing = secrets.existing(&names);
    let version = version(&existing);
    Ok(response(existing, version, String::new()))
}

fn version(existing: &[Named]) -> String {
    let versions: String = existing.iter().map(|each| each.version.as_str()).collect();
    hex(&sha256(versions.as_bytes()))
}

fn response(existing: Vec<Named>, version_info: String, nonce: String) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info,
        resources: existing.into_iter().map(|each| each.secret).collect(),
        type_url: TYPE_URL.to_owned(),
        nonce,
    }
}
