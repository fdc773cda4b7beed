//! Requests to an upstream CA: the key, the CSR, and what becomes of the answer. Whatever asks the
//! upstream CA is above this module.
//!
//! Each step is recorded before the next one starts, so that a process that dies leaves a request that
//! the next one continues, and no key in a token without a record.

use std::sync::Arc;
use std::time::Duration;

use super::arriving::rotation_that_waits;
use super::examine::{Examined, is_in_use, own_certificate};
use super::import::report;
use super::options::ImportReport;
use super::{Ceremony, CeremonyError};
use crate::clock::UnixTime;
use crate::digest::hex;
use crate::hsm::{HsmError, Key, KeyReport, NewKey, Token};
use crate::ledger::{
    AnchorOrigin, AuthorityRecord, CaCertificateRecord, CaRequestChange, CaRequestRecord,
    CaRequestState, Change, IssuerRecord, IssuerState, KeyLocation, LedgerError, Role, RotationId,
};
use crate::x509::{Certificate, KeyKind, PublicKey, TrustDomain};

/// What to request from an upstream CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamOptions {
    pub trust_domain: TrustDomain,
    /// The upstream's name in the configuration.
    pub upstream: String,
    /// The token's name in the configuration, for a new key.
    pub token: String,
    pub kind: KeyKind,
    /// How many CAs are allowed below the issuing CA.
    pub path_len: u8,
    /// commonName of the subject.
    pub common_name: String,
    /// organizationName of the subject.
    pub organization: Option<String>,
    /// Certify the active issuing key again instead of a new one.
    pub reuse_key: bool,
    /// What a new issuing CA's path must have left, so that the profiles can use it.
    pub least_life: Duration,
    /// How long a new root is published before it is used, in an authority that is in use.
    pub publish_first: Duration,
}

/// What became of an upstream CA's answer.
#[derive(Debug)]
pub enum UpstreamOutcome {
    Activated(Box<ImportReport>),
    /// The certificate is good and its root is not known: an operator must approve it.
    WaitsForApproval(Certificate),
    /// The root is approved, and workloads do not have it yet.
    WaitsForBundle {
        anchor: Certificate,
        until: UnixTime,
    },
    /// The root is approved, and a rotation says when the issuing CA below it signs.
    WaitsForRotation {
        anchor: Certificate,
        rotation: RotationId,
    },
}

impl Ceremony {
    /// Records a new request, with the CKA_ID that its key gets or the key that it is for.
    ///
    /// # Errors
    /// [`LedgerError::RequestInFlight`](crate::ledger::LedgerError::RequestInFlight) among others.
    pub async fn begin_upstream(&self, options: &UpstreamOptions) -> Result<(), CeremonyError> {
        let domain = &options.trust_domain;
        let mut authority = self.ledger.authority(domain).await?;
        if authority.is_none() {
            // A token that is not there leaves no authority behind.
            self.require_token(&options.token).await?;
            self.create_authority(domain).await?;
            authority = self.ledger.authority(domain).await?;
        }
        let found = authority
            .as_ref()
            .and_then(|authority| existing_key(authority, options));
        let (location, issuer) = match found {
            Some((issuer, location)) => (location.clone(), Some(issuer.id.clone())),
            None => {
                let token = self.token(&options.token).await?;
                let location = Self::new_location(&token, domain, Role::Issuing).await?;
                (location, None)
            }
        };
        self.change(Change::Request(CaRequestChange::Begin {
            trust_domain: domain.clone(),
            upstream: options.upstream.clone(),
            location,
            kind: options.kind,
            path_len: Some(options.path_len),
            issuer,
        }))
        .await
        .map(drop)
    }

