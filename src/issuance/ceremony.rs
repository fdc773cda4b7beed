//! What makes an authority: its keys, its CA certificates, its anchors. Everything that a key
//! signs here passes through the same door as a leaf.

use std::sync::Arc;
use std::time::Duration;

use super::ca::{CaCertificate, Request};
use super::door::{Door, Prepared};
use super::error::IssueError;
use crate::clock::{Clock, UnixTime};
use crate::hsm::{Hsm, HsmError, Key, Token};
use crate::ledger::{
    Actor, AnchorOrigin, Applied, CallerMethod, CallerRecord, Change, Intent, IssuerId,
    IssuerRecord, IssuerState, KeyLocation, Kind, Ledger, LedgerError, Role,
};
use crate::x509::{
    CertError, Certificate, IssuerIdentity, KeyKind, PathError, PublicKey, Serial,
    SignatureAlgorithm, TbsError, TrustDomain, ca_name, parse_pem_chain, request_info, to_pem,
    verify_ca_path,
};

/// How long a ceremony waits for its token to come up.
const TOKEN_WAIT: Duration = Duration::from_secs(10);
/// How far notBefore of a CA certificate lies in the past, for clocks that lag.
const BACKDATE: Duration = Duration::from_secs(300);

/// Why a ceremony did not come to its end. What it did until then is on record, and the same
/// command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// The authority signs already.
    #[error("`{0}` already has an active issuing CA; `rootbridge ca request` prepares another one")]
    AlreadyActive(TrustDomain),
    /// No certificate of the chain is for a key of this server.
    #[error(
        "the first certificate ({subject}) is for a key that no authority here has: import the \
         answer to `rootbridge ca request`, issuing certificate first"
    )]
    NotOurs {
        /// The first certificate's subject.
        subject: String,
    },
    /// The chain does not end in a root.
    #[error(
        "the chain ends in `{subject}`, which is not self-signed, and no published anchor is above \
         it: append the enterprise's root certificate"
    )]
    NoRoot {
        /// The last certificate's subject.
        subject: String,
    },
    /// The new path ends in a root that workloads do not trust yet.
    #[error(
        "`{trust_domain}` is in use and its bundle does not hold the root `{subject}`: publish it \
         first with `rootbridge anchors add`, and import when every workload has it"
    )]
    UnpublishedRoot {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// The root's subject.
        subject: String,
    },
    /// The enterprise gave less than was asked for.
    #[error("the issuing certificate allows {given} CAs below it, {asked} were asked for")]
    PathLen {
        /// pathLenConstraint of the certificate.
        given: u8,
        /// What `ca request --path-len` said.
        asked: u8,
    },
    /// The chain does not verify.
    #[error("the chain does not verify: {0}")]
    Path(#[from] PathError),
    /// The chain cannot be read.
    #[error("the chain cannot be read: {0}")]
    Chain(#[from] CertError),
    /// A name or a certificate cannot be built.
    #[error(transparent)]
    Build(#[from] TbsError),
    /// The token.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The door.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// What `ca init` makes.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The trust domain of the new authority.
    pub trust_domain: TrustDomain,
    /// The token's name in the configuration.
    pub token: String,
    /// Kind of both keys.
    pub kind: KeyKind,
    /// Life of the root certificate.
    pub root_ttl: Duration,
    /// Life of the issuing certificate.
    pub issuing_ttl: Duration,
    /// How many CAs may stand below the issuing CA.
    pub path_len: u8,
    /// organizationName in both subjects.
    pub organization: Option<String>,
}

/// What `ca init` made.
#[derive(Debug)]
pub struct InitReport {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The root certificate, which is the trust anchor.
    pub root: Certificate,
    /// The issuing certificate.
    pub issuing: Certificate,
    /// The published bundle's sequence.
    pub bundle_sequence: Option<u64>,
}

/// What `ca request` makes.
#[derive(Debug, Clone)]
pub struct RequestOptions {
    /// The trust domain of the authority; it is created when it is new.
    pub trust_domain: TrustDomain,
    /// The token's name in the configuration.
    pub token: String,
    /// Kind of the key.
    pub kind: KeyKind,
    /// How many CAs may stand below the issuing CA.
    pub path_len: u8,
    /// organizationName in the subject.
    pub organization: Option<String>,
}

/// What `ca request` made.
#[derive(Debug)]
pub struct RequestReport {
    /// The certification request for the enterprise's CA.
    pub csr_pem: String,
    /// The pending issuer.
    pub issuer: IssuerId,
    /// Its key.
    pub public_key: PublicKey,
}

/// What `ca import` put in use.
#[derive(Debug)]
pub struct ImportReport {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The issuer that is active now.
    pub issuer: IssuerId,
    /// Its certificate.
    pub certificate: Certificate,
    /// The anchor that its path ends in.
    pub anchor: Certificate,
    /// The published bundle's sequence, when it changed.
    pub bundle_sequence: Option<u64>,
}

/// The ceremonies, on behalf of one actor.
#[derive(Debug)]
pub struct Ceremony {
    hsm: Arc<Hsm>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    door: Door,
    actor: Actor,
}

impl Ceremony {
    /// Ceremonies that `actor` answers for.
    pub fn new(hsm: Arc<Hsm>, clock: Arc<dyn Clock>, door: Door, actor: Actor) -> Self {
        Self {
            hsm,
            ledger: Arc::clone(door.ledger()),
            clock,
            door,
            actor,
        }
    }

    /// Root and issuing CA, both keys made in the token.
    ///
    /// # Errors
    /// [`CeremonyError`]; what was made until then stays, and is used when it is run again.
    pub async fn init(&self, options: InitOptions) -> Result<InitReport, CeremonyError> {
        let domain = &options.trust_domain;
        self.create_authority(domain).await?;
        if self
            .issuer(domain, Role::Issuing, IssuerState::Active)
            .await?
            .is_some()
        {
            return Err(CeremonyError::AlreadyActive(domain.clone()));
        }
        let token = self.token(&options.token).await?;
        let now = self.clock.now();
        let organization = options.organization.as_deref();
        let root_name = ca_name(&format!("{domain} root CA"), organization)?;
        let issuing_name = ca_name(&format!("{domain} issuing CA"), organization)?;

        let root_len = options.path_len.saturating_add(1);
        let root = self
            .key(&token, domain, Role::Root, options.kind, root_len)
            .await?;
        let root_ca = CaCertificate {
            serial: Serial::new(now),
            issuer: identity(&root_name, &root),
            issuer_key: root.public_key().clone(),
            issuer_not_after: None,
            subject_der: root_name.clone(),
            not_before: now.minus(BACKDATE),
            not_after: now.plus(options.root_ttl),
            public_key: root.public_key().clone(),
            path_len: Some(root_len),
        };
        let root_certificate = self.sign_ca(domain, &root, root_ca, now).await?;
        self.add(
            &root,
            &root_certificate,
            &[],
            &root_certificate,
            AnchorOrigin::Own,
        )
        .await?;

        let issuing = self
            .key(
                &token,
                domain,
                Role::Issuing,
                options.kind,
                options.path_len,
            )
            .await?;
        let issuing_ca = CaCertificate {
            serial: Serial::new(now),
            issuer: identity(&root_name, &root),
            issuer_key: root.public_key().clone(),
            issuer_not_after: Some(root_certificate.not_after()),
            subject_der: issuing_name,
            not_before: now.minus(BACKDATE),
            not_after: now
                .plus(options.issuing_ttl)
                .min(root_certificate.not_after()),
            public_key: issuing.public_key().clone(),
            path_len: Some(options.path_len),
        };
        let issuing_certificate = self.sign_ca(domain, &root, issuing_ca, now).await?;
        self.add(
            &issuing,
            &issuing_certificate,
            &[],
            &root_certificate,
            AnchorOrigin::Own,
        )
        .await?;
        Ok(InitReport {
            trust_domain: domain.clone(),
            root: root_certificate,
            issuing: issuing_certificate,
            bundle_sequence: self.bundle_sequence(domain).await?,
        })
    }

    /// An issuing key and the request for its certificate.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn request(&self, options: RequestOptions) -> Result<RequestReport, CeremonyError> {
        let domain = &options.trust_domain;
        self.create_authority(domain).await?;
        let token = self.token(&options.token).await?;
        let now = self.clock.now();
        let key = self
            .key(
                &token,
                domain,
                Role::Issuing,
                options.kind,
                options.path_len,
            )
            .await?;
        let name = ca_name(
            &format!("{domain} issuing CA"),
            options.organization.as_deref(),
        )?;
        let info = request_info(&name, key.public_key(), Some(options.path_len))?;
        let product = Request {
            public_key: key.public_key().clone(),
            algorithm: key.algorithm(),
        };
        let mut intent = self.intent(domain, &key, key.public_key(), Kind::Request, info, now);
        intent.subject = format!("{domain} issuing CA");
        let permit = key.reserve().map_err(IssueError::from)?;
        let der = self
            .door
            .walk(Prepared {
                intent,
                permit,
                product,
            })
            .await?;
        Ok(RequestReport {
            csr_pem: to_pem("CERTIFICATE REQUEST", &der),
            issuer: issuer_id(key.public_key()),
            public_key: key.public_key().clone(),
        })
    }

    /// The enterprise's answer: issuing certificate first, its root last.
    ///
    /// # Errors
    /// [`CeremonyError`]; nothing is changed then.
    pub async fn import(&self, chain_pem: &[u8]) -> Result<ImportReport, CeremonyError> {
        let chain = parse_pem_chain(chain_pem)?;
        let records = self.ledger.snapshot().await?;
        let certificate = chain.first().ok_or(CeremonyError::NotOurs {
            subject: String::new(),
        })?;
        let id = issuer_id(certificate.public_key());
        let ours = records
            .issuer(&id)
            .filter(|(_, issuer)| issuer.state != IssuerState::Retired);
        let (authority, issuer) = ours.ok_or_else(|| CeremonyError::NotOurs {
            subject: certificate.subject(),
        })?;
        let domain = &authority.trust_domain;

        let published = authority.bundle.iter().flat_map(|bundle| &bundle.anchors);
        let published = published
            .map(|der| Certificate::parse(der.as_slice()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut anchors = published.clone();
        anchors.extend(chain.last().filter(|last| last.is_self_issued()).cloned());
        if anchors.is_empty() {
            let subject = chain.last().map(Certificate::subject).unwrap_or_default();
            return Err(CeremonyError::NoRoot { subject });
        }
        let path = verify_ca_path(&chain, &anchors, self.clock.now())?;
        let anchor = anchors
            .get(path.anchor)
            .cloned()
            .unwrap_or_else(|| certificate.clone());
        check_path_len(certificate, issuer)?;
        let in_use = authority
            .issuers
            .iter()
            .any(|issuer| issuer.role == Role::Issuing && issuer.state == IssuerState::Active);
        if in_use && !published.contains(&anchor) {
            let subject = anchor.subject();
            return Err(CeremonyError::UnpublishedRoot {
                trust_domain: domain.clone(),
                subject,
            });
        }
        let intermediates = chain.get(1..=path.intermediates).unwrap_or_default();
        let applied = self
            .change(Change::AddCaCertificate {
                issuer: id.clone(),
                der: certificate.der().to_vec(),
                path: intermediates
                    .iter()
                    .map(|each| each.der().to_vec())
                    .collect(),
                anchor: anchor.der().to_vec(),
                origin: AnchorOrigin::Upstream,
                source: format!("import by {}", self.actor.name),
                activate: true,
                retire: false,
            })
            .await?;
        Ok(ImportReport {
            trust_domain: domain.clone(),
            issuer: id,
            certificate: certificate.clone(),
            anchor,
            bundle_sequence: applied.bundles.first().map(|bundle| bundle.sequence),
        })
    }

    async fn change(&self, change: Change) -> Result<Applied, CeremonyError> {
        Ok(self.ledger.apply(change, &self.actor).await?)
    }

    async fn create_authority(&self, domain: &TrustDomain) -> Result<(), CeremonyError> {
        if self.ledger.snapshot().await?.authority(domain).is_none() {
            self.change(Change::CreateAuthority {
                trust_domain: domain.clone(),
            })
            .await?;
        }
        Ok(())
    }

    async fn token(&self, name: &str) -> Result<Arc<Token>, CeremonyError> {
        let token = self.hsm.token(name)?;
        token.ready(TOKEN_WAIT).await?;
        Ok(token)
    }

    async fn issuer(
        &self,
        domain: &TrustDomain,
        role: Role,
        state: IssuerState,
    ) -> Result<Option<IssuerRecord>, CeremonyError> {
        let records = self.ledger.snapshot().await?;
        let issuers = records
            .authority(domain)
            .map(|authority| authority.issuers.as_slice());
        let mut issuers = issuers.unwrap_or_default().iter();
        Ok(issuers
            .rfind(|issuer| issuer.role == role && issuer.state == state)
            .cloned())
    }

    /// A key for `role`: the one that an earlier, broken-off ceremony left pending, or a new one.
    async fn key(
        &self,
        token: &Arc<Token>,
        domain: &TrustDomain,
        role: Role,
        kind: KeyKind,
        path_len: u8,
    ) -> Result<Key, CeremonyError> {
        for state in [IssuerState::Pending, IssuerState::Active] {
            // A root in use signs the next issuing CA; an issuing CA in use is left alone.
            if state == IssuerState::Active && role == Role::Issuing {
                continue;
            }
            if let Some(known) = self.issuer(domain, role, state).await?
                && let Some(key) = self.known_key(token, &known, kind).await?
            {
                return Ok(key);
            }
        }
        let id = Serial::new(self.clock.now()).as_bytes().to_vec();
        let label = format!("rootbridge {domain} {role}");
        let public_key = token.generate(kind, &label, &id).await?;
        self.change(Change::AddIssuer {
            trust_domain: domain.clone(),
            role,
            public_key: public_key.spki_der().to_vec(),
            location: KeyLocation {
                token: token.name().to_owned(),
                token_serial: token.info().map(|info| info.serial).unwrap_or_default(),
                key_id: id.clone(),
                label,
            },
            path_len: Some(path_len),
        })
        .await?;
        Ok(token.key(&id, &public_key).await?)
    }

    async fn known_key(
        &self,
        token: &Arc<Token>,
        issuer: &IssuerRecord,
        kind: KeyKind,
    ) -> Result<Option<Key>, CeremonyError> {
        let Ok(public_key) = PublicKey::from_spki_der(&issuer.public_key) else {
            return Ok(None);
        };
        let here = issuer
            .locations
            .iter()
            .find(|place| place.token == token.name());
        match here {
            Some(place) if public_key.kind() == kind => {
                Ok(Some(token.key(&place.key_id, &public_key).await?))
            }
            _ => Ok(None),
        }
    }

    async fn sign_ca(
        &self,
        domain: &TrustDomain,
        signer: &Key,
        ca: CaCertificate,
        now: UnixTime,
    ) -> Result<Certificate, CeremonyError> {
        let tbs = ca.template().to_tbs()?;
        let mut intent = self.intent(domain, signer, &ca.public_key, Kind::Ca, tbs, now);
        intent.serial = Some(ca.serial.clone());
        intent.not_before = Some(ca.not_before);
        intent.not_after = Some(ca.not_after);
        intent.subject = format!("{domain} CA");
        let permit = signer.reserve().map_err(IssueError::from)?;
        Ok(self
            .door
            .walk(Prepared {
                intent,
                permit,
                product: ca,
            })
            .await?)
    }

    fn intent(
        &self,
        domain: &TrustDomain,
        signer: &Key,
        certified: &PublicKey,
        kind: Kind,
        tbs: Vec<u8>,
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
            spki_sha256: certified.fingerprint(),
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
            epoch: self.door.epoch(),
            origin: None,
            recorded_at: now,
        }
    }

    async fn add(
        &self,
        key: &Key,
        certificate: &Certificate,
        path: &[Certificate],
        anchor: &Certificate,
        origin: AnchorOrigin,
    ) -> Result<Applied, CeremonyError> {
        self.change(Change::AddCaCertificate {
            issuer: issuer_id(key.public_key()),
            der: certificate.der().to_vec(),
            path: path.iter().map(|each| each.der().to_vec()).collect(),
            anchor: anchor.der().to_vec(),
            origin,
            source: format!("ca init by {}", self.actor.name),
            activate: true,
            retire: false,
        })
        .await
    }

    async fn bundle_sequence(&self, domain: &TrustDomain) -> Result<Option<u64>, CeremonyError> {
        Ok(self
            .ledger
            .bundle(domain, None)
            .await?
            .map(|bundle| bundle.sequence))
    }
}

fn issuer_id(key: &PublicKey) -> IssuerId {
    IssuerId::of_spki(key.spki_der())
}

fn identity(name: &[u8], key: &Key) -> IssuerIdentity {
    let algorithm: SignatureAlgorithm = key.algorithm();
    IssuerIdentity {
        name_der: name.to_vec(),
        key_id: key.public_key().key_id().to_vec(),
        algorithm,
    }
}

fn check_path_len(certificate: &Certificate, issuer: &IssuerRecord) -> Result<(), CeremonyError> {
    match (certificate.path_len(), issuer.path_len) {
        (Some(given), Some(asked)) if given < asked => Err(CeremonyError::PathLen { given, asked }),
        _ => Ok(()),
    }
}
