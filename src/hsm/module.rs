//! The PKCS#11 module: loaded once, initialized once, and the tokens in its slots.
//!
//! Room for deeper recovery. A killed remote HSM or a token directory that was moved away comes
//! back only after C_Finalize and C_Initialize, which no session-level step replaces. That belongs
//! here, around `context`, and must keep to this order: every token's workers and keeper hand in
//! their sessions (`Shared::epoch` already tells them that theirs are stale), all of them are
//! dropped, then the module is finalized and initialized, then tokens are selected and logged in to
//! again, under `lifecycle`. Session handles start again at 1 after C_Initialize, so one stale
//! `Session` that is dropped later closes somebody else's; and C_Finalize while another thread is
//! inside C_Sign crashes SoftHSM and opencryptoki. A worker that never comes back from C_Sign
//! therefore rules this step out, and leaves ending the process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::session::Session;
use cryptoki::slot::Slot;

use super::config::TokenConfig;
use super::error::HsmError;
use super::fault::Fault;
use super::pin::PinFlags;

/// A loaded and initialized module. Whoever holds sessions holds an `Arc` of it as well, so that
/// C_Finalize, which is called when it is dropped, comes after the last of them.
#[derive(Debug)]
pub(super) struct Module {
    context: Pkcs11,
    path: PathBuf,
    lifecycle: RwLock<()>,
}

/// A token as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// The slot's number, which may be another one after a restart.
    pub slot: u64,
    /// CKA label, without the padding.
    pub label: String,
    /// Serial number, without the padding.
    pub serial: String,
    /// Who made it.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Whether C_InitToken was done.
    pub initialized: bool,
    /// Whether the user PIN was set.
    pub pin_initialized: bool,
    pub(super) pin: PinFlags,
}

impl TokenInfo {
    /// True when one more wrong PIN locks the token.
    pub fn pin_final_try(&self) -> bool {
        self.pin.final_try
    }

    /// True when the user PIN is locked.
    pub fn pin_locked(&self) -> bool {
        self.pin.locked
    }
}

/// A slot and its token.
#[derive(Clone, Debug)]
pub struct SlotReport {
    /// The slot's number.
    pub slot: u64,
    /// What the module calls it; empty when it does not say.
    pub description: String,
    /// The token, or why it cannot be asked.
    pub token: Result<TokenInfo, Fault>,
}

impl Module {
    /// Loads and initializes the module. A process does this once for each module.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, HsmError> {
        if !path.exists() {
            return Err(HsmError::NoSuchModule { path: path.into() });
        }
        let context = Pkcs11::new(path).map_err(|error| HsmError::Module {
            path: path.into(),
            reason: error.to_string(),
        })?;
        // Without OS locking, threads crash SoftHSM. A module that somebody else in this process
        // has initialized is refused, because nobody knows whether that was with locking.
        context
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(|error| HsmError::Initialize {
                path: path.into(),
                fault: error.into(),
            })?;
        Ok(Arc::new(Self {
            context,
            path: path.into(),
            lifecycle: RwLock::new(()),
        }))
    }

    /// The PKCS#11 functions.
    pub(super) fn context(&self) -> &Pkcs11 {
        &self.context
    }

    /// Held by a keeper while it finds its token and logs in, so that nobody provisions meanwhile:
    /// the security officer cannot log in to a token with which somebody has a read-only session.
    pub(super) fn lifecycle(&self) -> RwLockReadGuard<'_, ()> {
        self.lifecycle
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while a token is initialized.
    pub(super) fn provisioning(&self) -> RwLockWriteGuard<'_, ()> {
        self.lifecycle
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// All slots that hold a token. A token that cannot be asked does not hide the others.
    pub(super) fn slots(&self) -> Result<Vec<SlotReport>, Fault> {
        let slots = self.context.get_slots_with_token()?;
        Ok(slots.into_iter().map(|slot| self.report(slot)).collect())
    }

    /// The token in a slot now.
    pub(super) fn token_info(&self, slot: u64) -> Result<TokenInfo, Fault> {
        let info = self.context.get_token_info(Slot::try_from(slot)?)?;
        Ok(TokenInfo {
            slot,
            label: info.label().to_owned(),
            serial: info.serial_number().to_owned(),
            manufacturer: info.manufacturer_id().to_owned(),
            model: info.model().to_owned(),
            initialized: info.token_initialized(),
            pin_initialized: info.user_pin_initialized(),
            pin: PinFlags {
                final_try: info.user_pin_final_try(),
                locked: info.user_pin_locked(),
            },
        })
    }

    /// A read-only session, which is all that signing needs.
    pub(super) fn session(&self, slot: u64) -> Result<Session, Fault> {
        Ok(self.context.open_ro_session(Slot::try_from(slot)?)?)
    }

    /// A session that may make and destroy objects.
    pub(super) fn writable_session(&self, slot: u64) -> Result<Session, Fault> {
        Ok(self.context.open_rw_session(Slot::try_from(slot)?)?)
    }

    fn report(&self, slot: Slot) -> SlotReport {
        SlotReport {
            slot: slot.id(),
            description: self
                .context
                .get_slot_info(slot)
                .map(|info| info.slot_description().trim_end_matches('\0').to_owned())
                .unwrap_or_default(),
            token: self.token_info(slot.id()),
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if let Err(error) = self.context.clone().finalize() {
            tracing::warn!(module = %self.path.display(), error = %Fault::from(error), "the PKCS#11 module did not end cleanly");
        }
    }
}