    /// Makes the key of a recorded request, unless an earlier run did, and records the CSR: the
    /// request is about to be sent.
    pub async fn prepare_upstream(
        &self,
        options: &UpstreamOptions,
        request: &CaRequestRecord,
    ) -> Result<(), CeremonyError> {
        let domain = &options.trust_domain;
        let token = self.token(&request.location.token).await?;
        let key = match &request.issuer {
            Some(issuer) => {
                let authority = self.ledger.authority(domain).await?;
                let issuers = authority.iter().flat_map(|authority| &authority.issuers);
                let issuer = issuers
                    .into_iter()
                    .find(|each| each.id == *issuer)
                    .ok_or_else(|| LedgerError::UnknownIssuer(issuer.clone()))?;
                let public_key = PublicKey::from_spki_der(&issuer.public_key).map_err(|error| {
                    let id = &issuer.id;
                    LedgerError::Damaged(format!("the public key of issuer {id}: {error}"))
                })?;
                token.key(&request.location.key_id, &public_key).await?
            }
            None => self.key_on_record(&token, domain, request).await?,
        };
        let path_len = request.path_len.unwrap_or_default();
        let organization = options.organization.as_deref();
        let csr = self
            .sign_request(domain, &key, &options.common_name, organization, path_len)
            .await?;
        self.change(Change::Request(CaRequestChange::Submit {
            request: request.id,
            csr,
        }))
        .await
        .map(drop)
    }

    /// The key with the recorded CKA_ID: one that a run before this one generated, or a new one.
    async fn key_on_record(
        &self,
        token: &Arc<Token>,
        domain: &TrustDomain,
        request: &CaRequestRecord,
    ) -> Result<Key, CeremonyError> {
        let location = &request.location;
        let key = match self.generated(token, request, &location.key_id).await {
            Err(reason @ (HsmError::NoPublicKey { .. } | HsmError::KeyExists { .. })) => {
                let key_id = token.new_key_id().await?;
                let id = request.id;
                let (old, new) = (hex(&location.key_id), hex(&key_id));
                tracing::warn!(event = "upstream.relocated", %domain, request = %id, old, new, %reason, "a generation of the key was interrupted: it gets another CKA_ID");
                self.change(Change::Request(CaRequestChange::Relocate {
                    request: id,
                    key_id: key_id.clone(),
                    reason: reason.to_string(),
                }))
                .await?;
                self.generated(token, request, &key_id).await?
            }
            other => other?,
        };
        self.change(Change::Request(CaRequestChange::AddKey {
            request: request.id,
            public_key: key.public_key.spki_der().to_vec(),
            key_id: key.id.clone(),
        }))
        .await?;
        Ok(token.key(&key.id, &key.public_key).await?)
    }

    async fn generated(
        &self,
        token: &Arc<Token>,
        request: &CaRequestRecord,
        key_id: &[u8],
    ) -> Result<NewKey, HsmError> {
        let found = token.generated_key(key_id).await?;
        let Some(KeyReport { id, public_key, .. }) = found else {
            let label = &request.location.label;
            return token.generate(request.kind, label, Some(key_id)).await;
        };
        match public_key {
            Ok(public_key) => Ok(NewKey { id, public_key }),
            Err(reason) => Err(HsmError::NoPublicKey {
                token: token.name().to_owned(),
                id: hex(&id),
                reason,
            }),
        }
    }

