//! What can go wrong with a token, said so that an operator knows what to do next.

use std::path::PathBuf;
use std::time::Duration;

use super::TokenState;
use super::fault::Fault;
use crate::x509::KeyKind;

/// A failure of the module, of a token or of a key; never of a single signature, which is
/// [`SignError`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum HsmError {
    /// The configured file does not exist.
    #[error("no PKCS#11 module at {path}: install the HSM's client library, or correct hsm.module")]
    NoSuchModule {
        /// `hsm.module`.
        path: PathBuf,
    },
    /// The file exists, and is no PKCS#11 module, or will not load.
    #[error("cannot load {path} as a PKCS#11 module: {reason}")]
    Module {
        /// `hsm.module`.
        path: PathBuf,
        /// What the loader or the module said.
        reason: String,
    },
    /// C_Initialize failed.
    #[error("the PKCS#11 module {path} does not start: {fault}")]
    Initialize {
        /// `hsm.module`.
        path: PathBuf,
        /// The module's answer.
        fault: Fault,
    },
    /// The process was started without a variable that `hsm.environment` names.
    #[error(
        "the module reads {name} from the environment, and it is not set as hsm.environment says: start the process with it"
    )]
    Environment {
        /// The variable's name.
        name: String,
    },
    /// No `[hsm.tokens.…]` of that name.
    #[error("no token is configured as {name:?}: hsm.tokens has {known}")]
    UnknownToken {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No slot holds a token that fits.
    #[error("no token with {wanted} in any slot: the module shows {seen}")]
    NoSuchToken {
        /// Label and serial looked for.
        wanted: String,
        /// What the slots hold.
        seen: String,
    },
    /// Several tokens fit.
    #[error("{count} tokens have {wanted} (serials {serials}): name one of them with `serial`")]
    AmbiguousToken {
        /// Label and serial looked for.
        wanted: String,
        /// How many fit.
        count: usize,
        /// Their serial numbers.
        serials: String,
    },
    /// The token cannot be used now.
    #[error("token {token:?} is not ready: {state}")]
    NotReady {
        /// Its name in the config.
        token: String,
        /// Why.
        state: TokenState,
    },
    /// The PIN's source cannot be read.
    #[error("cannot read the PIN from {place}: {reason}")]
    Pin {
        /// The file or variable.
        place: String,
        /// Why.
        reason: String,
    },
    /// No private key with this CKA_ID.
    #[error(
        "token {token:?} has no private key with CKA_ID {id}: `rootbridge key list` shows those it has"
    )]
    NoSuchKey {
        /// The token's name in the config.
        token: String,
        /// The CKA_ID in hex.
        id: String,
    },
    /// Several private keys share this CKA_ID.
    #[error("token {token:?} has {count} private keys with CKA_ID {id}: give each its own")]
    AmbiguousKey {
        /// The token's name in the config.
        token: String,
        /// The CKA_ID in hex.
        id: String,
        /// How many there are.
        count: usize,
    },
    /// A new key would take a CKA_ID that is in use.
    #[error("token {token:?} already has an object with CKA_ID {id}")]
    KeyExists {
        /// The token's name in the config.
        token: String,
        /// The CKA_ID in hex.
        id: String,
    },
    /// The key is not the one that was expected under this CKA_ID.
    #[error(
        "key {id} in token {token:?} has another public key than is on record: this is not the key its certificates were issued to"
    )]
    PublicKeyMismatch {
        /// The token's name in the config.
        token: String,
        /// The CKA_ID in hex.
        id: String,
    },
    /// The public half cannot be read.
    #[error("the public half of key {id} in token {token:?} cannot be read: {reason}")]
    NoPublicKey {
        /// The token's name in the config.
        token: String,
        /// The CKA_ID in hex.
        id: String,
        /// Why.
        reason: String,
    },
    /// The token does not vouch that the key was made inside it and never could leave.
    #[error(
        "token {token:?} does not report key {id} as {which}: a copy of it may exist outside the HSM. \
         Make a key in the token (`rootbridge ca init`), or accept this with \
         `allow_unattested_keys = true` under [hsm.tokens.{token}]"
    )]
    Unattested {
        /// The token's name in the config.
        token: String,
        /// The CKA_ID in hex.
        id: String,
        /// The attributes that are not reported as true.
        which: String,
    },
    /// A kind of key that no CA key may have here.
    #[error(
        "{kind} keys are not used for signing in a token: choose ecdsa-p256, ecdsa-p384, or rsa-2048 to rsa-4096"
    )]
    UnsupportedKey {
        /// What was asked for.
        kind: KeyKind,
    },
    /// Every slot holds an initialized token.
    #[error("no free slot: every token is initialized already, and none will be overwritten")]
    NoFreeSlot,
    /// The slot's token is in use.
    #[error("slot {slot} holds the initialized token {label:?}, which will not be overwritten")]
    SlotInUse {
        /// The slot's number.
        slot: u64,
        /// Its token's label.
        label: String,
    },
    /// A token with this label exists.
    #[error("a token with label {label:?} exists already (serial {serial})")]
    LabelInUse {
        /// The label.
        label: String,
        /// The other token's serial number.
        serial: String,
    },
    /// A label that a token cannot hold.
    #[error("{label:?} cannot be a token's label: 1 to 32 bytes, no space at the end")]
    BadLabel {
        /// The label.
        label: String,
    },
    /// The queue is full.
    #[error("token {token:?} is busy: {queue} requests wait already")]
    Busy {
        /// The token's name in the config.
        token: String,
        /// `hsm.queue`.
        queue: usize,
    },
    /// The token did not answer in time.
    #[error(
        "token {token:?} did not answer within {after:?} ({what}): it may hang, or its workers be stuck"
    )]
    Timeout {
        /// The token's name in the config.
        token: String,
        /// What it was asked.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// Another PKCS#11 call failed.
    #[error("token {token:?}: {fault}")]
    Call {
        /// The token's name in the config.
        token: String,
        /// The module's answer.
        fault: Fault,
    },
    /// The self-test failed.
    #[error("token {token:?} fails its test signature: {reason}")]
    Probe {
        /// The token's name in the config.
        token: String,
        /// Why.
        reason: String,
    },
    /// The system gave no thread.
    #[error("cannot start a thread for token {token:?}: {reason}")]
    Thread {
        /// The token's name in the config.
        token: String,
        /// The system's words.
        reason: String,
    },
}

/// Why there is no signature, and whether that is certain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The queue is full. Nothing was asked of the token.
    #[error("the HSM's queue is full")]
    Busy,
    /// The deadline passed before the token was asked. Certainly no signature exists.
    #[error("the deadline passed before the HSM was asked")]
    Expired,
    /// The token cannot sign now. Certainly no signature exists.
    #[error("the HSM is not available: {0}")]
    Unavailable(String),
    /// The token failed while it signed. A signature may exist.
    #[error("the HSM failed while it signed: {0}")]
    Unknown(String),
    /// The token refuses this key, mechanism or input. Certainly no signature exists, and asking
    /// again will not help.
    #[error("the HSM refuses to sign: {0}")]
    Refused(String),
}
