//! From a token to the caller that a cluster vouches for.

use tokio::time::{Instant, timeout};

use super::Cluster;
use super::callers::VerificationMode;
use super::token_review::TokenSubject;
use crate::authn::{Api, AuthnError, Caller, Identity, Method};
use crate::x509::SpiffeId;

impl Cluster {
    /// Who presents `token` to `api`. The answer is final: nobody else is asked.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] when the cluster says no or may not speak for the caller;
    /// [`AuthnError::Unavailable`] when it does not say.
    pub async fn authenticate(&self, token: &str, api: Api) -> Result<Caller, AuthnError> {
        let name = self.config.name();
        let audience = self.config.callers().audience(api).ok_or_else(|| {
            AuthnError::rejected(format_args!(
                "the tokens of cluster {name} do not count for the API {api}"
            ))
        })?;
        let (subject, method) = self
            .verify(token, audience)
            .await
            .map_err(|error| in_cluster(name, error))?;
        self.caller(subject, method)
    }

    async fn verify(
        &self,
        token: &str,
        audience: &str,
    ) -> Result<(TokenSubject, Method), AuthnError> {
        if let (Some(offline), Some(index)) = (&self.offline, &self.index) {
            let started = Instant::now();
            // A key that is not known yet is fetched, which must not eat up the API server's own time.
            let most = self.config.callers().review_timeout() / 2;
            let result = timeout(most, offline.verify(index, token, audience)).await;
            let result = result.unwrap_or_else(|_| Ok(Err("its key took too long".to_owned())));
            if !matches!(result, Ok(Err(_))) {
                self.metrics.count(
                    self.config.name(),
                    VerificationMode::Offline,
                    &result,
                    started,
                );
            }
            match result? {
                Ok(accepted) => {
                    let method = Method::ClusterKeys {
                        issuer: accepted.issuer,
                        key_id: accepted.key_id,
                    };
                    return Ok((accepted.subject, method));
                }
                Err(why) => {
                    self.metrics.fell_back(self.config.name());
                    tracing::debug!(
                        cluster = self.config.name(),
                        why,
                        "a token goes to TokenReview"
                    );
                }
            }
        }
        let started = Instant::now();
        let result = self
            .reviewer
            .review(&self.connection, token, audience)
            .await;
        self.metrics.count(
            self.config.name(),
            VerificationMode::TokenReview,
            &result,
            started,
        );
        Ok((result?, Method::TokenReview))
    }

    fn caller(&self, subject: TokenSubject, method: Method) -> Result<Caller, AuthnError> {
        let name = self.config.name();
        let rejected = |why: &str| AuthnError::rejected(format_args!("cluster {name}: {why}"));
        if !self.config.allows_namespace(&subject.namespace) {
            return Err(rejected("it may not speak for the token's namespace"));
        }
        let trust_domain = self.config.trust_domain();
        let id = SpiffeId::service_account(trust_domain, &subject.namespace, &subject.account)
            .map_err(|_| rejected("the token names no valid namespace and service account"))?;
        Ok(Caller {
            trust_domain: trust_domain.clone(),
            identity: Identity::Workload(id),
            method,
            cluster: Some(name.to_owned()),
            pod: subject.pod,
            node: subject.node,
            token_authenticated_at: Some(self.clock.now()),
        })
    }
}

fn in_cluster(name: &str, error: AuthnError) -> AuthnError {
    match error {
        AuthnError::Missing => AuthnError::Missing,
        AuthnError::Rejected { reason } => {
            AuthnError::rejected(format_args!("cluster {name}: {reason}"))
        }
        AuthnError::Unavailable(why) => AuthnError::Unavailable(format!("cluster {name}: {why}")),
        AuthnError::Timeout(why) => AuthnError::Timeout(format!("cluster {name}: {why}")),
    }
}
