//! From a token's `sub` to the caller. Each issuer has one form of `sub`.

use super::caller::{Caller, Identity, Method, Pod};
use super::claims::{Claims, KubernetesClaims, NodeReference, ObjectReference, Parts};
use super::config::SubjectForm;
use super::error::AuthnError;
use super::jwt::Verifier;
use crate::clock::UnixTime;
use crate::x509::SpiffeId;

impl Verifier {
    /// The caller that a verified token is for.
    pub(super) fn caller(
        &self,
        parts: &Parts<'_>,
        claims: &Claims<'_>,
        key_id: Option<String>,
        now: UnixTime,
    ) -> Result<Caller, AuthnError> {
        let mut caller = Caller {
            trust_domain: self.config.trust_domain().clone(),
            identity: self.identity(&claims.sub)?,
            method: Method::Jwt {
                verifier: self.name.clone(),
                issuer: self.config.issuer().to_owned(),
                key_id,
            },
            cluster: self.config.cluster().map(str::to_owned),
            pod: None,
            node: None,
            token_authenticated_at: Some(now),
        };
        if self.config.subject() == SubjectForm::Kubernetes
            && let Some(bindings) = parts.bindings().map_err(AuthnError::rejected)?
        {
            self.bind(&mut caller, &claims.sub, &bindings)?;
        }
        Ok(caller)
    }

    fn identity(&self, sub: &str) -> Result<Identity, AuthnError> {
        let domain = self.config.trust_domain();
        match self.config.subject() {
            SubjectForm::Kubernetes => {
                let (namespace, account) = service_account(sub).ok_or_else(|| {
                    self.rejected("`sub` is not system:serviceaccount:NAMESPACE:NAME")
                })?;
                SpiffeId::service_account(domain, namespace, account)
                    .map(Identity::Workload)
                    .map_err(|_| {
                        self.rejected("`sub` names no valid namespace and service account")
                    })
            }
            SubjectForm::Spiffe => match SpiffeId::parse(sub) {
                Ok(id) if id.path().is_empty() => {
                    Err(self.rejected("`sub` names a trust domain, no workload"))
                }
                Ok(id) if id.in_domain(domain) => Ok(Identity::Workload(id)),
                Ok(_) => {
                    Err(self.rejected(format_args!("`sub` is not in the trust domain {domain}")))
                }
                Err(_) => Err(self.rejected("`sub` is not a SPIFFE ID")),
            },
            SubjectForm::Opaque => {
                let printable = sub.bytes().all(|byte| (b' '..=b'~').contains(&byte));
                if !printable || sub.is_empty() || sub.len() > 255 || sub.trim() != sub {
                    return Err(self.rejected("`sub` is not 1 to 255 printable ASCII characters"));
                }
                Ok(Identity::Subject(format!("{}:{sub}", self.name)))
            }
        }
    }

    /// Adds the token's pod and node. Its bindings must agree with `sub`.
    fn bind(
        &self,
        caller: &mut Caller,
        sub: &str,
        bindings: &KubernetesClaims<'_>,
    ) -> Result<(), AuthnError> {
        let (namespace, account) = service_account(sub).unwrap_or_default();
        let other_namespace = bindings
            .namespace
            .as_ref()
            .is_some_and(|each| each != namespace);
        let other_account = bindings
            .service_account
            .as_ref()
            .is_some_and(|each| each.name != account);
        if other_namespace || other_account {
            return Err(self.rejected("`kubernetes.io` and `sub` name different accounts"));
        }
        let invalid = || self.rejected("`kubernetes.io` holds an invalid name or UID");
        let pod = bindings.pod.as_ref();
        let pod = pod.map(|pod| name_and_uid(pod).ok_or_else(invalid));
        if let Some((name, uid)) = pod.transpose()? {
            caller.pod = Some(Pod {
                name,
                uid,
                namespace: namespace.to_owned(),
            });
        }
        let node = bindings.node.as_ref();
        caller.node = node.map_or(Ok(None), |node| node_name(node).ok_or_else(invalid))?;
        Ok(())
    }
}

/// An object's name and UID, if they are valid.
pub(super) fn name_and_uid(bound: &ObjectReference<'_>) -> Option<(String, String)> {
    let uid = bound.uid.as_deref()?;
    (is_plain(&bound.name) && is_plain(uid)).then(|| (bound.name.to_string(), uid.to_string()))
}

/// A node's name, which may be left out; `None`: it is not valid.
pub(super) fn node_name(bound: &NodeReference<'_>) -> Option<Option<String>> {
    match bound.name.as_deref().filter(|name| !name.is_empty()) {
        None => Some(None),
        Some(name) => is_plain(name).then(|| Some(name.to_owned())),
    }
}

fn is_plain(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Namespace and name of `system:serviceaccount:NAMESPACE:NAME`.
pub fn service_account(sub: &str) -> Option<(&str, &str)> {
    let (namespace, account) = sub
        .strip_prefix("system:serviceaccount:")?
        .split_once(':')?;
    (!account.contains(':')).then_some((namespace, account))
}
