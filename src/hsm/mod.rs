//! PKCS#11: one module, its tokens, and workers that each own a session.
//!
//! `module` loads the HSM's library and finds tokens. Each token in use has a `login` thread, which
//! logs in and decides the [`TokenState`], and a `worker_pool` with a bounded queue. Callers open a
//! [`Key`], reserve a queue slot ([`Key::reserve`]) before they record anything, and then sign
//! ([`Permit::sign`]). Private keys never leave the token. The PIN is read for each login and not
//! stored.

mod abilities;
mod attestation;
mod attributes;
mod config;
mod data_object;
mod destroy;
mod error;
mod fault;
mod generate;
mod init;
mod key;
mod key_name;
mod keys;
mod library;
mod lifecycle;
mod login;
mod login_call;
mod login_client;
mod logins;
mod mechanism;
mod module;
mod module_hint;
mod module_restart;
mod permit;
mod pin;
mod pin_source;
mod place;
mod public_key;
mod queue;
mod refused_pin;
mod seat;
mod session_state;
mod signing_key;
mod slots;
mod supervisor;
mod text;
mod token;
mod token_info;
mod token_inner;
mod token_state;
mod uri;
mod worker;
mod worker_pool;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;

use module::Module;
use token_inner::TokenInner;

pub use abilities::{Abilities, MechanismReport, SessionLimits, Use};
pub use attestation::Attestation;
pub use config::{Config, DEFAULT_QUEUE, RawConfig, RawTokenConfig, TokenConfig};
pub use error::{HsmError, SignError};
pub use fault::Fault;
pub use generate::NewKey;
pub use key::Key;
pub use key_name::{KeyName, KeyNameError};
pub use keys::KeyReport;
pub use module::SlotReport;
pub use permit::Permit;
pub use pin_source::PinSource;
pub use signing_key::TEST_MESSAGE;
pub use slots::{most_of_one_caller, queue_for};
pub use token::Token;
pub use token_info::{LibraryInfo, TokenInfo};
pub use token_state::TokenState;
pub use uri::{Pkcs11Uri, UriClass, UriError};
pub use worker_pool::Probe;

/// The module and the tokens in use. A process opens it once.
pub struct Hsm {
    // Dropped first, so that sessions are closed before the module is finalized.
    tokens: Mutex<HashMap<String, Arc<Token>>>,
    config: Config,
    module: Arc<Module>,
}

impl Hsm {
    /// Loads and initializes the module.
    ///
    /// # Errors
    /// [`HsmError::Environment`], [`HsmError::NoSuchModule`], [`HsmError::Module`],
    /// [`HsmError::Initialize`].
    pub fn open(config: &Config) -> Result<Self, HsmError> {
        let hsm = Self::open_with_tokens(config)?;
        hsm.module.start()?;
        Ok(hsm)
    }

    /// For a server: the module is loaded and initialized by the first token's login, and while that fails
    /// its tokens are not ready.
    ///
    /// # Errors
    /// [`HsmError::Environment`].
    pub fn open_with_tokens(config: &Config) -> Result<Self, HsmError> {
        if let Some((name, _)) = config.missing_environment().first() {
            return Err(HsmError::Environment {
                name: (*name).to_owned(),
            });
        }
        let environment = config.environment();
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Self {
            tokens: Mutex::default(),
            module: Module::new(config.module(), environment.collect()),
            config: config.clone(),
        })
    }

    /// The token `[hsm.tokens.NAME]`; the first call starts its threads. It may be missing or refuse
    /// the PIN: its state says so, and the login is retried.
    ///
    /// # Errors
    /// [`HsmError::UnknownToken`], [`HsmError::Thread`].
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
        let inner = TokenInner::new(name, Arc::clone(&self.module), &self.config, config.clone());
        let token = Arc::new(Token::start(inner)?);
        tokens.insert(name.to_owned(), Arc::clone(&token));
        Ok(token)
    }

    /// As `[hsm.tokens.NAME]` calls them.
    pub fn token_names(&self) -> Vec<String> {
        self.config.token_names().map(str::to_owned).collect()
    }

    /// The name in `[hsm.tokens.NAME]` that this token is configured as.
    pub fn name_of(&self, token: &TokenInfo) -> Option<&str> {
        let mut names = self.config.token_names();
        names.find(|name| {
            let config = self.config.token(name);
            config.is_some_and(|config| config.matches(token))
        })
    }

    /// The one configured token that `uri` names. Each is waited for, up to `limit`.
    ///
    /// # Errors
    /// [`HsmError::NoTokenNamed`], [`HsmError::NotReady`], and those of [`Self::token`].
    pub async fn token_by_uri(
        &self,
        uri: &Pkcs11Uri,
        limit: Duration,
    ) -> Result<Arc<Token>, HsmError> {
        let names = self.token_names();
        let mut found = Vec::new();
        let mut not_ready = None;
        for name in &names {
            let token = self.token(name)?;
            if let Err(error) = token.ready(limit).await {
                not_ready = Some(error);
                continue;
            }
            let info = token.info();
            if info.is_some_and(|info| uri.matches_token(&info)) {
                found.push(token);
            }
        }
        match (found.pop(), not_ready) {
            (Some(token), _) if found.is_empty() => Ok(token),
            (None, Some(error)) => Err(error),
            _ => Err(HsmError::NoTokenNamed {
                known: names.join(", "),
            }),
        }
    }

    /// As the module's library describes itself.
    pub fn library(&self) -> LibraryInfo {
        self.module.library()
    }

    /// All slots that hold a token, those with a faulty one included.
    ///
    /// # Errors
    /// C_GetSlotList's.
    pub fn slots(&self) -> Result<Vec<SlotReport>, Fault> {
        let _guard = self.module.lock_for_login();
        self.module.slots()
    }

    /// What the token in a slot can do, by what it says of itself.
    ///
    /// # Errors
    /// C_GetTokenInfo's.
    pub fn abilities(&self, slot: u64) -> Result<Abilities, Fault> {
        let _guard = self.module.lock_for_login();
        Abilities::read(&self.module, slot)
    }

    /// Initializes the token in `slot` or in the first free slot, and sets its PINs. An initialized
    /// token is never changed. For `dev` and tests.
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
        init::init_token(&self.module, slot, label, so_pin, user_pin)
    }
}

impl fmt::Debug for Hsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hsm")
            .field("module", &self.config.module())
            .finish_non_exhaustive()
    }
}
