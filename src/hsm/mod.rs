//! PKCS#11: one module, its tokens, and workers that each own a session.
//!
//! `module` loads the HSM's library and finds tokens; for each token in use a `keeper` holds the
//! login and decides its [`TokenState`], and `signer`'s workers empty a bounded queue. Callers hold
//! a [`Key`], take a place in the queue ([`Key::reserve`]) before they record anything, and then
//! sign ([`Permit::sign`]). The private key never leaves; the PIN is read when it is needed, and
//! never kept.

mod config;
mod error;
mod fault;
mod keeper;
mod key;
mod keys;
mod mechanism;
mod module;
mod pin;
mod provision;
mod queue;
mod shared;
mod signer;
mod token;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::SecretString;

use module::Module;
use shared::Shared;

pub use config::{Config, DEFAULT_QUEUE, RawConfig, RawTokenConfig, TokenConfig};
pub use error::{HsmError, SignError};
pub use fault::Fault;
pub use key::{Key, Permit};
pub use keys::{Attestation, KeyRef, KeyReport, TEST_MESSAGE};
pub use module::{SlotReport, TokenInfo};
pub use pin::PinSource;
pub use shared::TokenState;
pub use token::{Probe, Token};

/// The HSM: its module, and the tokens that are in use. A process opens it once.
pub struct Hsm {
    // Dropped first: threads end, sessions close, and only then the module is finalized.
    tokens: Mutex<HashMap<String, Arc<Token>>>,
    config: Config,
    module: Arc<Module>,
}

impl Hsm {
    /// Loads the module and initializes it, with locking by the operating system.
    ///
    /// # Errors
    /// [`HsmError::Environment`], [`HsmError::NoSuchModule`], [`HsmError::Module`],
    /// [`HsmError::Initialize`].
    pub fn open(config: &Config) -> Result<Self, HsmError> {
        if let Some((name, _)) = config.missing_environment().first() {
            return Err(HsmError::Environment {
                name: (*name).to_owned(),
            });
        }
        let module = Module::open(config.module())?;
        Ok(Self {
            tokens: Mutex::default(),
            config: config.clone(),
            module,
        })
    }

    /// The token of that name in the config; its threads start with the first call. A token that is
    /// missing or refuses the PIN is no error: its state says so, and it recovers alone.
    ///
    /// # Errors
    /// [`HsmError::UnknownToken`] when the config has no such name, [`HsmError::Thread`].
    pub fn token(&self, name: &str) -> Result<Arc<Token>, HsmError> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = tokens.get(name) {
            return Ok(Arc::clone(token));
        }
        let config = self
            .config
            .token(name)
            .ok_or_else(|| HsmError::UnknownToken {
                name: name.to_owned(),
                known: match self.config.token_names().collect::<Vec<_>>().join(", ") {
                    none if none.is_empty() => "none".into(),
                    names => names,
                },
            })?;
        let shared = Shared::new(name, Arc::clone(&self.module), &self.config, config.clone());
        let token = Token::start(shared, self.config.workers())?;
        tokens.insert(name.to_owned(), Arc::clone(&token));
        Ok(token)
    }

    /// All slots that hold a token, those that cannot be asked included.
    ///
    /// # Errors
    /// The module's own when it cannot list its slots.
    pub fn slots(&self) -> Result<Vec<SlotReport>, Fault> {
        self.module.slots()
    }

    /// Initializes a token in a free slot (the first one, unless `slot` names another) and sets its
    /// PINs; a token that is initialized already is never touched. For `dev` and tests.
    ///
    /// # Errors
    /// [`HsmError::BadLabel`], [`HsmError::LabelInUse`], [`HsmError::SlotInUse`],
    /// [`HsmError::NoFreeSlot`], and the token's own.
    pub fn init_token(
        &self,
        slot: Option<u64>,
        label: &str,
        so_pin: &SecretString,
        user_pin: &SecretString,
    ) -> Result<TokenInfo, HsmError> {
        provision::init_token(&self.module, slot, label, so_pin, user_pin)
    }
}

impl fmt::Debug for Hsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hsm")
            .field("module", &self.config.module())
            .finish_non_exhaustive()
    }
}
