//! The certificate that a listener itself shows: from this server's own authorities, renewed
//! ahead of its end, its key in software so that a storm of handshakes never reaches the HSM.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_util::sync::CancellationToken;

use crate::authn::Caller;
use crate::clock::{Clock, UnixTime};
use crate::issuance::{Authorities, IssueError, Issued, LeafRequest};
use crate::net::{Certificates, Entry, TlsError, certified_key};
use crate::policy::Scope;
use crate::x509::{Csr, CsrError, San, Serial, TrustDomain};

/// The profile of these certificates; policy has a rule for the names that listeners configure.
pub const SERVING_PROFILE: &str = "serving";
/// What the caller is called in rules and in the ledger: `local:serving`.
const PURPOSE: &str = "serving";
/// How soon a certificate that could not be had is asked for again.
const RETRY: Duration = Duration::from_secs(1);

/// Why no serving certificate came about.
#[derive(Debug, thiserror::Error)]
enum ServingError {
    #[error("key or request: {0}")]
    Request(#[from] rcgen::Error),
    #[error("request: {0}")]
    Csr(#[from] CsrError),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Keeps one listener's certificates.
#[derive(Debug)]
pub struct ServingCertificate {
    wanted: Vec<(TrustDomain, Vec<San>)>,
    shown: Arc<Certificates>,
    authorities: Arc<Authorities>,
    clock: Arc<dyn Clock>,
}

impl ServingCertificate {
    /// Will fill `shown` with one certificate for each of `wanted`; the first is the default.
    pub fn new(
        wanted: Vec<(TrustDomain, Vec<San>)>,
        shown: Arc<Certificates>,
        authorities: Arc<Authorities>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            wanted,
            shown,
            authorities,
            clock,
        }
    }

    /// Has them issued, and renewed when a third of their life is over, until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        let mut entries: Vec<Option<(Entry, UnixTime)>> = vec![None; self.wanted.len()];
        let mut last_error = String::new();
        let mut refreshed = self.authorities.watch();
        loop {
            refreshed.mark_unchanged();
            let now = self.clock.now();
            let mut changed = false;
            for ((domain, names), entry) in self.wanted.iter().zip(entries.iter_mut()) {
                let current = entry.as_ref().is_some_and(|(_, renew_at)| now < *renew_at);
                if current || !self.authorities.is_ready(domain) {
                    continue;
                }
                match self.issue(domain, names).await {
                    Ok(fresh) => {
                        *entry = Some(fresh);
                        changed = true;
                        last_error.clear();
                    }
                    Err(error) => say_once(&mut last_error, domain, &error),
                }
            }
            if changed {
                let ready = entries.iter().flatten().map(|(entry, _)| entry.clone());
                self.shown.replace(ready.collect());
            }
            tokio::select! {
                () = stop.cancelled() => return,
                _ = refreshed.changed() => {}
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn issue(
        &self,
        domain: &TrustDomain,
        names: &[San],
    ) -> Result<(Entry, UnixTime), ServingError> {
        let key = KeyPair::generate()?;
        let csr = CertificateParams::default().serialize_request(&key)?;
        let request = LeafRequest {
            caller: Caller::local(domain.clone(), PURPOSE),
            csr: Csr::from_der(csr.der())?,
            profile: SERVING_PROFILE.to_owned(),
            names: names.to_vec(),
            ttl: None,
            scope: Scope::Asked,
            origin: None,
            request_id: format!("serving-{}", Serial::new(self.clock.now())),
        };
        let issued = self.authorities.issue(request).await?;
        // From here on nobody else may have a certificate for this key.
        self.authorities
            .claim_key(issued.certificate().public_key());
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let entry = Entry {
            names: dns_names(names),
            key: certified_key(chain(&issued), private)?,
        };
        Ok((entry, renew_at(&issued)))
    }
}

fn chain(issued: &Issued) -> Vec<CertificateDer<'static>> {
    let all = std::iter::once(issued.certificate()).chain(issued.intermediates());
    all.map(|certificate| CertificateDer::from(certificate.der().to_vec()))
        .collect()
}

/// Early: two thirds of its life are left to find an HSM or a ledger that is away.
fn renew_at(issued: &Issued) -> UnixTime {
    let leaf = issued.certificate();
    leaf.not_before()
        .plus(leaf.not_after().since(leaf.not_before()) / 3)
}

fn dns_names(names: &[San]) -> Vec<String> {
    let dns = |name: &San| match name {
        San::Dns(name) => Some(name.as_str().to_owned()),
        _ => None,
    };
    names.iter().filter_map(dns).collect()
}

/// One line for each new reason, not one for each try.
fn say_once(last: &mut String, domain: &TrustDomain, error: &ServingError) {
    let text = error.to_string();
    if *last != text {
        tracing::warn!(trust_domain = %domain, error = %text, "no serving certificate yet");
        *last = text;
    }
}
