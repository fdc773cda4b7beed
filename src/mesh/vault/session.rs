//! A login's session: who it is for, and the token that holds it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::authn::{Caller, Identity, Method, Pod};
use crate::clock::UnixTime;
use crate::digest::hex;
use crate::x509::{Serial, SpiffeId, TrustDomain};

/// The prefix of every session's token; no JWT and no operator's credential has it.
pub(super) const PREFIX: &str = "rb_vt_";
/// The longest token that is read, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// What a login established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// Random.
    pub(super) id: [u8; 16],
    pub(super) caller: Caller,
    pub(super) namespace: String,
    /// The login's path, such as `auth/kubernetes/login`.
    pub(super) path: String,
    pub(super) issued_at: UnixTime,
    /// Without a renewal.
    pub(super) expires_at: UnixTime,
    /// With renewals.
    pub(super) last_at: UnixTime,
}

impl Session {
    /// By which logs and operators name it; it is no secret.
    pub(super) fn accessor(&self) -> String {
        hex(&crate::digest::sha256(&self.id))
            .chars()
            .take(24)
            .collect()
    }
}

/// Makes tokens and verifies them. A token holds its session, so that logins need no memory.
#[derive(Debug)]
pub(super) struct Sealer(hmac::Key);

/// Why a token is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    #[error("it is no token of a login here")]
    Form,
    #[error("it was not made with this server's key (another server, or an earlier start)")]
    Key,
    #[error("its content cannot be read")]
    Content,
}

impl Sealer {
    pub(super) fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    pub(super) fn seal(&self, session: &Session) -> String {
        // A struct of texts and numbers always serializes.
        let payload = serde_json::to_vec(&Stored::from(session)).unwrap_or_default();
        let tag = hmac::sign(&self.0, &payload);
        let (payload, tag) = (URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode(tag));
        format!("{PREFIX}{payload}.{tag}")
    }

    pub(super) fn open(&self, token: &str) -> Result<Session, SealError> {
        let parts = token
            .strip_prefix(PREFIX)
            .filter(|rest| rest.len() <= MAX_BYTES)
            .and_then(|rest| rest.split_once('.'));
        let (payload, tag) = parts.ok_or(SealError::Form)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| SealError::Form);
        let (payload, tag) = (decode(payload)?, decode(tag)?);
        // In constant time.
        hmac::verify(&self.0, &payload, &tag).map_err(|_| SealError::Key)?;
        let stored: Stored = serde_json::from_slice(&payload).map_err(|_| SealError::Content)?;
        Session::try_from(stored)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    id: [u8; 16],
    trust_domain: String,
    identity: StoredIdentity,
    method: StoredMethod,
    cluster: Option<String>,
    /// Namespace, name, UID.
    pod: Option<(String, String, String)>,
    node: Option<String>,
    authenticated_at: Option<i64>,
    namespace: String,
    path: String,
    issued_at: i64,
    expires_at: i64,
    last_at: i64,
}

#[derive(Debug, Serialize, Deserialize)]
enum StoredIdentity {
    Workload(String),
    Operator(String),
    Subject(String),
}

#[derive(Debug, Serialize, Deserialize)]
enum StoredMethod {
    Jwt(String, String, Option<String>),
    Certificate(Vec<u8>, Option<Vec<u8>>),
    TokenReview,
    ClusterKeys(String, Option<String>),
    Operator,
}

impl From<&Session> for Stored {
    fn from(session: &Session) -> Self {
        let caller = &session.caller;
        let pod = caller.pod.clone();
        Self {
            id: session.id,
            trust_domain: caller.trust_domain.to_string(),
            identity: match &caller.identity {
                Identity::Workload(id) => StoredIdentity::Workload(id.to_string()),
                Identity::Operator(name) => StoredIdentity::Operator(name.clone()),
                Identity::Subject(name) => StoredIdentity::Subject(name.clone()),
                // It logs in nowhere; as a subject it has no rule.
                Identity::Local(name) => StoredIdentity::Subject((*name).to_owned()),
            },
            method: match &caller.method {
                Method::Jwt {
                    verifier,
                    issuer,
                    key_id,
                } => StoredMethod::Jwt(verifier.clone(), issuer.clone(), key_id.clone()),
                Method::Certificate {
                    serial,
                    issuer_key_id,
                } => StoredMethod::Certificate(serial.as_bytes().to_vec(), issuer_key_id.clone()),
                Method::TokenReview => StoredMethod::TokenReview,
                Method::ClusterKeys { issuer, key_id } => {
                    StoredMethod::ClusterKeys(issuer.clone(), key_id.clone())
                }
                Method::Operator | Method::Local | Method::Object { .. } => StoredMethod::Operator,
            },
            cluster: caller.cluster.clone(),
            pod: pod.map(|pod| (pod.namespace, pod.name, pod.uid)),
            node: caller.node.clone(),
            authenticated_at: caller.token_authenticated_at.map(UnixTime::secs),
            namespace: session.namespace.clone(),
            path: session.path.clone(),
            issued_at: session.issued_at.secs(),
            expires_at: session.expires_at.secs(),
            last_at: session.last_at.secs(),
        }
    }
}

