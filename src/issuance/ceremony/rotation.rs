//! What a rotation adds to an authority: a new issuing CA, and a new root above it or the one that is
//! active.
//!
//! Nothing of it is active or published afterwards. A repeated call uses the keys and certificates that
//! an earlier one made.

use std::sync::Arc;

use super::init::BACKDATE;
use super::keys::KeySpec;
use super::{Ceremony, CeremonyError, issuer_id};
use crate::clock::UnixTime;
use crate::hsm::{Key, Token};
use crate::ledger::{
    AnchorOrigin, AuthorityRecord, CaCertificateRecord, Change, IssuerId, IssuerRecord,
    IssuerState, LedgerError, Role,
};
use crate::x509::{
    Certificate, CertificateSpec, IssuerIdentity, KeyKind, PublicKey, Serial, SubjectSpec,
    TrustDomain, successor_name,
};

/// What arrives with a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuccessorOptions {
    pub trust_domain: TrustDomain,
    /// The issuing CA that it succeeds, whose path length and lifetime it takes over.
    pub old_issuer: IssuerId,
    /// The token's name in the configuration.
    pub token: String,
    /// The kind of the new keys.
    pub kind: KeyKind,
    /// Below a new root, or below the active one.
    pub new_root: bool,
    /// The issuing CA that an earlier call made.
    pub made: Option<IssuerId>,
}

/// A CA that nothing has been signed under.
#[derive(Debug)]
pub struct Successor {
    pub issuer: IssuerId,
    pub issuing: Certificate,
    pub anchor: Certificate,
    /// The issuer of the new root.
    root: Option<IssuerId>,
    by: String,
}

impl Successor {
    /// The changes that record its certificates, and publish the new root.
    pub fn publication(&self) -> Vec<Change> {
        let add = |issuer: &IssuerId, certificate: &Certificate| Change::AddCaCertificate {
            issuer: issuer.clone(),
            der: certificate.der().to_vec(),
            path: Vec::new(),
            anchor: self.anchor.der().to_vec(),
            origin: AnchorOrigin::Own,
            source: format!("rotation by {}", self.by),
            activate: false,
            retire: false,
        };
        let root = self.root.iter().map(|root| add(root, &self.anchor));
        root.chain([add(&self.issuer, &self.issuing)]).collect()
    }
}

impl Ceremony {
    /// Makes the keys and certificates of a successor.
    ///
    /// # Errors
    /// There is nothing to succeed, or the token or the ledger fails; a later call continues.
    pub async fn successor(&self, options: &SuccessorOptions) -> Result<Successor, CeremonyError> {
        let records = self.ledger.snapshot().await?;
        let domain = &options.trust_domain;
        let authority = records
            .authority(domain)
            .ok_or_else(|| LedgerError::UnknownAuthority(domain.clone()))?;
        let (old, row) = signing(authority, &options.old_issuer)?;
        let (old_root, old_anchor) = root_above(authority, row)?;
        let old_certificate = Certificate::parse(row.der.as_slice())?;
        let now = self.clock.now();
        let token = self.token(&options.token).await?;
        let root_spec = KeySpec {
            domain,
            role: Role::Root,
            kind: options.kind,
            path_len: old_root.path_len.unwrap_or(1),
        };
        let (root, anchor) = match options.new_root {
            true => {
                let root = self.pending(&token, root_spec, None).await?;
                let name = unused_name(authority, old_anchor.subject_der())?;
                let old = (name, &old_anchor);
                let anchor = self.new_root(root_spec, &root, old, now).await?;
                (root, anchor)
            }
            false => (self.recorded_key(old_root).await?, old_anchor),
        };
        let spec = KeySpec {
            domain,
            role: Role::Issuing,
            kind: options.kind,
            path_len: old.path_len.unwrap_or_default(),
        };
        let issuing = self.pending(&token, spec, options.made.as_ref()).await?;
        let lifetime = old_certificate
            .not_after()
            .since(old_certificate.not_before());
        let not_after = anchor.not_after();
        let root_name = anchor.subject_der().to_vec();
        let name_der = unused_name(authority, old_certificate.subject_der())?;
        let certificate = CertificateSpec {
            serial: Serial::new(now),
            issuer: Arc::new(IssuerIdentity {
                not_after: Some(not_after),
                ..IssuerIdentity::root(root_name, root.public_key(), root.algorithm())
            }),
            not_before: now.minus(BACKDATE).max(anchor.not_before()),
            not_after: now.plus(lifetime.saturating_sub(BACKDATE)).min(not_after),
            names: Vec::new(),
            public_key: issuing.public_key().clone(),
            subject: SubjectSpec::Ca {
                name_der,
                path_len: Some(spec.path_len),
            },
        };
        Ok(Successor {
            issuer: issuer_id(issuing.public_key()),
            issuing: self.certify(domain, &root, certificate, now).await?,
            root: options.new_root.then(|| issuer_id(root.public_key())),
            anchor,
            by: self.actor.name.clone(),
        })
    }

