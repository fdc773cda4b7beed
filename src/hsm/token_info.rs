//! What tokens and modules say of themselves.

use super::pin::PinFlags;

/// CK_INFO: the module's library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LibraryInfo {
    pub manufacturer: String,
    pub description: String,
    /// Major and minor.
    pub version: (u8, u8),
}

/// A token as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenInfo {
    /// May change with a restart.
    pub slot: u64,
    /// Without the padding.
    pub label: String,
    /// Without the padding.
    pub serial: String,
    pub manufacturer: String,
    pub model: String,
    /// Of the slot that holds it.
    pub slot_description: String,
    /// Of the slot that holds it.
    pub slot_manufacturer: String,
    /// Of the module.
    pub library: LibraryInfo,
    /// CKF_TOKEN_INITIALIZED. Some modules never set it.
    pub initialized: bool,
    /// CKF_USER_PIN_INITIALIZED. Some modules never set it.
    pub pin_initialized: bool,
    /// CKF_LOGIN_REQUIRED.
    pub login_required: bool,
    /// ulMaxSessionCount; `None`: without a limit, or the token does not say.
    pub most_sessions: Option<u64>,
    /// Why the rest is empty: what the token says of itself cannot be read.
    pub unreadable: Option<String>,
    pub(super) pin: PinFlags,
}

impl TokenInfo {
    /// CKF_USER_PIN_FINAL_TRY: one more wrong PIN locks the token.
    pub fn pin_final_try(&self) -> bool {
        self.pin.final_try
    }

    /// CKF_USER_PIN_LOCKED.
    pub fn pin_locked(&self) -> bool {
        self.pin.locked
    }
}