impl TryFrom<Stored> for Session {
    type Error = SealError;

    fn try_from(stored: Stored) -> Result<Self, SealError> {
        let identity = match stored.identity {
            StoredIdentity::Workload(id) => {
                Identity::Workload(SpiffeId::parse(&id).map_err(|_| SealError::Content)?)
            }
            StoredIdentity::Operator(name) => Identity::Operator(name),
            StoredIdentity::Subject(name) => Identity::Subject(name),
        };
        let method = match stored.method {
            StoredMethod::Jwt(verifier, issuer, key_id) => Method::Jwt {
                verifier,
                issuer,
                key_id,
            },
            StoredMethod::Certificate(serial, issuer_key_id) => Method::Certificate {
                serial: Serial::from_bytes(&serial).map_err(|_| SealError::Content)?,
                issuer_key_id,
            },
            StoredMethod::TokenReview => Method::TokenReview,
            StoredMethod::ClusterKeys(issuer, key_id) => Method::ClusterKeys { issuer, key_id },
            StoredMethod::Operator => Method::Operator,
        };
        let caller = Caller {
            trust_domain: TrustDomain::parse(&stored.trust_domain)
                .map_err(|_| SealError::Content)?,
            identity,
            method,
            cluster: stored.cluster,
            pod: stored.pod.map(|(namespace, name, uid)| Pod {
                name,
                uid,
                namespace,
            }),
            node: stored.node,
            token_authenticated_at: stored.authenticated_at.map(UnixTime::from_secs),
        };
        Ok(Self {
            id: stored.id,
            caller,
            namespace: stored.namespace,
            path: stored.path,
            issued_at: UnixTime::from_secs(stored.issued_at),
            expires_at: UnixTime::from_secs(stored.expires_at),
            last_at: UnixTime::from_secs(stored.last_at),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn session(identity: Identity, method: Method) -> Session {
        let at = UnixTime::from_secs;
        Session {
            id: [7; 16],
            caller: Caller {
                trust_domain: TrustDomain::parse("td").unwrap(),
                identity,
                method,
                cluster: Some("east".to_owned()),
                pod: Some(Pod {
                    name: "p".to_owned(),
                    uid: "u".to_owned(),
                    namespace: "n".to_owned(),
                }),
                node: None,
                token_authenticated_at: Some(at(5)),
            },
            namespace: "team".to_owned(),
            path: "auth/kubernetes/login".to_owned(),
            issued_at: at(10),
            expires_at: at(20),
            last_at: at(30),
        }
    }

    #[test]
    fn a_token_holds_its_session() {
        let sealer = Sealer::new(&[1; 32]);
        let id = SpiffeId::parse("spiffe://td/ns/a/sa/b").unwrap();
        let text = || "x".to_owned();
        for (identity, method) in [
            (Identity::Workload(id.clone()), Method::TokenReview),
            (
                Identity::Workload(id),
                Method::Certificate {
                    serial: Serial::from_bytes(&[1, 2]).unwrap(),
                    issuer_key_id: Some(vec![3]),
                },
            ),
            (Identity::Operator(text()), Method::Operator),
            (
                Identity::Subject(text()),
                Method::Jwt {
                    verifier: text(),
                    issuer: text(),
                    key_id: None,
                },
            ),
        ] {
            let session = session(identity, method);
            assert_eq!(sealer.open(&sealer.seal(&session)).unwrap(), session);
        }
    }

    #[test]
    fn a_changed_token_and_another_servers_are_refused() {
        let (sealer, other) = (Sealer::new(&[1; 32]), Sealer::new(&[2; 32]));
        let session = session(Identity::Operator("a".to_owned()), Method::Operator);
        let token = sealer.seal(&session);
        assert_eq!(other.open(&token), Err(SealError::Key));
        let (payload, tag) = token.split_once('.').unwrap();
        let another = sealer.seal(&Session {
            id: [8; 16],
            ..session
        });
        let (changed, _) = another.split_once('.').unwrap();
        assert_eq!(
            sealer.open(&format!("{changed}.{tag}")),
            Err(SealError::Key)
        );
        assert_eq!(sealer.open(&format!("{payload}.")), Err(SealError::Key));
        assert_eq!(sealer.open(payload), Err(SealError::Form));
        let long = format!("{PREFIX}{}.x", "A".repeat(MAX_BYTES));
        assert_eq!(sealer.open(&long), Err(SealError::Form));
    }
}
