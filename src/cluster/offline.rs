//! Verifies tokens without a request: by the API server's published keys, and by the index, which shows
//! whether the pod and the account still exist. A token that these cannot decide goes to TokenReview.

use std::sync::Arc;
use std::time::Duration;

use super::index::Index;
use super::published::Published;
use super::token_review::TokenSubject;
use crate::authn::{AuthnError, BoundToken};
use crate::clock::{Clock, UnixTime};

#[derive(Debug)]
pub(super) struct OfflineVerifier {
    published: Arc<Published>,
    silence: Duration,
    clock: Arc<dyn Clock>,
}

pub(super) struct VerifiedToken {
    pub(super) subject: TokenSubject,
    pub(super) issuer: String,
    pub(super) key_id: Option<String>,
}

impl OfflineVerifier {
    pub(super) fn new(
        published: &Arc<Published>,
        silence: Duration,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        Self {
            published: Arc::clone(published),
            silence,
            clock: Arc::clone(clock),
        }
    }

    /// The inner error says why only the API server can decide; the outer one is
    /// [`AuthnError::Rejected`], where the API server would reject the token too.
    pub(super) async fn verify(
        &self,
        index: &Index,
        token: &str,
        audience: &str,
    ) -> Result<Result<VerifiedToken, String>, AuthnError> {
        let Some(issuer) = self.published.issuer() else {
            return Ok(Err("the API server's issuer is not known yet".to_owned()));
        };
        let bound = match self.published.keys.verify(token, &issuer, audience).await? {
            Ok(bound) => bound,
            Err(unsure) => return Ok(Err(unsure.to_string())),
        };
        if index
            .time_since_contact()
            .is_none_or(|silent| silent > self.silence)
        {
            return Ok(Err("the watch is not up to date".to_owned()));
        }
        Ok(self
            .check_binding(index, bound, &issuer)
            .map_err(str::to_owned))
    }

    /// Whether the pod and the account that the token is bound to exist, by name and UID: a name may
    /// have been reused.
    fn check_binding(
        &self,
        index: &Index,
        bound: BoundToken,
        issuer: &str,
    ) -> Result<VerifiedToken, &'static str> {
        let now = self.clock.now();
        let namespace = &bound.pod.namespace;
        let account = index
            .account(namespace, &bound.account)
            .filter(|account| account.has_uid(&bound.account_uid))
            .ok_or("its account is not in the index")?;
        let pod = index
            .pod(namespace, &bound.pod.name)
            .filter(|pod| pod.has_uid(&bound.pod.uid))
            .ok_or("its pod is not in the index")?;
        // Kubernetes accepts a token for some time after the deletion; this server does not.
        if is_past(account.deletion(), now) || is_past(pod.deletion(), now) {
            return Err("its pod or account is being deleted");
        }
        if pod.account() != bound.account {
            return Err("its pod has another account");
        }
        if bound.node.is_some() && bound.node.as_deref() != pod.node() {
            return Err("its pod is on another node");
        }
        Ok(VerifiedToken {
            subject: TokenSubject {
                namespace: bound.pod.namespace.clone(),
                account: bound.account,
                node: pod.node().map(str::to_owned),
                pod: Some(bound.pod),
            },
            issuer: issuer.to_owned(),
            key_id: bound.key_id,
        })
    }
}

fn is_past(deletion: Option<UnixTime>, now: UnixTime) -> bool {
    deletion.is_some_and(|at| at <= now)
}
