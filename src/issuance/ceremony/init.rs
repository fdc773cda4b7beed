//! `ca init`: makes a root and an issuing CA, with both keys in the token.
//!
//! Each step is recorded before the next one starts, and nothing is active or published before the last
//! one. A later run continues an incomplete one: it uses its keys and the certificates that it signed.

use std::sync::Arc;
use std::time::Duration;

use super::super::error::IssueError;
use super::super::pipeline::Prepared;
use super::existing::ExistingKey;
use super::keys::{KeySpec, describe};
use super::options::{InitOptions, InitReport};
use super::{Ceremony, CeremonyError, issuer_id};
use crate::clock::UnixTime;
use crate::hsm::{Key, Token};
use crate::ledger::{AnchorOrigin, Change, Filter, IssuerRecord, IssuerState, Kind, Role, State};
use crate::x509::{
    Certificate, CertificateSpec, IssuerIdentity, Serial, SubjectSpec, TbsError, TrustDomain,
    ca_name,
};

/// How far notBefore of a CA certificate is in the past, for clocks that are slow.
pub(super) const BACKDATE: Duration = Duration::from_secs(300);

impl Ceremony {
    /// Makes a root and an issuing CA. After an error, a repeated call uses what was made.
    pub async fn init(&self, options: InitOptions) -> Result<InitReport, CeremonyError> {
        let domain = &options.trust_domain;
        let (root_key, issuing_key) = (options.root_key.as_ref(), options.issuing_key.as_ref());
        if let (Some(root), Some(issuing)) = (root_key, issuing_key)
            && root.public_key == issuing.public_key
        {
            return Err(CeremonyError::SameKey);
        }
        let active = self.issuers(domain, Role::Issuing, IssuerState::Active);
        if !active.await?.is_empty() {
            return Err(CeremonyError::AlreadyActive(domain.clone()));
        }
        let now = self.clock.now();
        let organization = options.organization.as_deref();
        let root_name =
            ca_name(&format!("{domain} root CA"), organization).map_err(TbsError::from)?;
        let issuing_name =
            ca_name(&format!("{domain} issuing CA"), organization).map_err(TbsError::from)?;

        let root_len = options.path_len.saturating_add(1);
        let root_spec = KeySpec {
            domain,
            role: Role::Root,
            kind: options.kind,
            path_len: root_len,
        };
        let issuing_spec = KeySpec {
            domain,
            role: Role::Issuing,
            kind: options.kind,
            path_len: options.path_len,
        };
        // All that can be known before anything is generated or recorded.
        for (existing, spec) in [(root_key, root_spec), (issuing_key, issuing_spec)] {
            match existing {
                Some(existing) => {
                    self.open_existing(existing).await?;
                    self.is_usable(existing, spec).await?;
                }
                None => drop(self.token(&options.token).await?),
            }
        }
        self.create_authority(domain).await?;
        let (root, existing) = self.root(&options.token, root_key, root_spec).await?;
        let issuing = match issuing_key {
            Some(existing) => {
                let (token, key) = self.open_existing(existing).await?;
                self.record_existing(&token, existing, issuing_spec).await?;
                key
            }
            None => {
                self.issuing(&self.token(&options.token).await?, issuing_spec)
                    .await?
            }
        };
        let is_new_root = existing.is_none();
        let root_certificate = match existing {
            Some(certificate) => certificate,
            None => {
                let name_der = root_name.clone();
                let key = root.public_key();
                let spec = CertificateSpec {
                    serial: Serial::new(now),
                    issuer: Arc::new(IssuerIdentity::root(root_name, key, root.algorithm())),
                    not_before: now.minus(BACKDATE),
                    not_after: now.plus(options.root_ttl),
                    names: Vec::new(),
                    public_key: key.clone(),
                    subject: SubjectSpec::Ca {
                        name_der,
                        path_len: Some(root_len),
                    },
                };
                self.certify(domain, &root, spec, now).await?
            }
        };

        let root_not_after = root_certificate.not_after();
        let root_name = root_certificate.subject_der().to_vec();
        let spec = CertificateSpec {
            serial: Serial::new(now),
            issuer: Arc::new(IssuerIdentity {
                not_after: Some(root_not_after),
                ..IssuerIdentity::root(root_name, root.public_key(), root.algorithm())
            }),
            not_before: now.minus(BACKDATE).max(root_certificate.not_before()),
            not_after: now.plus(options.issuing_ttl).min(root_not_after),
            names: Vec::new(),
            public_key: issuing.public_key().clone(),
            subject: SubjectSpec::Ca {
                name_der: issuing_name,
                path_len: Some(options.path_len),
            },
        };
        let issuing_certificate = self.certify(domain, &root, spec, now).await?;
        let activated = |key, certificate| self.activated(key, certificate, &root_certificate);
        let mut changes = Vec::new();
        if is_new_root {
            changes.push(activated(&root, &root_certificate));
        }
        changes.push(activated(&issuing, &issuing_certificate));
        self.change(Change::All(changes)).await?;
        let bundle = self.ledger.bundle(domain, None).await?;
        Ok(InitReport {
            trust_domain: domain.clone(),
            root: root_certificate,
            issuing: issuing_certificate,
            bundle_sequence: bundle.map(|bundle| bundle.sequence),
        })
    }

