//! The server certificates of listeners, issued by this server's own authorities and renewed before
//! they expire. Their keys are in software, so that handshakes do not use the HSM.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_util::sync::CancellationToken;

use super::config::OwnCertificate;
use crate::clock::{Clock, UnixTime};
use crate::issuance::{Authorities, Issued, OwnKeyError, OwnKeyRequest};
use crate::ledger::CaCertificateId;
use crate::log_limit::OnChange;
use crate::net::{Certificates, Entry, TlsError, certified_key};
use crate::x509::{Certificate, San};

/// The profile of these certificates; the policy has a rule for the names of the listeners.
pub const SERVING_PROFILE: &str = "serving";
/// The caller in rules and in the ledger is `local:serving`.
const PURPOSE: &str = "serving";
/// The pause after a failed issuance.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum ServingError {
    #[error(transparent)]
    Issue(#[from] OwnKeyError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Issues and renews the certificates of one listener.
#[derive(Debug)]
pub struct ServingCertificate {
    wanted: Vec<OwnCertificate>,
    shown: Arc<Certificates>,
    authorities: Arc<Authorities>,
    clock: Arc<dyn Clock>,
}

/// A certificate in use, and when it must be replaced.
struct Shown {
    entry: Entry,
    renew_at: UnixTime,
    under: CaCertificateId,
}

impl ServingCertificate {
    /// Fills `shown` with one certificate for each of `wanted`; the first is the default.
    pub fn new(
        wanted: Vec<OwnCertificate>,
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

    /// Issues the certificates, and renews them after a third of their lifetime or when the active
    /// issuer changes, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut all: Vec<Option<Shown>> = self.wanted.iter().map(|_| None).collect();
        let mut reasons = vec![OnChange::default(); self.wanted.len()];
        let mut refreshed = self.authorities.watch();
        loop {
            refreshed.mark_unchanged();
            let mut changed = false;
            let slots = all.iter_mut().zip(reasons.iter_mut());
            for (wanted, (shown, reason)) in self.wanted.iter().zip(slots) {
                if !self.is_due(wanted, shown.as_ref()) {
                    continue;
                }
                match self.issue(wanted).await {
                    Ok(fresh) => {
                        *shown = Some(fresh);
                        changed = true;
                        reason.clear();
                    }
                    Err(error) => {
                        let (trust_domain, error) = (&wanted.trust_domain, error.to_string());
                        if reason.is_new(&error) {
                            tracing::warn!(%trust_domain, %error, "no serving certificate yet");
                        }
                    }
                }
            }
            if changed {
                let ready = all.iter().flatten().map(|shown| shown.entry.clone());
                self.shown.replace(ready.collect());
            }
            tokio::select! {
                () = stop.cancelled() => return,
                _ = refreshed.changed() => {}
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    fn is_due(&self, wanted: &OwnCertificate, shown: Option<&Shown>) -> bool {
        // Without an active issuer nothing can be renewed.
        let Some(under) = self.authorities.active_certificate_id(&wanted.trust_domain) else {
            return false;
        };
        shown.is_none_or(|shown| self.clock.now() >= shown.renew_at || shown.under != under)
    }

    async fn issue(&self, wanted: &OwnCertificate) -> Result<Shown, ServingError> {
        let request = OwnKeyRequest {
            trust_domain: &wanted.trust_domain,
            purpose: PURPOSE,
            cluster: None,
            profile: SERVING_PROFILE,
            names: &wanted.names,
            ttl: None,
            is_ca: false,
            lease: None,
        };
        let (key, issued) = self.authorities.issue_own_key(request).await?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let entry = Entry {
            names: dns_names(&wanted.names),
            key: certified_key(chain(&issued), private)?,
        };
        Ok(Shown {
            entry,
            renew_at: renew_at(self.clock.now(), issued.certificate().not_after()),
            under: issued.issuer().certificate_id(),
        })
    }
}

fn chain(issued: &Issued) -> Vec<CertificateDer<'static>> {
    let der = |certificate: &Certificate| CertificateDer::from(certificate.der().to_vec());
    issued.chain().map(der).collect()
}

/// After a third of the life that is left at issuance: the rest is for an HSM or a ledger that is
/// unavailable. Backdating is no life: counted from notBefore, a short certificate would be due as
/// soon as it is issued.
fn renew_at(issued_at: UnixTime, not_after: UnixTime) -> UnixTime {
    issued_at.plus(not_after.since(issued_at) / 3)
}

fn dns_names(names: &[San]) -> Vec<String> {
    let dns = |name: &San| match name {
        San::Dns(name) => Some(name.as_str().to_owned()),
        _ => None,
    };
    names.iter().filter_map(dns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_remaining_life_is_between_renewals() {
        let now = UnixTime::from_secs(1_000_000);
        let minutes = |n: u64| Duration::from_secs(60 * n);
        for ttl in [minutes(1), minutes(4), minutes(60 * 24)] {
            let pause = renew_at(now, now.plus(ttl)).since(now);
            assert_eq!(pause, Duration::from_secs(ttl.as_secs() / 3));
        }
        // An issuer that has ended leaves nothing to wait for.
        assert_eq!(renew_at(now, now.minus(minutes(1))), now);
    }
}
