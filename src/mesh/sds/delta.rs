//! `DeltaSecrets`: each answer holds what the client does not have yet.

use std::collections::{BTreeMap, BTreeSet};

use tonic::Status;

use super::secrets::{Secrets, TYPE_URL, check_names, check_type};
use super::stream::Protocol;
use super::subscriber::Subscriber;
use crate::mesh::proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};

#[derive(Debug)]
pub(super) struct Delta {
    secrets: Secrets,
    subscriber: Subscriber,
    /// The subscribed names, with the version that the client has; `None` for one that it was told not
    /// to exist.
    names: BTreeMap<String, Option<String>>,
    /// Names that must be answered.
    asked: BTreeSet<String>,
}

impl Delta {
    pub(super) fn new(secrets: Secrets, subscriber: Subscriber) -> Self {
        Self {
            secrets,
            subscriber,
            names: BTreeMap::new(),
            asked: BTreeSet::new(),
        }
    }
}

impl Protocol for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn read(
        &mut self,
        request: DeltaDiscoveryRequest,
    ) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        check_type(&request.type_url)?;
        self.subscriber.node(request.node.as_ref());
        if self.subscriber.is_last(&request.response_nonce) {
            self.subscriber.verdict(request.error_detail.as_ref());
        }
        for name in &request.resource_names_unsubscribe {
            self.names.remove(name);
            self.asked.remove(name);
        }
        let has = request.initial_resource_versions;
        for name in request.resource_names_subscribe {
            match has.get(&name) {
                Some(version) => {
                    self.names.insert(name, Some(version.clone()));
                }
                None => {
                    self.names.insert(name.clone(), None);
                    self.asked.insert(name);
                }
            }
        }
        check_names(&self.names.keys().cloned().collect())?;
        Ok(self.changed())
    }

    fn changed(&mut self) -> Option<DeltaDiscoveryResponse> {
        let asked = std::mem::take(&mut self.asked);
        let (mut resources, mut removed) = (Vec::new(), Vec::new());
        for (name, has) in &mut self.names {
            match self.secrets.get(name) {
                Some(there) if has.as_ref() != Some(&there.version) => {
                    *has = Some(there.version.clone());
                    resources.push(Resource {
                        version: there.version,
                        resource: Some(there.secret),
                        name: there.name,
                    });
                }
                // That it does not exist is an answer too: the client goes on waiting for it.
                None if has.take().is_some() || asked.contains(name) => removed.push(name.clone()),
                Some(_) | None => {}
            }
        }
        if resources.is_empty() && removed.is_empty() {
            return None;
        }
        Some(DeltaDiscoveryResponse {
            system_version_info: String::new(),
            resources,
            type_url: TYPE_URL.to_owned(),
            nonce: self.subscriber.sent(),
            removed_resources: removed,
        })
    }
}
