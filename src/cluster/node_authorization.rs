//! Node authorization by what the caller's own cluster says, and by nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::index::{Index, PodRecord};
use super::{Cluster, Clusters};
use crate::authn::{AuthnError, Caller, Identity};
use crate::policy::{NodeAuthorization, NodeProxy, NotAuthorized, PodFacts};
use crate::x509::SpiffeId;

/// How long a pod that was put on its node a moment ago is waited for.
const SETTLE: Duration = Duration::from_secs(2);

/// Why a node's proxy does not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum NodeAuthorizationError {
    /// It may not have it.
    #[error(transparent)]
    Refused(#[from] NotAuthorized),
    /// The cluster cannot be asked now.
    #[error(transparent)]
    Unavailable(AuthnError),
}

impl Clusters {
    /// The permission for `caller` to have `asked`, the identity of a workload on its node.
    ///
    /// # Errors
    /// [`NodeAuthorizationError`].
    pub async fn authorize_node(
        &self,
        caller: &Caller,
        asked: &str,
    ) -> Result<NodeAuthorization, NodeAuthorizationError> {
        let asked = SpiffeId::parse(asked).map_err(NotAuthorized::from)?;
        let vouched = caller
            .cluster
            .as_deref()
            .filter(|_| caller.method.is_by_cluster());
        let cluster = vouched
            .and_then(|name| self.get(name))
            .ok_or(NotAuthorized::NoCluster)?;
        cluster.authorize_node(caller, &asked).await
    }
}

impl Cluster {
    async fn authorize_node(
        &self,
        caller: &Caller,
        asked: &SpiffeId,
    ) -> Result<NodeAuthorization, NodeAuthorizationError> {
        let Identity::Workload(identity) = &caller.identity else {
            return Err(NotAuthorized::NoCluster.into());
        };
        let config = self.config.callers();
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
        if let Some((namespace, _)) = asked.as_service_account()
            && !self.config.allows_namespace(namespace)
        {
            return Err(NotAuthorized::ForeignNamespace(asked.clone()).into());
        }
        let index = self.index.as_ref().ok_or(NotAuthorized::NoCluster)?;
        let deadline = Instant::now() + SETTLE;
        let mut news = index.watch();
        loop {
            news.mark_unchanged();
            let refusal = match self.decide(index, caller, proxy, asked) {
                Ok(delegation) => return Ok(delegation),
                Err(refusal) => refusal,
            };
            let last = match &refusal {
                NodeAuthorizationError::Refused(why) => !why.is_transient(),
                NodeAuthorizationError::Unavailable(_) => false,
            };
            if last || timeout_at(deadline, news.changed()).await.is_err() {
                return Err(refusal);
            }
        }
    }

    fn decide(
        &self,
        index: &Index,
        caller: &Caller,
        proxy: NodeProxy<'_>,
        asked: &SpiffeId,
    ) -> Result<NodeAuthorization, NodeAuthorizationError> {
        let bound = self.config.callers().watch_silence();
        if index.silent_for().is_none_or(|silent| silent > bound) {
            return Err(NodeAuthorizationError::Unavailable(
                AuthnError::Unavailable(format!(
                    "cluster {}: the watch of its pods is not up to date",
                    self.config.name()
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
        let fact = |pod: &'_ Arc<PodRecord>| -> bool { pod.has_uid(uid) };
        let own_facts = own.as_ref().map(|own| pod_facts(own, fact(own)));
        let neighbours = neighbours.iter().map(|pod| pod_facts(pod, fact(pod)));
        Ok(NodeAuthorization::decide(
            proxy, asked, own_facts, neighbours,
        )?)
    }
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
