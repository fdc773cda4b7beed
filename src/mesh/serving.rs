//! The server certificates of listeners, issued by this server's own authorities and renewed before
//! they expire. Their keys are in software, so that handshakes do not use the HSM; the last certificate
//! and its key are kept for a start without the token.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::config::OwnCertificate;
use super::kept_certificate::KeptCertificate;
use crate::clock::{Clock, UnixTime};
use crate::issuance::{Authorities, Issued, OwnKeyError, OwnKeyRequest};
use crate::ledger::CaCertificateId;
use crate::log_limit::OnChange;
use crate::net::{Certificates, Entry, TlsError, certified_key};
use crate::x509::Certificate;

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
    slots: Vec<Slot>,
    shown: Arc<Certificates>,
    authorities: Arc<Authorities>,
    clock: Arc<dyn Clock>,
    /// Cancelled once a certificate is shown.
    first: CancellationToken,
}

/// One certificate of the listener.
#[derive(Debug)]
struct Slot {
    wanted: OwnCertificate,
    file: KeptCertificate,
    /// That of the last start, until another is issued.
    kept: Option<Entry>,
    fresh: Option<Shown>,
    problem: OnChange,
    not_kept: OnChange,
}

/// A certificate in use, and when it must be replaced.
#[derive(Debug)]
struct Shown {
    entry: Entry,
    renew_at: UnixTime,
    under: CaCertificateId,
}

impl ServingCertificate {
    /// Fills `shown` with one certificate for each of `wanted`, which is kept in the file beside it; the
    /// first is the default.
    pub fn new(
        wanted: Vec<(OwnCertificate, KeptCertificate)>,
        shown: Arc<Certificates>,
        authorities: Arc<Authorities>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let slots = wanted.into_iter().map(|(wanted, file)| Slot {
            wanted,
            file,
            kept: None,
            fresh: None,
            problem: OnChange::default(),
            not_kept: OnChange::default(),
        });
        Self {
            slots: slots.collect(),
            shown,
            authorities,
            clock,
            first: CancellationToken::new(),
        }
    }

    /// Cancelled once a certificate is shown.
    pub fn first(&self) -> CancellationToken {
        self.first.clone()
    }

    /// Shows what is kept of the last start. Blocks.
    pub fn read_kept(&mut self) {
        let now = self.clock.now();
        for slot in &mut self.slots {
            let trust_domain = &slot.wanted.trust_domain;
            match slot.file.read(&slot.wanted, now) {
                Ok(Some(kept)) => {
                    self.authorities.reserve_key(&kept.public_key);
                    slot.kept = Some(kept.entry);
                    tracing::info!(
                        %trust_domain, not_after = %kept.not_after,
                        "the last serving certificate is in use until another is issued"
                    );
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%trust_domain, %error, "no serving certificate of the last start");
                }
            }
        }
        self.show();
    }

    /// Issues the certificates, and renews them after a third of their lifetime or when the active
    /// issuer changes, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut refreshed = self.authorities.watch();
        loop {
            refreshed.mark_unchanged();
            let mut changed = false;
            let mut slots = std::mem::take(&mut self.slots);
            for slot in &mut slots {
                changed |= self.renew(slot).await;
            }
            self.slots = slots;
            if changed {
                self.show();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                _ = refreshed.changed() => {}
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    fn show(&self) {
        let ready = self.slots.iter().filter_map(|slot| {
            let fresh = slot.fresh.as_ref().map(|fresh| &fresh.entry);
            fresh.or(slot.kept.as_ref()).cloned()
        });
        let ready: Vec<_> = ready.collect();
        if !ready.is_empty() {
            self.shown.replace(ready);
            self.first.cancel();
        }
    }

    /// Whether another certificate was issued.
    async fn renew(&self, slot: &mut Slot) -> bool {
        if !self.is_due(&slot.wanted, slot.fresh.as_ref()) {
            return false;
        }
        let issued = self.issue(&slot.wanted).await;
        let trust_domain = &slot.wanted.trust_domain;
        match issued {
            Ok((fresh, pem)) => {
                slot.fresh = Some(fresh);
                slot.problem.clear();
                let file = slot.file.clone();
                let written = tokio::task::spawn_blocking(move || file.write(&pem)).await;
                match written.map_err(io::Error::from).flatten() {
                    Ok(()) => slot.not_kept.clear(),
                    Err(error) => {
                        let error = error.to_string();
                        if slot.not_kept.is_new(&error) {
                            tracing::warn!(
                                %trust_domain, file = %slot.file.path().display(), %error,
                                "the serving certificate is not kept for a start without the token"
                            );
                        }
                    }
                }
                true
            }
            Err(error) => {
                let error = error.to_string();
                if slot.problem.is_new(&error) {
                    tracing::warn!(%trust_domain, %error, "no serving certificate yet");
                }
                false
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

    /// The certificate, and what is kept of it: the chain and the key in PEM.
    async fn issue(
        &self,
        wanted: &OwnCertificate,
    ) -> Result<(Shown, Zeroizing<String>), ServingError> {
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
            names: wanted.dns_names(),
            key: certified_key(chain(&issued), private)?,
        };
        let mut pem = Zeroizing::new(String::new());
        for certificate in issued.chain() {
            pem.push_str(&certificate.to_pem());
        }
        pem.push_str(&Zeroizing::new(key.serialize_pem()));
        let shown = Shown {
            entry,
            renew_at: renew_at(self.clock.now(), issued.certificate().not_after()),
            under: issued.issuer().certificate_id(),
        };
        Ok((shown, pem))
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
