//! Events about certificates on service accounts.

use crate::authn::{Caller, Identity};
use crate::cluster::{Notice, Notices};
use crate::x509::Certificate;

/// The service account that a certificate is for.
pub(super) struct Account {
    cluster: String,
    namespace: String,
    name: String,
}

impl Account {
    /// The caller's; `None` when no cluster authenticated it.
    pub(super) fn of(caller: &Caller) -> Option<Self> {
        let Identity::Workload(id) = &caller.identity else {
            return None;
        };
        let (namespace, name) = id.as_service_account()?;
        Some(Self {
            cluster: caller.cluster.clone()?,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Queues an event about a certificate for `name`, without waiting.
    pub(super) fn tell(self, notices: &Notices, name: &str, certificate: &Certificate) {
        let notice = Notice {
            namespace: self.namespace,
            account: self.name,
            uid: None,
            name: name.to_owned(),
            not_after: certificate.not_after(),
            sha256: certificate.fingerprint(),
        };
        notices.send(&self.cluster, notice);
    }
}
