//! `ca request`: makes an issuing key and the certification request for it.

use super::super::ca::Request;
use super::super::error::IssueError;
use super::super::pipeline::Prepared;
use super::keys::KeySpec;
use super::options::{RequestOptions, RequestReport};
use super::{Ceremony, CeremonyError, issuer_id};
use crate::hsm::Key;
use crate::ledger::{IssuerState, Kind, Role};
use crate::x509::{TbsError, TrustDomain, ca_name, request_info, to_pem};

impl Ceremony {
    /// Makes an issuing key, or takes an existing one, and makes a certification request. A repeated
    /// call uses the pending key: a second one would stay unused in the token.
    pub async fn request(&self, options: RequestOptions) -> Result<RequestReport, CeremonyError> {
        let domain = &options.trust_domain;
        let spec = KeySpec {
            domain,
            role: Role::Issuing,
            kind: options.kind,
            path_len: options.path_len,
        };
        let key = match &options.use_key {
            Some(existing) => {
                let (token, key) = self.open_existing(existing).await?;
                self.is_recorded(existing, spec).await?;
                self.create_authority(domain).await?;
                self.record_existing(&token, existing, spec).await?;
                key
            }
            None => self.pending_key(&options.token, spec).await?,
        };
        let common_name = format!("{domain} issuing CA");
        let organization = options.organization.as_deref();
        let der = self
            .sign_request(domain, &key, &common_name, organization, options.path_len)
            .await?;
        Ok(RequestReport {
            csr_pem: to_pem("CERTIFICATE REQUEST", &der),
            issuer: issuer_id(key.public_key()),
            public_key: key.public_key().clone(),
        })
    }

    /// A certification request (DER) for the key.
    pub(super) async fn sign_request(
        &self,
        domain: &TrustDomain,
        key: &Key,
        common_name: &str,
        organization: Option<&str>,
        path_len: u8,
    ) -> Result<Vec<u8>, CeremonyError> {
        let name = ca_name(common_name, organization).map_err(TbsError::from)?;
        let info = request_info(&name, key.public_key(), Some(path_len))?;
        let signable = Request {
            public_key: key.public_key().clone(),
            algorithm: key.algorithm(),
        };
        let in_flight = self.pipeline.begin();
        let (info, now) = ((Kind::Request, info), self.clock.now());
        let mut intent = self.intent(&in_flight, domain, key, key.public_key(), info, now);
        intent.subject = common_name.to_owned();
        let permit = key.reserve().map_err(IssueError::from)?;
        let prepared = Prepared {
            in_flight,
            intent,
            permit,
            signable,
        };
        Ok(self.pipeline.run(prepared, |_| {}).await?)
    }

    /// The newest pending key that matches `spec`, or a new one.
    async fn pending_key(&self, token: &str, spec: KeySpec<'_>) -> Result<Key, CeremonyError> {
        let token = self.token(token).await?;
        self.create_authority(spec.domain).await?;
        let pending = self.issuers(spec.domain, Role::Issuing, IssuerState::Pending);
        for record in pending.await?.iter().rev() {
            if let Some(key) = self.find_key(&token, record, spec).await? {
                return Ok(key);
            }
        }
        self.make_key(&token, spec).await
    }
}
