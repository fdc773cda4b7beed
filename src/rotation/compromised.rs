//! An issuing CA that must sign nothing more, or cannot: it is retired before its successor is made.

use serde::Serialize;

use super::Rotations;
use super::error::RotationError;
use super::evidence::NAMED;
use super::start::{StartOptions, begin, cannot};
use crate::issuance::active_path;
use crate::ledger::{
    Actor, AuthorityRecord, Change, IssuerId, IssuerState, LedgerError, Live, LiveFilter, Role,
    RotationId, RotationKind,
};
use crate::x509::TrustDomain;

/// What lives below an issuing CA, and what becomes of it.
#[derive(Debug, Clone, Serialize)]
pub struct Compromise {
    pub trust_domain: String,
    pub issuer: String,
    /// It is the one that signs.
    pub signs: bool,
    /// How many certificates are alive: they are accepted until they expire, or their root leaves.
    pub alive: u64,
    /// When the last of them expires.
    pub until: Option<String>,
    /// Those that live longest.
    pub holders: Vec<Holder>,
    /// The rotation that brings its successor, once it is retired.
    pub rotation: Option<i64>,
    /// What is done about its successor.
    pub next: String,
}

/// Whose certificates are alive.
#[derive(Debug, Clone, Serialize)]
pub struct Holder {
    pub subject: String,
    pub cluster: Option<String>,
    pub pod: Option<String>,
    pub is_ca: bool,
    pub certificates: u64,
    pub until: String,
}

/// What takes the place of an issuing CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Another one below the same root.
    SameRoot,
    /// A new root and one below it, in this token: the old keys are lost.
    NewRoot { token: String },
}

/// How the issuing CA is replaced.
enum Successor {
    /// By a rotation that starts.
    Starts(Change),
    /// By one with a new root.
    StartsAgain(Change, String),
    /// By the one that is open.
    Arrives(RotationId),
    /// Another issuing CA signs already.
    NotNeeded,
    /// An upstream CA has to certify it.
    Requested,
}

impl Rotations {
    /// What [`compromised`](Self::compromised) would do; without `issuer` to the one that signs.
    ///
    /// # Errors
    /// There is no such issuing CA, or it is retired.
    pub async fn compromise(
        &self,
        domain: &TrustDomain,
        issuer: Option<&IssuerId>,
        remedy: &Remedy,
    ) -> Result<Compromise, RotationError> {
        Ok(self.plan(domain, issuer, remedy).await?.0)
    }

    /// Retires an issuing CA in this call: the ledger records nothing more for it. If it is the one that
    /// signs, and its root is this authority's own, a rotation to a new issuing CA below that root starts
    /// in the same transaction. It waits for no operator and no window.
    ///
    /// # Errors
    /// There is no such issuing CA, or it is retired.
    pub async fn compromised(
        &self,
        domain: &TrustDomain,
        issuer: Option<&IssuerId>,
        remedy: &Remedy,
        reason: &str,
        by: &Actor,
    ) -> Result<Compromise, RotationError> {
        let _turn = self.moving.lock().await;
        let (mut compromise, id, successor) = self.plan(domain, issuer, remedy).await?;
        let retire = Change::SetIssuerState {
            issuer: id,
            state: IssuerState::Retired,
        };
        let change = match &successor {
            Successor::Starts(begin) | Successor::StartsAgain(begin, _) => {
                Change::All(vec![begin.clone(), retire])
            }
            _ => retire,
        };
        self.parts.ledger.apply(change, by).await?;
        tracing::warn!(
            trust_domain = %domain, issuer = compromise.issuer, by = by.name, reason,
            alive = compromise.alive, until = compromise.until, next = compromise.next,
            "an issuing CA is retired at once"
        );
        compromise.rotation = match successor {
            Successor::Starts(_) | Successor::StartsAgain(..) => {
                Some(self.open_id(domain).await?.get())
            }
            Successor::Arrives(id) => Some(id.get()),
            Successor::NotNeeded | Successor::Requested => None,
        };
        Ok(compromise)
    }

