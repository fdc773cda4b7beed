//! The PKCS#11 module and the tokens in its slots. It is finalized and initialized again
//! when a token needs it: a killed remote HSM, a moved token directory, a token that the module holds to
//! be faulty.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard, Weak};

use cryptoki::context::Pkcs11;
use cryptoki::slot::{Limit, Slot};

use super::config::TokenConfig;
use super::error::HsmError;
use super::fault::Fault;
use super::library::{Library, Start};
use super::lifecycle::{Lifecycle, ModuleSession, RestartError, SessionHolder};
use super::mechanism::HashedInToken;
use super::pin::PinFlags;
use super::text::fixed_text;
use super::token_info::{LibraryInfo, TokenInfo};

/// A module. Every owner of a session also owns an `Arc` of this, so that C_Finalize, called when it is
/// dropped, follows the last session's end.
#[derive(Debug)]
pub(super) struct Module {
    library: Library,
    lifecycle: Lifecycle,
}

#[derive(Clone, Debug)]
pub struct SlotReport {
    /// The module that has the slot.
    pub module: PathBuf,
    pub slot: u64,
    /// As the module describes the slot, or empty.
    pub description: String,
    /// Or why the token does not describe itself.
    pub token: Result<TokenInfo, Fault>,
}

impl Module {
    /// Nothing is loaded before [`Self::start`].
    pub(super) fn new(path: &Path, environment: Vec<(String, String)>) -> Arc<Self> {
        Arc::new(Self {
            library: Library::new(path, environment),
            lifecycle: Lifecycle::default(),
        })
    }

    /// Loads and initializes the module, where that has not been done.
    ///
    /// # Errors
    /// [`HsmError::NoSuchModule`], [`HsmError::Module`], [`HsmError::Initialize`].
    pub(super) fn start(&self) -> Result<Start, HsmError> {
        let _guard = self.lifecycle.shared();
        self.library.start()
    }

    pub(super) fn context(&self) -> Result<&Pkcs11, Fault> {
        self.library.context()
    }

    /// As the module's library describes itself.
    pub(super) fn library(&self) -> LibraryInfo {
        self.library.info()
    }

    /// Held while a login thread selects its token and logs in, so that no token is initialized
    /// meanwhile: the security officer cannot log in to a token that has a read-only session.
    pub(super) fn lock_for_login(&self) -> RwLockReadGuard<'_, ()> {
        self.lifecycle.shared()
    }

    /// Held while a token is initialized.
    pub(super) fn lock_for_init(&self) -> RwLockWriteGuard<'_, ()> {
        self.lifecycle.exclusive()
    }

    /// Its sessions are asked for when the module has to be started again.
    pub(super) fn register(&self, holder: Weak<dyn SessionHolder>) {
        self.lifecycle.register(holder);
    }

    /// Whether a restart would interrupt a token that can be used.
    pub(super) fn is_in_use(&self) -> bool {
        self.lifecycle.is_in_use()
    }

    /// Whether all sessions are to be closed.
    pub(super) fn is_restarting(&self) -> bool {
        self.lifecycle.is_restarting()
    }

    /// C_Finalize and C_Initialize, once every session is closed. The caller holds none.
    pub(super) fn restart(&self) -> Result<(), RestartError> {
        self.lifecycle.restart(|| self.library.restart())
    }

    /// All slots that hold a token, those with a faulty one included. The caller holds a guard or a
    /// session.
    pub(super) fn slots(&self) -> Result<Vec<SlotReport>, Fault> {
        let slots = self.context()?.get_slots_with_token()?;
        Ok(slots.into_iter().map(|slot| self.report(slot)).collect())
    }

    pub(super) fn token_info(&self, slot: u64) -> Result<TokenInfo, Fault> {
        let (context, slot) = (self.context()?, Slot::try_from(slot)?);
        let info = context.get_token_info(slot).map_err(Fault::from);
        // A slot that does not describe itself is no reason to lose its token.
        let place = context.get_slot_info(slot).ok();
        let place =
            place.map(|info| [info.slot_description(), info.manufacturer_id()].map(fixed_text));
        let [slot_description, slot_manufacturer] = place.unwrap_or_default();
        let info = match info {
            Ok(info) => info,
            Err(fault) if fault.code().is_some() => return Err(fault),
            // The module answered, and part of it cannot be read (opencryptoki: the token's clock).
            // The token is usable, and its slot can name it.
            Err(fault) => {
                return Ok(TokenInfo {
                    slot: slot.id(),
                    slot_description,
                    slot_manufacturer,
                    library: self.library(),
                    initialized: true,
                    login_required: true,
                    unreadable: Some(fault.to_string()),
                    ..TokenInfo::default()
                });
            }
        };
        Ok(TokenInfo {
            slot: slot.id(),
            label: fixed_text(info.label()),
            serial: fixed_text(info.serial_number()),
            manufacturer: fixed_text(info.manufacturer_id()),
            model: fixed_text(info.model()),
            slot_description,
            slot_manufacturer,
            library: self.library(),
            initialized: info.token_initialized(),
            pin_initialized: info.user_pin_initialized(),
            login_required: info.login_required(),
            pin: PinFlags {
                final_try: info.user_pin_final_try(),
                locked: info.user_pin_locked(),
                to_be_changed: info.user_pin_to_be_changed(),
            },
            most_sessions: match info.max_session_count() {
                Limit::Max(most) => Some(most),
                Limit::Unavailable | Limit::Infinite => None,
            },
            unreadable: None,
        })
    }

    /// What the token hashes by itself. Each mechanism is asked for: for the whole list, the PKCS#11
    /// crate logs an error for every mechanism that it does not know.
    pub(super) fn hashed_in_token(&self, slot: u64) -> HashedInToken {
        let (Ok(slot), Ok(context)) = (Slot::try_from(slot), self.context()) else {
            return HashedInToken::default();
        };
        HashedInToken::choose(|mechanism| {
            let info = context.get_mechanism_info(slot, mechanism);
            info.is_ok_and(|info| info.sign())
        })
    }

    /// A read-only session, which is enough to sign. The caller holds no session.
    pub(super) fn session(&self, slot: u64) -> Result<ModuleSession, Fault> {
        let (context, slot) = (self.context()?, Slot::try_from(slot)?);
        self.lifecycle.open(|| Ok(context.open_ro_session(slot)?))
    }

    /// A session that may create objects. The caller may hold another session.
    pub(super) fn writable_session(&self, slot: u64) -> Result<ModuleSession, Fault> {
        let (context, slot) = (self.context()?, Slot::try_from(slot)?);
        self.lifecycle
            .open_now(|| Ok(context.open_rw_session(slot)?))
    }

    fn report(&self, slot: Slot) -> SlotReport {
        SlotReport {
            module: self.library.path().to_owned(),
            slot: slot.id(),
            description: self
                .context()
                .and_then(|context| Ok(context.get_slot_info(slot)?))
                .map(|info| fixed_text(info.slot_description()))
                .unwrap_or_default(),
            token: self.token_info(slot.id()),
        }
    }
}

