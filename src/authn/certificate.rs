//! TLS client certificates: a workload renews with the certificate that it holds.
//!
//! The handshake proved possession of the key. No path is built here: a certificate is accepted
//! if the ledger of its trust domain holds exactly it. Every call checks it again, also on open and
//! resumed connections. A foreign or expired certificate does not fail the handshake, because
//! its holder may present a token.

use std::sync::Arc;
use std::time::Duration;

use super::caller::{Caller, Identity, Method};
use super::certificate_status::{CertificateStatus, CertificateStatusSource, LookupError};
use super::client_certificate::ClientCertificate;
use super::config::ClientCertificatesConfig;
use super::error::AuthnError;
use crate::clock::{Clock, UnixTime};
use crate::x509::{Certificate, San, SpiffeId, TrustDomain};

/// The longest certificate that is parsed, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// Authenticates the client certificates of one listener.
#[derive(Debug)]
pub struct CertificateVerifier {
    config: ClientCertificatesConfig,
    issued: Arc<dyn CertificateStatusSource>,
    clock: Arc<dyn Clock>,
}

impl CertificateVerifier {
    pub fn new(
        config: ClientCertificatesConfig,
        issued: Arc<dyn CertificateStatusSource>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            config,
            issued,
            clock,
        }
    }

    /// The holder of the certificate `leaf` of the handshake. To be called for every request. The ledger is
    /// asked for its status once for a connection, and again when the records' revision has moved.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] when the certificate is not accepted, [`AuthnError::Unavailable`]
    /// when the ledger is unavailable.
    pub async fn authenticate(&self, leaf: &ClientCertificate) -> Result<Caller, AuthnError> {
        let presented = leaf;
        let bytes = leaf.der().len();
        if bytes > MAX_BYTES {
            return Err(rejected(format_args!(
                "it has {bytes} bytes, more than {MAX_BYTES}"
            )));
        }
        let leaf = leaf
            .parsed()
            .map_err(|why| rejected(format_args!("it cannot be read: {why}")))?;
        let id = only_uri(leaf)?;
        let domain = self
            .config
            .trust_domains()
            .iter()
            .find(|domain| id.in_domain(domain));
        let domain = domain.ok_or_else(|| {
            rejected(format_args!(
                "{id} is in a trust domain whose certificates are not accepted here"
            ))
        })?;
        let now = self.clock.now();
        if now < leaf.not_before() || now > leaf.not_after() {
            return Err(rejected(format_args!(
                "{} of {id} is valid from {} to {}",
                leaf.serial(),
                leaf.not_before(),
                leaf.not_after()
            )));
        }
        let status = self.status(presented, domain, leaf).await;
        let status = status
            .map_err(|why| {
                AuthnError::Unavailable(format!("client certificate {}: {why}", leaf.serial()))
            })?
            .ok_or_else(|| {
                rejected(format_args!(
                    "the ledger of {domain} does not hold {}",
                    leaf.serial()
                ))
            })?;
        let authenticated_at = self
            .check(&status, id, domain, now)
            .map_err(|why| rejected(format_args!("{} of {id}: {why}", leaf.serial())))?;
        Ok(Caller {
            trust_domain: domain.clone(),
            identity: Identity::Workload(id.clone()),
            method: Method::Certificate {
                serial: *leaf.serial(),
                issuer_key_id: leaf.authority_key_id().map(<[u8]>::to_vec),
            },
            cluster: status.cluster,
            pod: status.pod,
            node: None,
            token_authenticated_at: Some(authenticated_at),
        })
    }

    /// When the renewals of `caller` end, if that is soon.
    pub fn renewals_end(&self, caller: &Caller) -> Option<UnixTime> {
        let at = caller.token_authenticated_at?;
        let after = self.config.reauthenticate_after();
        let is_renewed = matches!(caller.method, Method::Certificate { .. });
        let is_soon = is_renewed && is_due_soon(at, after, self.clock.now());
        is_soon.then(|| at.plus(after))
    }

    async fn status(
        &self,
        presented: &ClientCertificate,
        domain: &TrustDomain,
        leaf: &Certificate,
    ) -> Result<Option<CertificateStatus>, LookupError> {
        let revision = self.issued.revision().await?;
        if let Some(known) = presented.known(revision)
            && known.trust_domain == *domain
        {
            return Ok(Some(known));
        }
        let found = self.issued.find(domain, leaf, revision).await?;
        if let Some(status) = &found {
            presented.remember(revision, status);
        }
        Ok(found)
    }

    /// Returns when the holder last presented a token.
    fn check(
        &self,
        status: &CertificateStatus,
        id: &SpiffeId,
        domain: &TrustDomain,
        now: UnixTime,
    ) -> Result<UnixTime, &'static str> {
        if status.trust_domain != *domain {
            return Err("it was issued in another trust domain");
        }
        if status.subject.split(' ').next() != Some(id.as_str()) {
            return Err("it was issued to another name");
        }
        if !status.released {
            return Err("it was never released");
        }
        if status.revoked {
            return Err("it is revoked");
        }
        if status.issuer_retired {
            return Err("its issuer is retired");
        }
        if now > status.not_after {
            return Err("it has expired");
        }
        let at = status
            .token_authenticated_at
            .ok_or("its holder never presented a token")?;
        if now >= at.plus(self.config.reauthenticate_after()) {
            return Err("its holder must present a token again (reauthenticate_after)");
        }
        Ok(at)
    }
}

/// Whether a caller whose last token came at `at` must present one again soon: in the last quarter of
/// `after`.
pub fn is_due_soon(at: UnixTime, after: Duration, now: UnixTime) -> bool {
    now >= at.plus(after - after / 4)
}

fn rejected(why: impl std::fmt::Display) -> AuthnError {
    AuthnError::rejected(format_args!("client certificate: {why}"))
}

/// The only URI of the certificate: with two, its identity would be ambiguous.
fn only_uri(leaf: &Certificate) -> Result<&SpiffeId, AuthnError> {
    // They include URIs that are no SPIFFE IDs.
    if leaf.has_other_names() {
        return Err(rejected("it has names of other kinds than URI, DNS and IP"));
    }
    let mut ids = leaf.names().iter().filter_map(|name| match name {
        San::Spiffe(id) => Some(id),
        San::Dns(_) | San::Ip(_) => None,
    });
    match (ids.next(), ids.next()) {
        (Some(id), None) if id.path().is_empty() => {
            Err(rejected("it names a trust domain, no workload"))
        }
        (Some(id), None) => Ok(id),
        (None, _) => Err(rejected("it has no SPIFFE ID")),
        (Some(_), Some(_)) => Err(rejected("it has more than one URI")),
    }
}
