//! Who may use the operators' API on a listener with TLS.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Extensions, HeaderMap};

use crate::admin::{AdminCallers, NotAllowed};
use crate::authn::{Api, Identity};
use crate::mesh::CallerAuthenticator;
use crate::net::Peer;

/// The operators of the listener, and the callers that its `admins` names.
#[derive(Debug)]
pub(super) struct ListenerAdmins {
    pub(super) authenticator: CallerAuthenticator,
    pub(super) admins: BTreeSet<String>,
}

impl AdminCallers for ListenerAdmins {
    fn authenticate<'a>(
        &'a self,
        headers: &'a HeaderMap,
        extensions: &'a Extensions,
    ) -> BoxFuture<'a, Result<String, NotAllowed>> {
        async move {
            let peer = extensions.get::<Peer>();
            let caller = self
                .authenticator
                .authenticate(headers, peer, Api::Admin)
                .await?;
            let name = caller.identity.to_string();
            // The listener accepts the credentials of its own operators alone.
            let is_operator = matches!(caller.identity, Identity::Operator(_));
            match is_operator || self.admins.contains(&name) {
                true => Ok(name),
                false => Err(NotAllowed::Unauthorized(name)),
            }
        }
        .boxed()
    }
}