/// The one initialized token with the configured label and serial number.
pub(super) fn select(slots: Vec<SlotReport>, wanted: &TokenConfig) -> Result<TokenInfo, HsmError> {
    let seen = describe(&slots);
    let tokens = slots.into_iter().filter_map(|slot| slot.token.ok());
    let mut found: Vec<TokenInfo> = tokens.filter(|info| wanted.matches(info)).collect();
    // The flag is a hint: some modules never set it.
    if found.iter().any(|info| info.initialized) {
        found.retain(|info| info.initialized);
    }
    match (found.pop(), found.len()) {
        (None, _) => Err(HsmError::NoSuchToken {
            wanted: wanted.describe(),
            seen,
        }),
        (Some(token), 0) => Ok(token),
        (Some(token), others) => {
            found.push(token);
            let serials: Vec<_> = found.iter().map(|token| token.serial.as_str()).collect();
            Err(HsmError::AmbiguousToken {
                wanted: wanted.describe(),
                count: others + 1,
                serials: serials.join(", "),
            })
        }
    }
}

fn describe(slots: &[SlotReport]) -> String {
    if slots.is_empty() {
        return "no slot with a token".into();
    }
    let tokens: Vec<String> = slots
        .iter()
        .map(|slot| match &slot.token {
            Ok(TokenInfo {
                unreadable: Some(reason),
                ..
            }) => format!(
                "a token that does not describe itself (slot {0}: {reason}; `uri = \"pkcs11:slot-id={0}\"` \
                 names it)",
                slot.slot
            ),
            Ok(token) if token.initialized || !token.label.is_empty() => {
                format!("{:?} (serial {})", token.label, token.serial)
            }
            Ok(_) => format!("a token that is not initialized (slot {})", slot.slot),
            Err(fault) => format!("a faulty token (slot {}: {fault})", slot.slot),
        })
        .collect();
    tokens.join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::config::{Config, RawConfig, RawTokenConfig};
    use super::*;

    fn slot(slot: u64, label: &str, serial: &str) -> SlotReport {
        let token = TokenInfo {
            slot,
            label: label.into(),
            serial: serial.into(),
            initialized: !serial.is_empty(),
            ..TokenInfo::default()
        };
        SlotReport {
            module: "/m".into(),
            slot,
            description: String::new(),
            token: Ok(token),
        }
    }

    fn wanted(label: Option<&str>, serial: Option<&str>) -> TokenConfig {
        let raw = RawTokenConfig {
            label: label.map(str::to_owned),
            serial: serial.map(str::to_owned),
            pin_env: Some("UNUSED".into()),
            ..RawTokenConfig::default()
        };
        let tokens = [("main".to_owned(), raw)].into();
        let raw: RawConfig = toml::from_str("module = '/m'").unwrap();
        let config = Config::try_from(RawConfig { tokens, ..raw }).unwrap();
        config.token("main").unwrap().clone()
    }

    #[test]
    fn one_token_by_label_serial_or_both_and_a_faulty_one_hides_no_other() {
        let bad = SlotReport {
            module: "/m".into(),
            slot: 1,
            description: String::new(),
            token: Err(Fault::other("C_GetTokenInfo", "odd clock")),
        };
        let slots = vec![
            bad,
            slot(2, "a", "s1"),
            slot(3, "b", "s2"),
            slot(4, "b", "s3"),
            slot(5, "", ""),
        ];
        let pick = |label, serial| select(slots.clone(), &wanted(label, serial));
        assert_eq!(pick(Some("a"), None).unwrap().slot, 2);
        assert_eq!(pick(None, Some("s3")).unwrap().slot, 4);
        assert_eq!(pick(Some("b"), Some("s2")).unwrap().slot, 3);
        let twice = pick(Some("b"), None).unwrap_err().to_string();
        assert_eq!(
            twice,
            "2 tokens have label \"b\" (serials s2, s3): name one of them with `serial`"
        );
        let none = pick(Some("a"), Some("s2")).unwrap_err().to_string();
        assert!(
            none.starts_with("no token with label \"a\" and serial \"s2\" in any slot"),
            "{none}"
        );
        assert!(
            none.contains("odd clock") && none.contains("not initialized (slot 5)"),
            "{none}"
        );
        assert!(
            select(vec![], &wanted(Some("a"), None))
                .unwrap_err()
                .to_string()
                .ends_with("no slot with a token")
        );
    }
}
