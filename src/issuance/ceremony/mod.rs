//! Ceremonies create an authority: its keys, its CA certificates and its anchors. They sign with
//! the same pipeline as everything else.

mod adopt;
mod arriving;
mod error;
mod examine;
mod existing;
mod import;
mod init;
mod keys;
mod objections;
mod options;
mod request;
mod rotation;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use super::epoch::InFlight;
use super::pipeline::SigningPipeline;
use crate::clock::{Clock, UnixTime};
use crate::hsm::{Hsm, Key, Pkcs11Uri, Token};
use crate::ledger::{
    Actor, Applied, CallerMethod, CallerRecord, Change, Intent, IssuerId, IssuerRecord,
    IssuerState, Kind, Ledger, Role, WorkLease,
};
use crate::x509::{PublicKey, Serial, TrustDomain};

pub use arriving::{Arrived, received, rotation_that_waits};
pub use error::CeremonyError;
pub use existing::ExistingKey;
pub use options::{ImportReport, InitOptions, InitReport, RequestOptions, RequestReport};
pub use rotation::{Successor, SuccessorOptions};
pub use upstream::{UpstreamOptions, UpstreamOutcome};

/// How long a ceremony waits for its token to be ready.
const TOKEN_WAIT: Duration = Duration::from_secs(10);

/// Runs ceremonies for one actor.
#[derive(Debug, Clone)]
pub struct Ceremony {
    hsm: Arc<Hsm>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    pipeline: SigningPipeline,
    actor: Actor,
}

impl Ceremony {
    pub fn new(
        hsm: Arc<Hsm>,
        clock: Arc<dyn Clock>,
        pipeline: SigningPipeline,
        actor: Actor,
    ) -> Self {
        Self {
            hsm,
            ledger: Arc::clone(pipeline.ledger()),
            clock,
            pipeline,
            actor,
        }
    }

    /// The same by the holder of a lease: nothing is recorded, and so nothing signed, once that is lost.
    #[must_use]
    pub fn under(&self, lease: WorkLease) -> Self {
        let mut ceremony = self.clone();
        ceremony.actor.lease = Some(lease);
        ceremony
    }

    async fn change(&self, change: Change) -> Result<Applied, CeremonyError> {
        Ok(self.ledger.apply(change, &self.actor).await?)
    }

    async fn create_authority(&self, domain: &TrustDomain) -> Result<(), CeremonyError> {
        if self.ledger.authority(domain).await?.is_none() {
            self.change(Change::CreateAuthority {
                trust_domain: domain.clone(),
            })
            .await?;
        }
        Ok(())
    }

    /// Whether a token is there and usable.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn require_token(&self, name: &str) -> Result<(), CeremonyError> {
        self.token(name).await.map(drop)
    }

    /// A token by its name in the configuration, or by a URI.
    async fn token(&self, name: &str) -> Result<Arc<Token>, CeremonyError> {
        if Pkcs11Uri::has_scheme(name) {
            let uri = name.parse().map_err(CeremonyError::TokenUri)?;
            return Ok(self.hsm.token_by_uri(&uri, TOKEN_WAIT).await?);
        }
        let token = self.hsm.token(name)?;
        token.ready(TOKEN_WAIT).await?;
        Ok(token)
    }

    /// The authority's issuers in that role and state, oldest first.
    async fn issuers(
        &self,
        domain: &TrustDomain,
        role: Role,
        state: IssuerState,
    ) -> Result<Vec<IssuerRecord>, CeremonyError> {
        let records = self.ledger.snapshot().await?;
        let issuers = records
            .authority(domain)
            .map(|authority| authority.issuers.as_slice());
        let issuers = issuers.unwrap_or_default().iter();
        Ok(issuers
            .filter(|issuer| issuer.role == role && issuer.state == state)
            .cloned()
            .collect())
    }

    /// The fields that the intents of all ceremonies have in common.
    fn intent(
        &self,
        in_flight: &InFlight,
        domain: &TrustDomain,
        signer: &Key,
        public_key: &PublicKey,
        (kind, tbs): (Kind, Vec<u8>),
        now: UnixTime,
    ) -> Intent {
        Intent {
            kind,
            issuer: issuer_id(signer.public_key()),
            ca_certificate: None,
            serial: None,
            tbs,
            algorithm: signer.algorithm(),
            not_before: None,
            not_after: None,
            subject: String::new(),
            profile: "ca".to_owned(),
            spki_sha256: public_key.fingerprint(),
            bundle_digest: None,
            caller: CallerRecord {
                trust_domain: domain.clone(),
                identity: self.actor.name.clone(),
                method: CallerMethod::Local,
                detail: self.actor.via.clone(),
                cluster: None,
                pod: None,
                node: None,
                token_authenticated_at: None,
            },
            request_id: format!("ceremony-{}", Serial::new(now)),
            epoch: in_flight.epoch().clone(),
            idempotency_key: None,
            recorded_at: now,
            lease: self.actor.lease.clone(),
        }
    }
}

fn issuer_id(key: &PublicKey) -> IssuerId {
    IssuerId::of_spki(key.spki_der())
}
