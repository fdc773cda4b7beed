//! What the calls of one listener share.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::certification_requests::CertificationRequests;
use super::config::{Mount, Presents, VaultConfig};
use super::error::VaultError;
use super::lockout::Lockout;
use super::session::{PREFIX, Sealer, Session};
use super::sessions::Sessions;
use crate::authn::{Api, AuthnError, Caller, Operators, bearer};
use crate::clock::{Clock, UnixTime};
use crate::issuance::{Authorities, Issuer};
use crate::mesh::authentication::CallerAuthenticator;
use crate::mesh::request_id::RequestId;
use crate::net::Peer;
use crate::x509::Certificate;

const TOKEN: &str = "x-vault-token";

/// What every listener's API shares: the mounts, and the sessions of logins.
#[derive(Debug)]
pub struct VaultState {
    pub(super) config: VaultConfig,
    pub(super) sealer: Sealer,
    pub(super) sessions: Sessions,
    pub(super) lockout: Lockout,
    pub(super) requests: CertificationRequests,
}

/// Why the key of tokens cannot be used. It never shows the key.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    #[error("vault.token_key_file: cannot read {path}: {source}")]
    Read {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error(
        "vault.token_key_file: {path} holds {bytes} bytes, and must hold 32 to 4096: write \
         `head -c 32 /dev/urandom > {path}`"
    )]
    Size {
        path: std::path::PathBuf,
        bytes: usize,
    },
}

impl VaultState {
    /// Reads the key of tokens, or makes one. Blocks.
    ///
    /// # Errors
    /// [`TokenKeyError`].
    pub fn new(config: VaultConfig) -> Result<Self, TokenKeyError> {
        let key = match config.token_key_file() {
            Some(path) => {
                let path = path.to_owned();
                let key = std::fs::read(&path).map(zeroize::Zeroizing::new);
                let key = key.map_err(|source| TokenKeyError::Read {
                    path: path.clone(),
                    source,
                })?;
                if !(32..=4096).contains(&key.len()) {
                    let bytes = key.len();
                    return Err(TokenKeyError::Size { path, bytes });
                }
                key
            }
            None => {
                let mut key = zeroize::Zeroizing::new(vec![0; 32]);
                random(&mut key);
                key
            }
        };
        Ok(Self {
            sealer: Sealer::new(&key),
            config,
            sessions: Sessions::default(),
            lockout: Lockout::default(),
            requests: CertificationRequests::default(),
        })
    }
}

/// Random octets: identifiers and keys.
pub(super) fn random(bytes: &mut [u8]) {
    // aws-lc's generator ends the process rather than fail. A predictable key would be worse.
    #[allow(clippy::expect_used)]
    aws_lc_rs::rand::fill(bytes).expect("aws-lc's random generator does not fail");
}

/// The API of one listener.
#[derive(Debug, Clone)]
pub(in crate::mesh) struct VaultApi {
    pub(in crate::mesh) authenticator: CallerAuthenticator,
    pub(in crate::mesh) authorities: Arc<Authorities>,
    pub(in crate::mesh) clock: Arc<dyn Clock>,
    pub(in crate::mesh) state: Arc<VaultState>,
}

/// One call: where it comes from.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) id: &'a RequestId,
    pub(super) peer: Option<&'a Peer>,
    pub(super) namespace: &'a str,
}

impl Call<'_> {
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.address.ip())
    }
}

/// Who calls, and with what.
#[derive(Debug)]
pub(super) enum Holder {
    /// An operator's own credential, which ends with its file.
    Operator(Box<Caller>),
    /// A login's token.
    Session {
        session: Box<Session>,
        token: String,
        ends: UnixTime,
    },
}

impl Holder {
    pub(super) fn caller(&self) -> &Caller {
        match self {
            Self::Operator(caller) => caller,
            Self::Session { session, .. } => &session.caller,
        }
    }

    /// The caller as the certificates that it requests record it. They are for others: having one is no
    /// proof that its holder presented a token.
    pub(super) fn requester(&self) -> Caller {
        Caller {
            token_authenticated_at: None,
            ..self.caller().clone()
        }
    }
}

impl VaultApi {
    pub(super) fn config(&self) -> &VaultConfig {
        &self.state.config
    }