    /// Examines an answer, and activates it if the root is approved and published; otherwise the
    /// answer is recorded, and waits.
    ///
    /// # Errors
    /// The certificates cannot be used, for any reason; nothing was changed.
    pub async fn accept_upstream(
        &self,
        options: &UpstreamOptions,
        request: &CaRequestRecord,
        certificates: &[Certificate],
    ) -> Result<UpstreamOutcome, CeremonyError> {
        let domain = &options.trust_domain;
        let authority = self.ledger.authority(domain).await?;
        let records = authority
            .as_ref()
            .ok_or_else(|| LedgerError::UnknownAuthority(domain.clone()))?;
        let (certificate, authority, issuer) = own_certificate(
            certificates,
            std::slice::from_ref(records),
            request.issuer.as_ref(),
        )?;
        let has = |each: &CaCertificateRecord| each.der == certificate.der();
        if issuer.certificates.iter().any(has) {
            let subject = certificate.subject();
            return Err(CeremonyError::NotNew { subject });
        }
        let approved = approved(authority)?;
        let known: Vec<_> = approved.iter().map(|(each, ..)| each.clone()).collect();
        let examined = self.examine(certificate, issuer.path_len, certificates, &known)?;
        let end = examined.path.iter().map(Certificate::not_after).min();
        let end = end.unwrap_or(certificate.not_after());
        let least = self.clock.now().plus(options.least_life);
        if end < least {
            return Err(CeremonyError::TooShort { end, least });
        }
        let rotation = rotation_that_waits(self.ledger.as_ref(), domain).await?;
        // A renewal below the same root, or of the same key, is none.
        let rotation = rotation.filter(|rotation| {
            rotation.parts.old_issuer.as_ref() != Some(&issuer.id)
                && rotation.parts.old_anchor != Some(examined.anchor.fingerprint())
        });
        let found = approved
            .into_iter()
            .find(|(each, ..)| *each == examined.anchor);
        let waits = match (found, rotation) {
            (None, _) => Some(UpstreamOutcome::WaitsForApproval(examined.anchor.clone())),
            (Some(_), Some(rotation)) => Some(UpstreamOutcome::WaitsForRotation {
                anchor: examined.anchor.clone(),
                rotation: rotation.id,
            }),
            (Some((_, IssuerState::Pending, added_at)), None) if is_in_use(authority) => {
                let until = added_at.plus(options.publish_first);
                let anchor = examined.anchor.clone();
                (self.clock.now() < until)
                    .then_some(UpstreamOutcome::WaitsForBundle { anchor, until })
            }
            (Some(_), None) => None,
        };
        if let Some(waits) = waits {
            if request.state != CaRequestState::Received {
                self.change(Change::Request(CaRequestChange::Receive {
                    request: request.id,
                    certificates: ders(&examined),
                }))
                .await?;
            }
            return Ok(waits);
        }
        let subject = certificate.subject();
        let changes = vec![
            self.activation(&issuer.id, &examined, &request.upstream),
            Change::Request(CaRequestChange::End {
                request: request.id,
                state: CaRequestState::Activated,
                reason: format!("`{subject}` until {end}"),
            }),
        ];
        let applied = self.change(Change::All(changes)).await?;
        let sequence = applied.bundles.first().map(|bundle| bundle.sequence);
        Ok(UpstreamOutcome::Activated(Box::new(report(
            &authority.trust_domain,
            &issuer.id,
            examined,
            sequence,
        ))))
    }
}

/// The anchors that certificates of this authority may end in, with their states and since when they
/// are published: roots of other CAs, which are only published, are none of them.
fn approved(
    authority: &AuthorityRecord,
) -> Result<Vec<(Certificate, IssuerState, UnixTime)>, CeremonyError> {
    let anchors = authority.anchors.iter().filter(|anchor| {
        anchor.origin != AnchorOrigin::Foreign && anchor.state != IssuerState::Retired
    });
    anchors
        .map(|anchor| {
            let certificate = Certificate::parse(anchor.der.as_slice())?;
            Ok((certificate, anchor.state, anchor.added_at))
        })
        .collect()
}

fn ders(examined: &Examined) -> Vec<Vec<u8>> {
    let path = examined.path.iter();
    path.map(|each| each.der().to_vec()).collect()
}

/// A key that the request can be for without a new one: the active one if that is wanted, or that of
/// the last request if the upstream CA refused it.
fn existing_key<'a>(
    authority: &'a AuthorityRecord,
    options: &UpstreamOptions,
) -> Option<(&'a IssuerRecord, &'a KeyLocation)> {
    let refused = authority
        .requests
        .last()
        .filter(|last| last.state == CaRequestState::Refused)
        .and_then(|last| last.issuer.as_ref());
    let fits = |issuer: &&IssuerRecord| {
        let wanted = match issuer.state {
            IssuerState::Active => options.reuse_key,
            IssuerState::Pending => Some(&issuer.id) == refused,
            IssuerState::Retired => false,
        };
        let kind = PublicKey::from_spki_der(&issuer.public_key).map(|key| key.kind());
        wanted
            && issuer.role == Role::Issuing
            && issuer.path_len == Some(options.path_len)
            && kind == Ok(options.kind)
    };
    let issuer = authority.issuers.iter().rfind(fits)?;
    let mut locations = issuer.locations.iter();
    let location = locations.find(|location| location.token == options.token)?;
    Some((issuer, location))
}
