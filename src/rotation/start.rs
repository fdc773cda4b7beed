//! Starts a rotation.

use super::Rotations;
use super::error::RotationError;
use crate::digest::hex;
use crate::issuance::active_path;
use crate::ledger::{
    Actor, AuthorityRecord, Change, IssuerId, IssuerState, LedgerError, Role, RotationChange,
    RotationId, RotationKind, RotationParts, RotationPhase,
};
use crate::x509::{Certificate, KeyKind, TrustDomain};

/// What to rotate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartOptions {
    pub trust_domain: TrustDomain,
    pub kind: RotationKind,
    /// Default: that of the issuing CA that signs.
    pub key: Option<KeyKind>,
    /// Default: that of the issuing CA that signs.
    pub token: Option<String>,
    /// SHA-256 of the root that leaves, for [`RotationKind::RootLeaves`].
    pub anchor: Option<[u8; 32]>,
}

impl Rotations {
    /// Starts a rotation of an authority that signs.
    ///
    /// # Errors
    /// Another is open, or the authority has nothing that could be replaced in this way.
    pub async fn start(
        &self,
        options: &StartOptions,
        by: &Actor,
    ) -> Result<RotationId, RotationError> {
        let _turn = self.moving.lock().await;
        let domain = &options.trust_domain;
        let records = self.parts.ledger.snapshot().await?;
        let authority = records
            .authority(domain)
            .ok_or_else(|| LedgerError::UnknownAuthority(domain.clone()))?;
        let begin = Change::Rotation(begin(authority, options)?);
        self.parts.ledger.apply(begin, by).await?;
        let id = self.open_id(domain).await?;
        tracing::info!(
            trust_domain = %domain, rotation = %id, kind = %options.kind, by = by.name,
            "a rotation starts"
        );
        Ok(id)
    }

    pub(super) async fn open_id(&self, domain: &TrustDomain) -> Result<RotationId, RotationError> {
        let rotations = self.parts.ledger.rotations().await?;
        let mut open = rotations.iter().rev();
        let open = open.find(|each| each.trust_domain == *domain && each.phase.is_open());
        let id = open.map(|open| open.id);
        id.ok_or_else(|| RotationError::NoneOpen(domain.clone()))
    }
}

/// The change that starts it, if the authority has what it replaces.
pub(super) fn begin(
    authority: &AuthorityRecord,
    options: &StartOptions,
) -> Result<RotationChange, RotationError> {
    let path = active_path(authority).map_err(|why| cannot(why.to_string()))?;
    let (Some(signing), Some(anchor)) = (path.first(), path.last()) else {
        return Err(cannot("no issuing CA signs".to_owned()));
    };
    let id = IssuerId::of_spki(signing.public_key().spki_der());
    let old_kind = signing.public_key().kind();
    let parts = match options.kind {
        RotationKind::RootLeaves => leaving(authority, options.anchor, anchor)?,
        RotationKind::UpstreamRoot if options.key.is_some() || options.token.is_some() => {
            return Err(cannot(
                "the request to the upstream CA says which key is certified: set `key` and `token` of \
                 [authority], or give them to `rootbridge ca request`"
                    .to_owned(),
            ));
        }
        _ => RotationParts {
            old_issuer: Some(id.clone()),
            old_anchor: Some(anchor.fingerprint()),
            ..RotationParts::default()
        },
    };
    let key = options.key.unwrap_or(old_kind);
    if key.ca_algorithm().is_none() {
        return Err(cannot(format!("a CA key cannot be of kind {key}")));
    }
    if options.kind == RotationKind::KeyAlgorithm && key == old_kind {
        return Err(cannot(format!(
            "the issuing CA has a key of kind {key} already"
        )));
    }
    let needs_own_root = !matches!(
        options.kind,
        RotationKind::RootLeaves | RotationKind::UpstreamRoot
    );
    if needs_own_root && !has_own_root(authority, anchor) {
        return Err(cannot(
            "the root above the issuing CA is an upstream CA's, which alone can certify the next: \
             `--kind upstream-root`"
                .to_owned(),
        ));
    }
    let of_old = authority.issuers.iter().find(|issuer| issuer.id == id);
    let token = of_old.and_then(|issuer| issuer.locations.first());
    let token = options
        .token
        .clone()
        .or(token.map(|place| place.token.clone()));
    Ok(RotationChange::Begin {
        trust_domain: options.trust_domain.clone(),
        kind: match (options.kind, key == old_kind) {
            (RotationKind::NewRoot, false) => RotationKind::KeyAlgorithm,
            (kind, _) => kind,
        },
        phase: match options.kind {
            RotationKind::RootLeaves => RotationPhase::Drain,
            _ => RotationPhase::Prepare,
        },
        parts,
        key,
        token: token.unwrap_or_default(),
    })
}

pub(super) fn cannot(why: String) -> RotationError {
    RotationError::CannotStart(why)
}

fn has_own_root(authority: &AuthorityRecord, anchor: &Certificate) -> bool {
    let mut roots = authority
        .issuers
        .iter()
        .filter(|each| each.role == Role::Root);
    roots.any(|root| {
        let mut rows = root.certificates.iter();
        rows.any(|row| row.sha256 == anchor.fingerprint())
    })
}

fn leaving(
    authority: &AuthorityRecord,
    leaves: Option<[u8; 32]>,
    signing: &Certificate,
) -> Result<RotationParts, RotationError> {
    let leaves = leaves.ok_or_else(|| cannot("say which root leaves: --anchor".to_owned()))?;
    let mut anchors = authority.anchors.iter();
    let published = anchors.any(|each| each.sha256 == leaves && each.state != IssuerState::Retired);
    if !published {
        return Err(LedgerError::UnknownAnchor {
            trust_domain: authority.trust_domain.clone(),
            sha256: hex(&leaves),
        }
        .into());
    }
    if signing.fingerprint() == leaves {
        return Err(cannot(
            "the issuing CA signs below this root: replace it with `--kind new-root`".to_owned(),
        ));
    }
    Ok(RotationParts {
        old_anchor: Some(leaves),
        ..RotationParts::default()
    })
}
