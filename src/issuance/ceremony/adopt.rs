//! `ca adopt`: a CA that exists already, with its key in a token and its certificate at hand.

use super::existing::ExistingKey;
use super::import::report;
use super::keys::KeySpec;
use super::options::ImportReport;
use super::{Ceremony, CeremonyError, issuer_id};
use crate::ledger::{Change, Role};
use crate::x509::{Certificate, TrustDomain};

impl Ceremony {
    /// Makes the key's CA an issuing CA of `domain`. `certificates` hold the certificate that was
    /// issued for the key, and those above it; it may be a root itself. An error records nothing.
    pub async fn adopt(
        &self,
        domain: &TrustDomain,
        key: &ExistingKey,
        certificates: &[Certificate],
    ) -> Result<ImportReport, CeremonyError> {
        let own = |each: &&Certificate| *each.public_key() == key.public_key;
        let own = certificates.iter().filter(own);
        let newest = own.max_by_key(|each| each.not_before());
        let certificate = newest.ok_or_else(|| CeremonyError::KeyNotCertified {
            key: key.uri.clone(),
            subjects: super::examine::subjects(certificates),
        })?;
        let id = issuer_id(&key.public_key);
        let records = self.ledger.snapshot().await?;
        let requested = records.issuer(&id).and_then(|(_, issuer)| issuer.path_len);
        let spec = KeySpec {
            domain,
            role: Role::Issuing,
            kind: key.kind(),
            path_len: requested.or(certificate.path_len()).unwrap_or(0),
        };
        let is_recorded = self.is_recorded(key, spec).await?;
        let authority = records.authority(domain);
        let examined = self.examine_for(domain, authority, (certificate, None), certificates)?;
        let (token, _) = self.open_existing(key).await?;

        // All of it or nothing: a pending issuer would be in the way of the next attempt.
        let mut changes = Vec::new();
        if authority.is_none() {
            changes.push(Change::CreateAuthority {
                trust_domain: domain.clone(),
            });
        }
        if !is_recorded {
            changes.push(Self::existing_issuer(&token, key, spec));
        }
        changes.push(self.activation(&id, &examined, "adoption"));
        let applied = self.change(Change::All(changes)).await?;
        let sequence = applied.bundles.last().map(|bundle| bundle.sequence);
        Ok(report(domain, &id, examined, sequence))
    }
}
