//! TLS client certificates: a workload renews with the certificate that it holds.
//!
//! The handshake has proved that the caller has the key. No path is built here: a certificate
//! counts because the ledger of its trust domain holds exactly it, and is judged anew at every
//! call, on kept-alive and resumed connections too. A foreign or expired one must not end the
//! handshake, for its holder may come with a token.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::caller::{Caller, Identity, Method};
use super::config::ClientCertificatesConfig;
use super::error::AuthnError;
use crate::clock::{Clock, UnixTime};
use crate::x509::{Certificate, San, SpiffeId, TrustDomain};

/// The longest certificate that is looked at, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// The certificates that were issued; implemented upstairs, over the ledger.
pub trait IssuedCertificates: Send + Sync + std::fmt::Debug {
    /// How the certificate whose DER is exactly `leaf`'s stands in `trust_domain`'s ledger;
    /// `None` when it is not there, though one with its serial number may be.
    fn find<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
        leaf: &'a Certificate,
    ) -> BoxFuture<'a, Result<Option<CertificateStatus>, LookupError>>;
}

/// The ledger cannot be asked; the text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LookupError(pub String);

/// How an issued certificate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// It was concluded as issued, so that its holder had it from us.
    pub released: bool,
    /// It was revoked.
    pub revoked: bool,
    /// The issuer that signed it is retired.
    pub issuer_retired: bool,
    /// Its end, as recorded.
    pub not_after: UnixTime,
    /// The trust domain of the issuer that signed it.
    pub trust_domain: TrustDomain,
    /// Its names as recorded, joined by spaces, the primary one first.
    pub subject: String,
    /// When its holder last proved itself by a token, over all renewals since.
    pub token_authenticated_at: Option<UnixTime>,
}

/// The judge of client certificates on one listener.
#[derive(Debug)]
pub struct CertificateCallers {
    config: ClientCertificatesConfig,
    issued: Arc<dyn IssuedCertificates>,
    clock: Arc<dyn Clock>,
}

impl CertificateCallers {
    /// A judge that asks `issued`.
    pub fn new(
        config: ClientCertificatesConfig,
        issued: Arc<dyn IssuedCertificates>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            config,
            issued,
            clock,
        }
    }

    /// Who holds the end-entity certificate `leaf`, in DER, as the handshake left it. To be asked
    /// at every call.
    ///
    /// # Errors
    /// [`AuthnError::Rejected`] when the certificate does not count;
    /// [`AuthnError::Unavailable`] when the ledger cannot be asked.
    pub async fn authenticate(&self, leaf: &[u8]) -> Result<Caller, AuthnError> {
        if leaf.len() > MAX_BYTES {
            return Err(rejected(format_args!(
                "it has {} bytes, and {MAX_BYTES} are the most",
                leaf.len()
            )));
        }
        let leaf = Certificate::parse(leaf)
            .map_err(|why| rejected(format_args!("it cannot be read: {why}")))?;
        let id = only_uri(&leaf)?;
        let domain = self
            .config
            .trust_domains()
            .iter()
            .find(|domain| id.in_domain(domain));
        let domain = domain.ok_or_else(|| {
            rejected(format_args!(
                "{id} is in a trust domain whose certificates do not count here"
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
        let status = self.issued.find(domain, &leaf).await;
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
            .judge(&status, id, domain, now)
            .map_err(|why| rejected(format_args!("{} of {id}: {why}", leaf.serial())))?;
        Ok(Caller {
            trust_domain: domain.clone(),
            identity: Identity::Workload(id.clone()),
            method: Method::Certificate {
                serial: *leaf.serial(),
                issuer_key_id: leaf.authority_key_id().map(<[u8]>::to_vec),
            },
            cluster: None,
            pod: None,
            node: None,
            token_authenticated_at: Some(authenticated_at),
        })
    }

    /// When the holder last came with a token.
    fn judge(
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
            .ok_or("its holder never came with a token")?;
        if now >= at.plus(self.config.reauthenticate_after()) {
            return Err("its holder must come with a token again (reauthenticate_after)");
        }
        Ok(at)
    }
}

fn rejected(why: impl std::fmt::Display) -> AuthnError {
    AuthnError::rejected(format_args!("client certificate: {why}"))
}

/// The one URI of the certificate; a second would make it a choice whose identity it is.
fn only_uri(leaf: &Certificate) -> Result<&SpiffeId, AuthnError> {
    // A URI that is no SPIFFE ID is among these.
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
