//! Initializes a token, for `dev` and tests. In production the security officer does it with the
//! vendor's tool.

use cryptoki::session::UserType;
use cryptoki::slot::Slot;
use secrecy::SecretString;

use super::error::HsmError;
use super::fault::Fault;
use super::module::Module;
use super::token_info::TokenInfo;

/// Initializes the token in `slot` or in the first free slot, and sets its PINs. An initialized token
/// is never changed.
pub(super) fn init_token(
    module: &Module,
    slot: Option<u64>,
    label: &str,
    so_pin: &SecretString,
    user_pin: &SecretString,
) -> Result<TokenInfo, HsmError> {
    if label.is_empty() || label.len() > 32 || label.ends_with(' ') {
        return Err(HsmError::BadLabel {
            label: label.to_owned(),
        });
    }
    let call = |fault: Fault| HsmError::Call {
        token: label.to_owned(),
        fault,
    };
    let _guard = module.lock_for_init();
    let tokens: Vec<TokenInfo> = module
        .slots()
        .map_err(call)?
        .into_iter()
        .filter_map(|slot| slot.token.ok())
        .collect();
    if let Some(other) = tokens
        .iter()
        .find(|token| token.initialized && token.label == label)
    {
        return Err(HsmError::LabelInUse {
            label: label.to_owned(),
            serial: other.serial.clone(),
        });
    }
    let free = match slot {
        Some(wanted) => match tokens.iter().find(|token| token.slot == wanted) {
            Some(token) if token.initialized => {
                return Err(HsmError::SlotInUse {
                    slot: wanted,
                    label: token.label.clone(),
                });
            }
            found => found,
        },
        // Some modules never set the flag, and a label is set when a token is initialized.
        None => tokens
            .iter()
            .find(|token| !token.initialized && token.label.is_empty()),
    };
    let slot = free.ok_or(HsmError::NoFreeSlot)?.slot;
    init(module, slot, label, so_pin, user_pin).map_err(call)?;
    module.token_info(slot).map_err(call)
}

fn init(
    module: &Module,
    slot: u64,
    label: &str,
    so_pin: &SecretString,
    user_pin: &SecretString,
) -> Result<(), Fault> {
    module
        .context()?
        .init_token(Slot::try_from(slot)?, so_pin, label)?;
    let session = module.writable_session(slot)?;
    session.login(UserType::So, Some(so_pin))?;
    session.init_pin(user_pin)?;
    // On an error above, closing the session logs the officer out.
    session.logout()?;
    Ok(())
}
