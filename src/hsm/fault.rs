//! Failed PKCS#11 calls, with a message for the operator. How they are handled is in `error`.

use std::borrow::Cow;
use std::fmt;

use cryptoki::context::Function;
use cryptoki::error::{Error as Pkcs11Error, RvError};

/// A PKCS#11 call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    code: Option<RvError>,
    call: Cow<'static, str>,
    message: String,
    signing: bool,
}

impl Fault {
    /// A failure without a return code: the session counts as lost.
    pub(super) fn other(call: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: None,
            call: call.into(),
            message: message.into(),
            signing: false,
        }
    }

    /// `None` when the module returned no code.
    pub(super) fn code(&self) -> Option<RvError> {
        self.code
    }

    /// Whether it was C_Sign that failed.
    pub(super) fn is_of_signing(&self) -> bool {
        self.signing
    }

    /// CKR_USER_NOT_LOGGED_IN.
    pub(super) fn not_logged_in(&self) -> bool {
        self.code == Some(RvError::UserNotLoggedIn)
    }
}

impl From<Pkcs11Error> for Fault {
    fn from(error: Pkcs11Error) -> Self {
        match error {
            Pkcs11Error::Pkcs11(code, function) => Self {
                code: Some(code),
                call: format!("C_{function:?}").into(),
                message: message(code),
                signing: matches!(function, Function::Sign),
            },
            // cryptoki converts only the length of a signature after C_Sign.
            Pkcs11Error::TryFromInt(error) => Self {
                code: None,
                call: "PKCS#11".into(),
                message: format!("the module returned an impossible length ({error})"),
                signing: true,
            },
            other => Self::other("PKCS#11", other.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.message)
    }
}

impl std::error::Error for Fault {}

/// The code's name in PKCS#11, with its meaning for the operator where that helps.
fn message(code: RvError) -> String {
    use RvError as E;
    let name = match code {
        E::VendorDefined(code) => {
            return format!("vendor-defined code {code:#x}; see the HSM's manual");
        }
        E::UnknownErrorCode(code) => {
            return format!("code {code:#x}, which PKCS#11 does not define");
        }
        known => pkcs11_name(&format!("{known:?}")),
    };
    let meaning = match code {
        E::PinIncorrect => "the PIN is wrong",
        E::PinLocked => "the PIN is locked; the security officer must unlock it",
        E::PinExpired => "the PIN has expired; set a new one with the vendor's tool",
        E::PinLenRange => "the PIN is too short or too long",
        E::UserPinNotInitialized => {
            "the token has no user PIN yet; the security officer must set one"
        }
        E::UserNotLoggedIn => "nobody is logged in to the token",
        E::TokenNotPresent | E::DeviceRemoved => "the token is gone from its slot",
        E::TokenNotRecognized => "the slot does not recognize its token",
        E::TokenWriteProtected => "the token is write-protected",
        E::SlotIdInvalid => "the slot does not exist any more",
        E::SessionCount => "the token has no session left; ask for fewer workers",
        E::SessionClosed | E::SessionHandleInvalid => "the session was lost",
        E::KeyHandleInvalid | E::ObjectHandleInvalid => {
            "the key's handle is invalid; login or key was lost"
        }
        E::KeyFunctionNotPermitted => "the key may not be used to sign (CKA_SIGN)",
        E::KeySizeRange => "the token does not support this key size",
        E::KeyTypeInconsistent => "the key is of another type than the mechanism needs",
        E::MechanismInvalid => "the token does not support this mechanism",
        E::CurveNotSupported | E::DomainParamsInvalid => "the token does not support this curve",
        E::DeviceError => "the HSM reports a fault",
        E::DeviceMemory => "the HSM is out of memory",
        E::HostMemory => "out of memory, or the login was lost",
        E::GeneralError => "the module gives no reason; see its log",
        E::FunctionFailed => "the call failed and the module gives no reason",
        E::CantLock => "the module does not support several threads",
        E::CryptokiAlreadyInitialized => "this process has initialized the module already",
        E::CryptokiNotInitialized => "the module is not initialized any more",
        E::FipsSelfTestFailed => "the HSM failed its own self-test",
        E::TemplateInconsistent | E::AttributeValueInvalid => {
            "the token refuses these key attributes"
        }
        _ => return format!("CKR_{name}"),
    };
    format!("{meaning} (CKR_{name})")
}

/// `PinIncorrect` → `PIN_INCORRECT`.
fn pkcs11_name(camel: &str) -> String {
    let mut name = String::with_capacity(camel.len() + 8);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: RvError, function: Function) -> Fault {
        Fault::from(Pkcs11Error::Pkcs11(code, function))
    }

    #[test]
    fn the_message_explains_and_names_the_code() {
        let wrong = fault(RvError::PinIncorrect, Function::Login);
        assert_eq!(
            wrong.to_string(),
            "C_Login: the PIN is wrong (CKR_PIN_INCORRECT)"
        );
        let odd = fault(RvError::NoEvent, Function::GetSlotList);
        assert_eq!(odd.to_string(), "C_GetSlotList: CKR_NO_EVENT");
        assert!(
            fault(RvError::VendorDefined(0x8000_0001), Function::Sign)
                .to_string()
                .contains("0x80000001")
        );
    }
}
