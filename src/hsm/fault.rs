//! What a PKCS#11 call answered, in words, and what may be done about it.

use std::borrow::Cow;
use std::fmt;

use cryptoki::context::Function;
use cryptoki::error::{Error as Pkcs11Error, RvError};

/// A PKCS#11 call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    code: Option<RvError>,
    call: Cow<'static, str>,
    words: String,
    signing: bool,
}

/// What a failed call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The token has no room now; the same call may succeed later.
    Busy,
    /// The session, the login or the token is lost, or may be: reopen, then try once more.
    Lost,
    /// What was asked is refused; asking again can only be refused again.
    Refused,
}

impl Fault {
    /// A failure that no return code stands for; it counts as lost.
    pub(super) fn other(call: impl Into<Cow<'static, str>>, words: impl Into<String>) -> Self {
        Self {
            code: None,
            call: call.into(),
            words: words.into(),
            signing: false,
        }
    }

    /// The return code, where the module gave one.
    pub(super) fn code(&self) -> Option<RvError> {
        self.code
    }

    /// Retry, wait or give up. Codes that are not expected count as lost, because a lost login
    /// shows itself differently on every token: SoftHSM says OBJECT_HANDLE_INVALID, opencryptoki
    /// KEY_HANDLE_INVALID, Kryoptic GENERAL_ERROR, TPM2 USER_NOT_LOGGED_IN, NSS HOST_MEMORY.
    pub(super) fn class(&self) -> Class {
        use RvError as E;
        match self.code {
            Some(E::SessionCount) => Class::Busy,
            Some(
                E::ActionProhibited
                | E::ArgumentsBad
                | E::AttributeReadOnly
                | E::AttributeSensitive
                | E::AttributeTypeInvalid
                | E::AttributeValueInvalid
                | E::CurveNotSupported
                | E::DataInvalid
                | E::DataLenRange
                | E::DomainParamsInvalid
                | E::FunctionNotSupported
                | E::FunctionRejected
                | E::KeyFunctionNotPermitted
                | E::KeySizeRange
                | E::KeyTypeInconsistent
                | E::MechanismInvalid
                | E::MechanismParamInvalid
                | E::PinExpired
                | E::PinIncorrect
                | E::PinInvalid
                | E::PinLenRange
                | E::PinLocked
                | E::PinTooWeak
                | E::TemplateIncomplete
                | E::TemplateInconsistent
                | E::TokenWriteProtected
                | E::UserPinNotInitialized,
            ) => Class::Refused,
            _ => Class::Lost,
        }
    }

    /// True when the token may have made a signature although the call failed: the code tells of
    /// trouble on the way, not of a condition that is checked before a key is used.
    pub(super) fn leaves_doubt(&self) -> bool {
        use RvError as E;
        let checked_before = matches!(
            self.code,
            Some(
                E::CryptokiNotInitialized
                    | E::KeyHandleInvalid
                    | E::ObjectHandleInvalid
                    | E::OperationActive
                    | E::OperationNotInitialized
                    | E::SessionHandleInvalid
                    | E::SlotIdInvalid
                    | E::UserNotLoggedIn
            )
        );
        self.signing && !checked_before && self.class() == Class::Lost
    }

    /// True when the module says outright that nobody is logged in.
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
                words: words(code),
                signing: matches!(function, Function::Sign),
            },
            // The one conversion after C_Sign is that of the signature's length.
            Pkcs11Error::TryFromInt(error) => Self {
                code: None,
                call: "PKCS#11".into(),
                words: format!("the module answered with an impossible length ({error})"),
                signing: true,
            },
            other => Self::other("PKCS#11", other.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.words)
    }
}

impl std::error::Error for Fault {}

/// A return code by its name in PKCS#11, with what it means for the operator where that helps.
fn words(code: RvError) -> String {
    use RvError as E;
    let name = match code {
        E::VendorDefined(code) => {
            return format!("the vendor's own code {code:#x}; see the HSM's manual");
        }
        E::UnknownErrorCode(code) => {
            return format!("code {code:#x}, which PKCS#11 does not define");
        }
        known => screaming(&format!("{known:?}")),
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
        E::SlotIdInvalid => "there is no such slot any more",
        E::SessionCount => "the token has no session left; ask for fewer workers",
        E::SessionClosed | E::SessionHandleInvalid => "the session was lost",
        E::KeyHandleInvalid | E::ObjectHandleInvalid => {
            "the key's handle is dead; login or key was lost"
        }
        E::KeyFunctionNotPermitted => "the key may not be used to sign (CKA_SIGN)",
        E::KeySizeRange => "the token does not support this key size",
        E::KeyTypeInconsistent => "the key is of another type than the mechanism needs",
        E::MechanismInvalid => "the token does not support this mechanism",
        E::CurveNotSupported | E::DomainParamsInvalid => "the token does not support this curve",
        E::DeviceError => "the HSM reports a fault",
        E::DeviceMemory => "the HSM is out of memory",
        E::HostMemory => "out of memory, or the login was lost",
        E::GeneralError => "the module gives no reason; see its own log",
        E::FunctionFailed => "the call failed and the module gives no reason",
        E::CantLock => "the module cannot be used by several threads",
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
fn screaming(camel: &str) -> String {
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
    fn speaks_in_words_and_names_the_code() {
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

    #[test]
    fn a_lost_login_is_retried_in_all_its_five_shapes() {
        use RvError as E;
        for code in [
            E::ObjectHandleInvalid,
            E::KeyHandleInvalid,
            E::GeneralError,
            E::UserNotLoggedIn,
            E::HostMemory,
        ] {
            assert_eq!(
                fault(code, Function::SignInit).class(),
                Class::Lost,
                "{code:?}"
            );
        }
    }

    #[test]
    fn input_and_pin_codes_are_never_retried() {
        use RvError as E;
        for code in [
            E::DataInvalid,
            E::DataLenRange,
            E::MechanismInvalid,
            E::MechanismParamInvalid,
            E::KeyTypeInconsistent,
            E::KeyFunctionNotPermitted,
            E::PinIncorrect,
            E::PinLocked,
        ] {
            assert_eq!(
                fault(code, Function::Sign).class(),
                Class::Refused,
                "{code:?}"
            );
            assert!(!fault(code, Function::Sign).leaves_doubt(), "{code:?}");
        }
        assert_eq!(
            fault(E::SessionCount, Function::OpenSession).class(),
            Class::Busy
        );
    }

    #[test]
    fn only_a_failed_signature_leaves_doubt() {
        assert!(fault(RvError::DeviceError, Function::Sign).leaves_doubt());
        assert!(fault(RvError::VendorDefined(0x8000_0001), Function::Sign).leaves_doubt());
        assert!(!fault(RvError::DeviceError, Function::SignInit).leaves_doubt());
        assert!(!fault(RvError::UserNotLoggedIn, Function::Sign).leaves_doubt());
    }
}