    /// A root with the lifetime of the one before.
    async fn new_root(
        &self,
        spec: KeySpec<'_>,
        root: &Key,
        (name, old): (Vec<u8>, &Certificate),
        now: UnixTime,
    ) -> Result<Certificate, CeremonyError> {
        let key = root.public_key();
        let lifetime = old.not_after().since(old.not_before());
        let certificate = CertificateSpec {
            serial: Serial::new(now),
            issuer: Arc::new(IssuerIdentity::root(name.clone(), key, root.algorithm())),
            not_before: now.minus(BACKDATE),
            not_after: now.plus(lifetime.saturating_sub(BACKDATE)),
            names: Vec::new(),
            public_key: key.clone(),
            subject: SubjectSpec::Ca {
                name_der: name,
                path_len: Some(spec.path_len),
            },
        };
        self.certify(spec.domain, root, certificate, now).await
    }

    /// The key that an earlier call recorded, or a new one.
    async fn pending(
        &self,
        token: &Arc<Token>,
        spec: KeySpec<'_>,
        made: Option<&IssuerId>,
    ) -> Result<Key, CeremonyError> {
        let pending = self.issuers(spec.domain, spec.role, IssuerState::Pending);
        for record in pending.await?.iter().rev() {
            let is_other = made.is_some_and(|made| *made != record.id);
            // One with a certificate waits for another purpose.
            if is_other || !record.certificates.is_empty() {
                continue;
            }
            if spec.role == Role::Issuing && self.was_requested(record).await? {
                continue;
            }
            if let Some(key) = self.find_key(token, record, spec).await? {
                return Ok(key);
            }
        }
        self.make_key(token, spec).await
    }

    /// The key of an issuer, in whichever token has it.
    async fn recorded_key(&self, issuer: &IssuerRecord) -> Result<Key, CeremonyError> {
        let public_key = PublicKey::from_spki_der(&issuer.public_key).map_err(|error| {
            LedgerError::Damaged(format!("the public key of issuer {}: {error}", issuer.id))
        })?;
        let mut failure =
            CeremonyError::NothingToSucceed(format!("issuer {} has no recorded token", issuer.id));
        for location in &issuer.locations {
            let token = self.token(&location.token).await;
            match token {
                Ok(token) => match token.key(&location.key_id, &public_key).await {
                    Ok(key) => return Ok(key),
                    Err(error) => failure = error.into(),
                },
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// The next name that no CA of this authority has had.
fn unused_name(authority: &AuthorityRecord, old: &[u8]) -> Result<Vec<u8>, CeremonyError> {
    let rows = authority.issuers.iter().flat_map(|each| &each.certificates);
    let used: Vec<Certificate> = rows
        .map(|row| Certificate::parse(row.der.as_slice()))
        .collect::<Result<_, _>>()?;
    let mut name = old.to_vec();
    loop {
        name = successor_name(&name).ok_or_else(|| {
            CeremonyError::NothingToSucceed("its certificate's subject is no Name".to_owned())
        })?;
        if used.iter().all(|each| each.subject_der() != name) {
            return Ok(name);
        }
    }
}

/// The issuing CA that is succeeded, with the certificate that it signs under.
fn signing<'a>(
    authority: &'a AuthorityRecord,
    id: &IssuerId,
) -> Result<(&'a IssuerRecord, &'a CaCertificateRecord), CeremonyError> {
    let found = authority.issuers.iter().find_map(|issuer| {
        let mut rows = issuer.certificates.iter();
        let row = rows.rfind(|row| row.state == IssuerState::Active)?;
        (issuer.id == *id).then_some((issuer, row))
    });
    found.ok_or_else(|| {
        CeremonyError::NothingToSucceed(format!("issuer {id} has no active certificate"))
    })
}

/// The root of this authority above a certificate, with its key's record.
fn root_above<'a>(
    authority: &'a AuthorityRecord,
    row: &CaCertificateRecord,
) -> Result<(&'a IssuerRecord, Certificate), CeremonyError> {
    let mut roots = authority
        .issuers
        .iter()
        .filter(|each| each.role == Role::Root);
    let root = roots.find(|root| {
        let mut rows = root.certificates.iter();
        rows.any(|each| each.sha256 == row.anchor)
    });
    let mut anchors = authority.anchors.iter();
    let anchor = anchors.rfind(|anchor| anchor.sha256 == row.anchor);
    match (root, anchor) {
        (Some(root), Some(anchor)) => Ok((root, Certificate::parse(anchor.der.as_slice())?)),
        _ => Err(CeremonyError::NothingToSucceed(
            "its root is an upstream CA's: `rootbridge ca request` makes the next issuing CA"
                .to_owned(),
        )),
    }
}