    /// Verifies the call's token.
    pub(super) async fn holder(
        &self,
        headers: &HeaderMap,
        call: &Call<'_>,
    ) -> Result<Holder, VaultError> {
        let token = token(headers)?;
        if Operators::is_operator_token(&token) {
            let caller = self
                .authenticator
                .authenticate_operator(&token, None, Api::Vault);
            return Ok(Holder::Operator(Box::new(caller.await?)));
        }
        let refused = |why: &dyn std::fmt::Display| {
            let error = AuthnError::rejected(why);
            self.authenticator.count_refused(Api::Vault, &error);
            VaultError::from(error)
        };
        if !token.starts_with(PREFIX) {
            let why = "the token is neither an operator's credential nor of a login here";
            return Err(refused(&why));
        }
        let session = self
            .state
            .sealer
            .open(&token)
            .map_err(|why| refused(&why))?;
        let accessor = session.accessor();
        let ends = self.state.sessions.ends(&session, self.clock.now());
        let ends = ends.ok_or_else(|| {
            refused(&format_args!(
                "the session {accessor} has expired or is revoked"
            ))
        })?;
        // A token of a namespace is one of those below it too.
        let below = call.namespace.strip_prefix(session.namespace.as_str());
        let is_within = session.namespace.is_empty()
            || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !is_within {
            return Err(refused(&format_args!(
                "the session {accessor} is of another namespace"
            )));
        }
        if !self.authenticator.still_accepts(&session.caller) {
            return Err(refused(&format_args!(
                "the listener no longer accepts {}, who logged in as session {accessor}",
                session.caller.identity
            )));
        }
        Ok(Holder::Session {
            session: Box::new(session),
            token,
            ends,
        })
    }

    /// Refuses a caller of another trust domain than the mount's.
    pub(super) fn admit(&self, caller: &Caller, mount: &Mount) -> Result<(), VaultError> {
        match caller.trust_domain == mount.authority {
            true => Ok(()),
            false => Err(VaultError::Denied(format!(
                "{} is of the trust domain {}, and the mount {} is for {}",
                caller.identity, caller.trust_domain, mount.name, mount.authority
            ))),
        }
    }

    /// The issuing CA of a mount; `None` when its authority cannot sign.
    pub(super) fn issuer(&self, mount: &Mount) -> Option<Arc<Issuer>> {
        let (issuer, _) = self.authorities.active_issuer(&mount.authority)?;
        Some(issuer)
    }
}

/// The issuing CA's certificate, those above it, and the anchor.
pub(super) fn whole_path(issuer: &Issuer) -> Vec<&Certificate> {
    let mut path: Vec<_> = issuer.path().collect();
    let anchor = issuer.anchor();
    // An adopted root is its own anchor.
    path.extend(anchor.filter(|anchor| path.last() != Some(anchor)));
    path
}

/// What the mount presents as its own, first, and those above it.
pub(super) fn presented<'a>(issuer: &'a Issuer, mount: &Mount) -> Vec<&'a Certificate> {
    let mut path = whole_path(issuer);
    if mount.presents == Presents::Parent && path.len() > 1 {
        path.remove(0);
    }
    path
}

/// As Vault writes PEM in JSON: without a line's end after it.
pub(super) fn pem(certificate: &Certificate) -> String {
    certificate.to_pem().trim_end().to_owned()
}

/// The token of `X-Vault-Token`, or else of a bearer's header.
fn token(headers: &HeaderMap) -> Result<String, AuthnError> {
    let mut values = headers.get_all(TOKEN).iter();
    let text = match (values.next(), values.next()) {
        (Some(value), None) => value
            .to_str()
            .map_err(|_| AuthnError::rejected("X-Vault-Token is not ASCII"))?
            .trim(),
        (Some(_), Some(_)) => return Err(AuthnError::rejected("more than one X-Vault-Token")),
        (None, _) => match headers.get(AUTHORIZATION) {
            None => "",
            Some(value) => bearer(
                value
                    .to_str()
                    .map_err(|_| AuthnError::rejected("authorization is not ASCII"))?,
            )?,
        },
    };
    match text.is_empty() {
        true => Err(AuthnError::Missing),
        false => Ok(text.to_owned()),
    }
}
