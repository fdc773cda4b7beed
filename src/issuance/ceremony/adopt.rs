//! `ca adopt`: a CA that exists already, with its key in a token and its certificate at hand.

use super::existing::ExistingKey;
use super::keys::KeySpec;
use super::options::ImportReport;
use super::{Ceremony, CeremonyError};
use crate::ledger::Role;
use crate::x509::{Certificate, TrustDomain};

impl Ceremony {
    /// Makes the key's CA an issuing CA of `domain`. `certificates` hold the certificate that was
    /// issued for the key, and those above it. An error leaves nothing active.
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
        // Before anything is recorded.
        let records = self.ledger.snapshot().await?;
        let authority = records.authority(domain);
        self.check_path(certificate, certificates, authority)?;
        let (token, _) = self.open_existing(key).await?;
        self.create_authority(domain).await?;
        let spec = KeySpec {
            domain,
            role: Role::Issuing,
            kind: key.kind(),
            path_len: certificate.path_len().unwrap_or(0),
        };
        self.record_existing(&token, key, spec).await?;
        self.import(certificates).await
    }
}
