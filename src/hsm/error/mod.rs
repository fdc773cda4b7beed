//! Errors that tell the operator what to do next.

mod codes;

use std::path::PathBuf;
use std::time::Duration;

use super::fault::Fault;
use super::token_state::TokenState;
use crate::x509::KeyKind;

pub(super) use codes::FaultClass;

/// A failure of the module, a token or a key. Of a signature: [`SignError`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum HsmError {
    #[error("no PKCS#11 module at {path}: install the HSM's client library, or correct hsm.module")]
    NoSuchModule { path: PathBuf },
    #[error("cannot load {path} as a PKCS#11 module: {reason}")]
    Module { path: PathBuf, reason: String },
    #[error(
        "cannot initialize the PKCS#11 module {path}: {}{fault}",
        listed(causes)
    )]
    Initialize {
        path: PathBuf,
        fault: Fault,
        /// What may have caused it.
        causes: Vec<String>,
    },
    /// The process does not have a variable of `hsm.environment`.
    #[error(
        "the module reads {name} from the environment, and it is not set as hsm.environment says: start the process with it"
    )]
    Environment { name: String },
    #[error("no token is configured as {name:?}: hsm.tokens has {known}")]
    UnknownToken {
        name: String,
        /// The configured names.
        known: String,
    },
    #[error("the URI does not name exactly one configured token: hsm.tokens has {known}")]
    NoTokenNamed {
        /// The configured names.
        known: String,
    },
    #[error("no token with {wanted} in any slot: the module shows {seen}")]
    NoSuchToken {
        /// The configured label and serial number.
        wanted: String,
        /// The tokens in all slots.
        seen: String,
    },
    #[error("{count} tokens have {wanted} (serials {serials}): name one of them with `serial`")]
    AmbiguousToken {
        /// The configured label and serial number.
        wanted: String,
        count: usize,
        serials: String,
    },
    #[error("token {token:?} is not ready: {state}")]
    NotReady { token: String, state: TokenState },
    #[error("cannot read the PIN from {location}: {reason}")]
    Pin {
        /// The file or environment variable.
        location: String,
        reason: String,
    },
    #[error(
        "token {token:?} has no private key with CKA_ID {id}: `rootbridge key list` shows those it has"
    )]
    NoSuchKey {
        token: String,
        /// CKA_ID in hexadecimal.
        id: String,
    },
    #[error(
        "token {token:?} has {count} private keys with CKA_ID {id}, and none of them has the recorded public \
         key: the certificates were issued to another key"
    )]
    AmbiguousKey {
        token: String,
        /// CKA_ID in hexadecimal.
        id: String,
        count: usize,
    },
    #[error("key {id} in token {token:?} is open for signing, and is not destroyed")]
    KeyInUse {
        token: String,
        /// CKA_ID in hexadecimal.
        id: String,
    },
    #[error("token {token:?} already has an object with CKA_ID {id}")]
    KeyExists {
        token: String,
        /// CKA_ID in hexadecimal.
        id: String,
    },
    #[error(
        "key {id} in token {token:?} does not have the recorded public key: the certificates were issued to another key"
    )]
    PublicKeyMismatch {
        token: String,
        /// CKA_ID in hexadecimal.
        id: String,
    },
    /// Every template was refused.
    #[error(
        "token {token:?} refuses to generate {kind} key pairs with the attributes that protect them \
         (CKA_TOKEN, CKA_SENSITIVE and CKA_SIGN true, CKA_EXTRACTABLE false): {fault}. Generate the key \
         with the vendor's tool, and name it with `--use-key`"
    )]
    KeyTemplate {
        token: String,
        kind: KeyKind,
        /// Of the first attempt.
        fault: Fault,
    },
    #[error(
        "token {token:?} generated a key that it reports as extractable or not sensitive, although the \
         template asked for the opposite: the key is destroyed"
    )]
    ExtractableKey { token: String },
    /// The token would need a login for each signature.
    #[error(
        "token {token:?} requires the PIN again for each signature of key {id} (CKA_ALWAYS_AUTHENTICATE), \
         which is not supported: use a key without it"
    )]
    AlwaysAuthenticate {
        token: String,
        /// CKA_ID in hexadecimal.
        id: String,
    },
    #[error("the public key of key {id} in token {token:?} cannot be read: {reason}")]
    NoPublicKey {
        token: String,
        /// CKA_ID in hexadecimal.
        id: String,
        reason: String,
    },
    /// The token does not report that the key was generated in it and could never leave it.
    #[error(
        "token {token:?} does not report key {id} as {which}: a copy of it may exist outside the HSM. \
         Generate a key in the token (`rootbridge ca init`), or accept this with \
         `allow_unattested_keys = true` under [hsm.tokens.{token}]"
    )]
    Unattested {
        token: String,
        /// CKA_ID in hexadecimal.
        id: String,
        /// The attributes in question.
        which: String,
    },
    #[error(
        "{kind} keys are not used for signing in a token: choose ecdsa-p256, ecdsa-p384, or rsa-2048 to rsa-4096"
    )]
    UnsupportedKey { kind: KeyKind },
    #[error("no free slot: every token is initialized already, and none will be overwritten")]
    NoFreeSlot,
    #[error("slot {slot} holds the initialized token {label:?}, which will not be overwritten")]
    SlotInUse {
        slot: u64,
        /// Of its token.
        label: String,
    },
    #[error("a token with label {label:?} exists already (serial {serial})")]
    LabelInUse { label: String, serial: String },
    #[error("{label:?} is not a valid token label: 1 to 32 bytes, no space at the end")]
    BadLabel { label: String },
    #[error("token {token:?} is busy: {queue} requests wait already")]
    Busy { token: String, queue: usize },
    #[error(
        "token {token:?} did not answer within {after:?} ({what}): the token or its workers may hang"
    )]
    Timeout {
        token: String,
        what: &'static str,
        after: Duration,
    },
    #[error("token {token:?}: {fault}")]
    Call { token: String, fault: Fault },
    #[error("token {token:?} fails its test signature: {reason}")]
    Probe { token: String, reason: String },
    #[error("cannot start a thread for token {token:?}: {reason}")]
    Thread { token: String, reason: String },
}

/// Before the module's own words, which are often none.
fn listed(causes: &[String]) -> String {
    causes.iter().map(|cause| format!("{cause}; ")).collect()
}

/// Why there is no signature. A signature exists in no case but [`Unknown`](Self::Unknown), where one
/// may exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The queue is full.
    #[error("the HSM's queue is full")]
    Busy,
    /// What is left of the queue is for others.
    #[error("{0} has its share of the HSM's queue; the rest is for others")]
    ShareInUse(&'static str),
    /// What waits already takes longer than the time that the request has.
    #[error("what the HSM has to sign first takes {}ms, and a request has {}ms", wait.as_millis(), limit.as_millis())]
    TooLate { wait: Duration, limit: Duration },
    /// The deadline passed before the request reached the token.
    #[error("the deadline passed before the request reached the HSM")]
    Expired,
    /// The token cannot sign now.
    #[error("the HSM is not available: {0}")]
    Unavailable(String),
    /// C_Sign failed, and a signature may exist.
    #[error("the HSM failed while it signed: {0}")]
    Unknown(String),
    /// The token refuses this key, mechanism or input; a retry cannot succeed.
    #[error("the HSM refuses to sign: {0}")]
    Refused(String),
}