/// Chooses the one initialized token with the configured label and serial.
pub(super) fn select(slots: Vec<SlotReport>, wanted: &TokenConfig) -> Result<TokenInfo, HsmError> {
    let fits = |info: &TokenInfo| {
        info.initialized
            && wanted.label().is_none_or(|label| label == info.label)
            && wanted.serial().is_none_or(|serial| serial == info.serial)
    };
    let seen = describe(&slots);
    let mut found: Vec<TokenInfo> = slots
        .into_iter()
        .filter_map(|slot| slot.token.ok())
        .filter(fits)
        .collect();
    match (found.pop(), found.len()) {
        (None, _) => Err(HsmError::NoSuchToken {
            wanted: describe_wanted(wanted),
            seen,
        }),
        (Some(token), 0) => Ok(token),
        (Some(token), others) => {
            found.push(token);
            let serials: Vec<_> = found.iter().map(|token| token.serial.as_str()).collect();
            Err(HsmError::AmbiguousToken {
                wanted: describe_wanted(wanted),
                count: others + 1,
                serials: serials.join(", "),
            })
        }
    }
}

fn describe_wanted(wanted: &TokenConfig) -> String {
    match (wanted.label(), wanted.serial()) {
        (Some(label), Some(serial)) => format!("label {label:?} and serial {serial:?}"),
        (Some(label), None) => format!("label {label:?}"),
        (None, serial) => format!("serial {:?}", serial.unwrap_or_default()),
    }
}

fn describe(slots: &[SlotReport]) -> String {
    if slots.is_empty() {
        return "no slot with a token".into();
    }
    let tokens: Vec<String> = slots
        .iter()
        .map(|slot| match &slot.token {
            Ok(token) if token.initialized => {
                format!("{:?} (serial {})", token.label, token.serial)
            }
            Ok(_) => format!("a token that is not initialized (slot {})", slot.slot),
            Err(fault) => format!("a token that cannot be asked (slot {}: {fault})", slot.slot),
        })
        .collect();
    tokens.join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::pin::PinSource;
    use super::*;

    fn slot(slot: u64, label: &str, serial: &str) -> SlotReport {
        let token = TokenInfo {
            slot,
            label: label.into(),
            serial: serial.into(),
            manufacturer: String::new(),
            model: String::new(),
            initialized: !serial.is_empty(),
            pin_initialized: true,
            pin: PinFlags::default(),
        };
        SlotReport {
            slot,
            description: String::new(),
            token: Ok(token),
        }
    }

    fn wanted(label: Option<&str>, serial: Option<&str>) -> TokenConfig {
        TokenConfig {
            label: label.map(str::to_owned),
            serial: serial.map(str::to_owned),
            pin: PinSource::Env("UNUSED".into()),
            allow_unattested_keys: false,
            final_try: false,
        }
    }

    #[test]
    fn one_token_by_label_serial_or_both_and_a_bad_one_hides_nothing() {
        let bad = SlotReport {
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
