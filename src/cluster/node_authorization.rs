//! Authorizes node proxies by the pods of their own cluster, and by nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::cluster::Cluster;
use super::index::{Index, PodRecord};
use crate::authn::{AuthnError, Caller, Identity};
use crate::policy::{NodeAuthorization, NodeProxy, NotAuthorized, PodFacts};
use crate::x509::SpiffeId;

/// How long to wait for a pod that was just scheduled to appear in the index.
const SETTLE: Duration = Duration::from_secs(2);
/// The same where the cluster has no such account: no pod can have it, unless both are new and the watch of
/// accounts is behind. A proxy waits for few requests at a time.
const SETTLE_WITHOUT_ACCOUNT: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub enum NodeAuthorizationError {
    #[error(transparent)]
    Refused(#[from] NotAuthorized),
    #[error(transparent)]
    Unavailable(AuthnError),
}

pub(super) async fn authorize_node(
    cluster: &Cluster,
    caller: &Caller,
    requested: &SpiffeId,
) -> Result<NodeAuthorization, NodeAuthorizationError> {
    let Identity::Workload(identity) = &caller.identity else {
        return Err(NotAuthorized::NoCluster.into());
    };
    let config = cluster.config().callers();
    let listed = identity
        .as_service_account()
        .is_some_and(|(namespace, account)| config.is_node_account(namespace, account));
    let proxy = NodeProxy {
        identity,
        listed,
        pod: caller.pod.as_ref().map(|pod| pod.name.as_str()),
        node: caller.node.as_deref(),
    };
    if !listed {
        return Err(NotAuthorized::NotListed(identity.clone()).into());
    }
    if let Some((namespace, _)) = requested.as_service_account()
        && !cluster.config().allows_namespace(namespace)
    {
        return Err(NotAuthorized::ForeignNamespace(requested.clone()).into());
    }
    let index = cluster.index().ok_or(NotAuthorized::NoCluster)?;
    let started = Instant::now();
    let mut changes = index.watch();
    loop {
        changes.mark_unchanged();
        let refusal = match decide(cluster, index, caller, proxy, requested) {
            Ok(authorization) => return Ok(authorization),
            Err(refusal) => refusal,
        };
        let last = match &refusal {
            NodeAuthorizationError::Refused(why) => !why.is_transient(),
            NodeAuthorizationError::Unavailable(_) => false,
        };
        let has_account = requested
            .as_service_account()
            .is_some_and(|(namespace, account)| index.account(namespace, account).is_some());
        let deadline = match has_account {
            true => started + SETTLE,
            false => started + SETTLE_WITHOUT_ACCOUNT,
        };
        if last || timeout_at(deadline, changes.changed()).await.is_err() {
            return Err(refusal);
        }
    }
}

fn decide(
    cluster: &Cluster,
    index: &Index,
    caller: &Caller,
    proxy: NodeProxy<'_>,
    requested: &SpiffeId,
) -> Result<NodeAuthorization, NodeAuthorizationError> {
    let bound = cluster.config().callers().watch_silence();
    if index
        .time_since_contact()
        .is_none_or(|silent| silent > bound)
    {
        return Err(NodeAuthorizationError::Unavailable(
            AuthnError::Unavailable(format!(
                "cluster {}: the watch of its pods is not up to date",
                cluster.config().name()
            )),
        ));
    }
    let pod = caller.pod.as_ref();
    let own = pod.and_then(|pod| index.pod(&pod.namespace, &pod.name));
    let neighbours = own
        .as_ref()
        .and_then(|own| own.node())
        .map(|node| index.on_node(node))
        .unwrap_or_default();
    let uid = pod.map_or("", |pod| pod.uid.as_str());
    let has_token_uid = |pod: &'_ Arc<PodRecord>| -> bool { pod.has_uid(uid) };
    let own_facts = own.as_ref().map(|own| pod_facts(own, has_token_uid(own)));
    let neighbours = neighbours
        .iter()
        .map(|pod| pod_facts(pod, has_token_uid(pod)));
    Ok(NodeAuthorization::decide(
        proxy, requested, own_facts, neighbours,
    )?)
}

fn pod_facts(pod: &PodRecord, has_token_uid: bool) -> PodFacts<'_> {
    PodFacts {
        namespace: pod.namespace(),
        name: pod.name(),
        has_token_uid,
        account: pod.account(),
        node: pod.node(),
        ended: pod.has_ended(),
    }
}