    /// Whether the key has no other use: a root's may be active already, without an issuing CA below.
    async fn is_usable(
        &self,
        existing: &ExistingKey,
        spec: KeySpec<'_>,
    ) -> Result<(), CeremonyError> {
        let active = self.issuers(spec.domain, spec.role, IssuerState::Active);
        let id = issuer_id(&existing.public_key);
        match active.await?.iter().any(|issuer| issuer.id == id) {
            true => Ok(()),
            false => self.is_recorded(existing, spec).await.map(drop),
        }
    }

    /// The root's key, and its certificate if an earlier run signed it.
    async fn root(
        &self,
        token: &str,
        given: Option<&ExistingKey>,
        spec: KeySpec<'_>,
    ) -> Result<(Key, Option<Certificate>), CeremonyError> {
        let domain = spec.domain;
        let mut roots = self
            .issuers(domain, Role::Root, IssuerState::Pending)
            .await?;
        roots.extend(
            self.issuers(domain, Role::Root, IssuerState::Active)
                .await?,
        );
        let Some(record) = roots.pop() else {
            let key = match given {
                Some(existing) => {
                    let (token, key) = self.open_existing(existing).await?;
                    self.record_existing(&token, existing, spec).await?;
                    key
                }
                None => self.make_key(&self.token(token).await?, spec).await?,
            };
            return Ok((key, None));
        };
        // A second root would stay in the bundle forever and sign nothing.
        let differs = || CeremonyError::OptionsDiffer {
            trust_domain: domain.clone(),
            made: describe(&record),
        };
        let key = match given {
            Some(existing) if issuer_id(&existing.public_key) != record.id => return Err(differs()),
            Some(existing) => Some(self.open_existing(existing).await?.1),
            None => {
                let token = self.token(token).await?;
                self.find_key(&token, &record, spec).await?
            }
        };
        let key = key.ok_or_else(differs)?;
        let mut certificates = record.certificates.iter();
        let active = certificates.rfind(|row| row.state == IssuerState::Active);
        let certificate = active.map(|row| Certificate::parse(row.der.as_slice()));
        Ok((key, certificate.transpose()?))
    }

    async fn issuing(&self, token: &Arc<Token>, spec: KeySpec<'_>) -> Result<Key, CeremonyError> {
        let pending = self.issuers(spec.domain, Role::Issuing, IssuerState::Pending);
        for record in pending.await?.iter().rev() {
            // The enterprise may certify it.
            if self.was_requested(record).await? {
                continue;
            }
            if let Some(key) = self.find_key(token, record, spec).await? {
                return Ok(key);
            }
        }
        self.make_key(token, spec).await
    }

    pub(super) async fn was_requested(&self, issuer: &IssuerRecord) -> Result<bool, CeremonyError> {
        let signed = Filter {
            issuer: Some(issuer.id.clone()),
            limit: 1,
            ..Filter::default()
        };
        // A pending key has signed nothing but its own certification requests.
        Ok(!self.ledger.certificates(signed).await?.is_empty())
    }

    /// Signs `spec`, unless an earlier run did: then returns that certificate.
    pub(super) async fn certify(
        &self,
        domain: &TrustDomain,
        signer: &Key,
        spec: CertificateSpec,
        now: UnixTime,
    ) -> Result<Certificate, CeremonyError> {
        let signed = Filter {
            issuer: Some(issuer_id(signer.public_key())),
            state: Some(State::Issued),
            ..Filter::default()
        };
        for row in self.ledger.certificates(signed).await? {
            let Some(der) = row.der()?.filter(|_| row.kind == Kind::Ca) else {
                continue;
            };
            let certificate = Certificate::parse(der)?;
            if certificate.public_key() == &spec.public_key
                && matches!(&spec.subject, SubjectSpec::Ca { name_der, path_len }
                    if certificate.subject_der() == name_der && certificate.path_len() == *path_len)
                && certificate.not_after() > now
            {
                return Ok(certificate);
            }
        }
        let in_flight = self.pipeline.begin();
        let tbs = (Kind::Ca, spec.to_tbs()?);
        let mut intent = self.intent(&in_flight, domain, signer, &spec.public_key, tbs, now);
        intent.serial = Some(spec.serial);
        intent.not_before = Some(spec.not_before);
        intent.not_after = Some(spec.not_after);
        let role = match spec.issuer.not_after {
            None => Role::Root,
            Some(_) => Role::Issuing,
        };
        intent.subject = format!("{domain} {role} CA");
        let permit = signer.reserve().map_err(IssueError::from)?;
        let prepared = Prepared {
            in_flight,
            intent,
            permit,
            signable: spec,
        };
        Ok(self.pipeline.run(prepared, |_| {}).await?)
    }

    fn activated(&self, key: &Key, certificate: &Certificate, anchor: &Certificate) -> Change {
        Change::AddCaCertificate {
            issuer: issuer_id(key.public_key()),
            der: certificate.der().to_vec(),
            path: Vec::new(),
            anchor: anchor.der().to_vec(),
            origin: AnchorOrigin::Own,
            source: format!("ca init by {}", self.actor.name),
            activate: true,
            retire: false,
        }
    }
}
