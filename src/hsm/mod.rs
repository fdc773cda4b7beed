//! PKCS#11: modules, their tokens, and workers that each own a session.
//!
//! `module` loads an HSM's library and finds tokens. Each token in use has a `login` thread, which
//! logs in and decides the [`TokenState`], and a `worker_pool` with a bounded queue. Callers open a
//! [`Key`], reserve a queue slot ([`Key::reserve`]) before they record anything, and then sign
//! ([`Permit::sign`]). A key may be in several tokens (`copies`): the least busy one signs, and another one
//! where it fails. Private keys never leave the token. The PIN is read for each login and not
//! stored.

mod abilities;
mod attestation;
mod attributes;
mod config;
mod copies;
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
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;

use crate::x509::PublicKey;
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

/// The modules and the tokens in use. A process opens it once.
pub struct Hsm {
    // Dropped first, so that sessions are closed before the module is finalized.
    tokens: Mutex<HashMap<String, Arc<Token>>>,
    config: Config,
    /// By their paths; `hsm.module` is the first.
    modules: Vec<(PathBuf, Arc<Module>)>,
}

impl Hsm {
    /// Loads and initializes the modules.
    ///
    /// # Errors
    /// [`HsmError::Environment`], [`HsmError::NoSuchModule`], [`HsmError::Module`],
    /// [`HsmError::Initialize`].
    pub fn open(config: &Config) -> Result<Self, HsmError> {
        let hsm = Self::open_with_tokens(config)?;
        for (_, module) in &hsm.modules {
            module.start()?;
        }
        Ok(hsm)
    }

    /// For a server: each module is loaded and initialized by the login of its first token, and while that
    /// fails its tokens are not ready.
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
        let environment: Vec<_> = environment.collect();
        let module = |path: &Path| (path.to_owned(), Module::new(path, environment.clone()));
        Ok(Self {
            tokens: Mutex::default(),
            modules: config.modules().into_iter().map(module).collect(),
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
        let module = self.module(config.module())?;
        let inner = TokenInner::new(name, module, &self.config, config.clone());
        let token = Arc::new(Token::start(inner)?);
        tokens.insert(name.to_owned(), Arc::clone(&token));
        Ok(token)
    }

    /// Opens the key for signing that has the public key `expected`, in this token and in those with the same
    /// keys. Where it cannot be opened now, [`Self::complete`] opens it later.
    ///
    /// # Errors
    /// Those of [`Self::token`] and [`Token::key`], when it is open nowhere.
    pub async fn key(&self, token: &str, id: &[u8], expected: &PublicKey) -> Result<Key, HsmError> {
        let others = self.config.same_keys(token);
        let mut key: Option<Key> = None;
        let mut missing = Vec::new();
        let mut first_error = None;
        for name in std::iter::once(token).chain(others) {
            match self.key_in(name, id, expected).await {
                Ok(found) => match &key {
                    Some(key) => key.join(&found),
                    None => key = Some(found),
                },
                Err(error) => {
                    missing.push((name.to_owned(), error.to_string()));
                    first_error.get_or_insert(error);
                }
            }
        }
        match (key, first_error) {
            (Some(key), _) => {
                for (name, reason) in missing {
                    key.is_missing_in(&name, reason);
                }
                Ok(key)
            }
            (None, Some(error)) => Err(error),
            (None, None) => self.token(token)?.key(id, expected).await,
        }
    }

    /// Opens the key in the tokens in which it was missing.
    pub async fn complete(&self, key: &Key) {
        for name in key.missing() {
            match self.key_in(&name, key.id(), key.public_key()).await {
                Ok(found) => key.join(&found),
                Err(error) => key.is_missing_in(&name, error.to_string()),
            }
        }
    }

    async fn key_in(&self, token: &str, id: &[u8], expected: &PublicKey) -> Result<Key, HsmError> {
        self.token(token)?.key(id, expected).await
    }

    /// Whether two tokens are configured as such with the same keys.
    pub fn has_same_keys(&self, token: &str, other: &str) -> bool {
        self.config.same_keys(token).contains(&other)
    }

    /// As `[hsm.tokens.NAME]` calls them.
    pub fn token_names(&self) -> Vec<String> {
        self.config.token_names().map(str::to_owned).collect()
    }

    /// The name in `[hsm.tokens.NAME]` that the token in this slot is configured as.
    pub fn name_of(&self, slot: &SlotReport) -> Option<&str> {
        let token = slot.token.as_ref().ok()?;
        let mut names = self.config.token_names();
        names.find(|name| {
            let config = self.config.token(name);
            config.is_some_and(|config| config.module() == slot.module && config.matches(token))
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

    /// As the library of `hsm.module` describes itself.
    pub fn library(&self) -> LibraryInfo {
        let library = self.main_module().map(|module| module.library());
        library.unwrap_or_default()
    }

    /// All slots of all modules that hold a token, those with a faulty one included.
    ///
    /// # Errors
    /// C_GetSlotList's.
    pub fn slots(&self) -> Result<Vec<SlotReport>, Fault> {
        let mut slots = Vec::new();
        for (_, module) in &self.modules {
            let _guard = module.lock_for_login();
            slots.extend(module.slots()?);
        }
        Ok(slots)
    }

    /// What the token in a slot can do, by what it says of itself.
    ///
    /// # Errors
    /// C_GetTokenInfo's.
    pub fn abilities(&self, slot: &SlotReport) -> Result<Abilities, Fault> {
        let module = self.modules.iter().find(|(path, _)| *path == slot.module);
        let module =
            module.map_or_else(|| self.main_module(), |(_, module)| Ok(Arc::clone(module)));
        let module = module.map_err(|error| Fault::other("C_GetTokenInfo", error.to_string()))?;
        let _guard = module.lock_for_login();
        Abilities::read(&module, slot.slot)
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
        init::init_token(self.main_module()?.as_ref(), slot, label, so_pin, user_pin)
    }

    /// `hsm.module`.
    fn main_module(&self) -> Result<Arc<Module>, HsmError> {
        self.module(self.config.module())
    }

    fn module(&self, path: &Path) -> Result<Arc<Module>, HsmError> {
        let module = self.modules.iter().find(|(known, _)| known == path);
        module
            .map(|(_, module)| Arc::clone(module))
            .ok_or_else(|| HsmError::NoSuchModule { path: path.into() })
    }
}

impl fmt::Debug for Hsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hsm")
            .field("module", &self.config.module())
            .finish_non_exhaustive()
    }
}