    async fn plan(
        &self,
        domain: &TrustDomain,
        issuer: Option<&IssuerId>,
        remedy: &Remedy,
    ) -> Result<(Compromise, IssuerId, Successor), RotationError> {
        let records = self.parts.ledger.snapshot().await?;
        let authority = records
            .authority(domain)
            .ok_or_else(|| LedgerError::UnknownAuthority(domain.clone()))?;
        let signing = active_path(authority).ok().and_then(|path| {
            let signing = path.first()?;
            Some(IssuerId::of_spki(signing.public_key().spki_der()))
        });
        let id = issuer.or(signing.as_ref()).cloned();
        let id = id.ok_or_else(|| cannot("no issuing CA signs".to_owned()))?;
        in_use(authority, &id)?;
        let signs = signing.as_ref() == Some(&id);
        let successor = self.successor(authority, signs, remedy).await?;
        let filter = LiveFilter {
            trust_domain: domain.clone(),
            now: self.parts.clock.now(),
            which: Live::Below {
                issuers: vec![id.clone()],
                anchor: None,
            },
            limit: NAMED,
        };
        let live = self.parts.ledger.live_certificates(filter).await?;
        let holders = live.holders.into_iter().map(|holder| Holder {
            subject: holder.subject,
            cluster: holder.cluster,
            pod: holder.pod,
            is_ca: holder.is_ca,
            certificates: holder.certificates,
            until: holder.until.to_string(),
        });
        let compromise = Compromise {
            trust_domain: domain.to_string(),
            issuer: id.to_string(),
            signs,
            alive: live.total,
            until: live.until.map(|until| until.to_string()),
            holders: holders.collect(),
            rotation: None,
            next: successor.to_string(),
        };
        Ok((compromise, id, successor))
    }
}

impl Rotations {
    async fn successor(
        &self,
        authority: &AuthorityRecord,
        signs: bool,
        remedy: &Remedy,
    ) -> Result<Successor, RotationError> {
        let domain = &authority.trust_domain;
        let options = |kind, token| StartOptions {
            trust_domain: domain.clone(),
            kind,
            key: None,
            token,
            anchor: None,
        };
        let open = match self.open_id(domain).await {
            Ok(open) => Some(open),
            Err(RotationError::NoneOpen(_)) => None,
            Err(error) => return Err(error),
        };
        if let Remedy::NewRoot { token } = remedy {
            if let Some(open) = open {
                return Err(cannot(format!(
                    "rotation {open} is open: turn it around with `rootbridge rotate back`, or force it on"
                )));
            }
            // Before anything is retired: without it there would be no issuing CA at all.
            let by = Actor::server(None);
            (self.parts.ceremony)(by).require_token(token).await?;
            let begin = begin(
                authority,
                &options(RotationKind::NewRoot, Some(token.clone())),
            )?;
            return Ok(Successor::StartsAgain(
                Change::Rotation(begin),
                token.clone(),
            ));
        }
        Ok(match open {
            _ if !signs => Successor::NotNeeded,
            Some(open) => Successor::Arrives(open),
            None => match begin(authority, &options(RotationKind::NewIssuer, None)) {
                Ok(begin) => Successor::Starts(Change::Rotation(begin)),
                Err(_) => Successor::Requested,
            },
        })
    }
}

impl std::fmt::Display for Successor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Starts(_) => f.write_str(
                "nothing is signed for some seconds, until a new issuing CA below the same root is made: \
                 no handshake fails",
            ),
            Self::StartsAgain(_, token) => write!(
                f,
                "nothing is signed until a new root and issuing CA are made in token {token}, and every \
                 target and watcher has that root. From then on those who renew have both roots; until \
                 the others renew too, they refuse what is new"
            ),
            Self::Arrives(id) => write!(
                f,
                "nothing is signed until rotation {id}, which is open, lets another issuing CA sign: \
                 see `rootbridge rotate explain`"
            ),
            Self::NotNeeded => f.write_str("another issuing CA signs: no handshake fails"),
            Self::Requested => f.write_str(
                "nothing is signed until the upstream CA certifies another issuing CA: \
                 `rootbridge ca request`",
            ),
        }
    }
}

fn in_use(authority: &AuthorityRecord, id: &IssuerId) -> Result<(), RotationError> {
    let mut issuers = authority.issuers.iter();
    let found = issuers.find(|each| each.id == *id);
    match found {
        Some(found) if found.state == IssuerState::Retired => {
            Err(cannot(format!("issuer {id} is retired already")))
        }
        Some(found) if found.role == Role::Root => Err(cannot(format!(
            "issuer {id} is a root: replace it with `rootbridge rotate start --kind new-root`"
        ))),
        Some(_) => Ok(()),
        None => Err(cannot(format!(
            "{} has no issuer {id}: see `rootbridge ca list`",
            authority.trust_domain
        ))),
    }
}
