//! How each return code of a PKCS#11 module is handled, and why.

use cryptoki::error::RvError as E;

use super::super::fault::Fault;

/// How a failed call is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hsm) enum FaultClass {
    /// The token has no session left; the same call may succeed later.
    Busy,
    /// The session, the login or the token is lost, or may be: reopen, then retry once.
    Lost,
    /// A retry cannot succeed.
    Refused,
}

/// Return codes that are handled alike. In `reason`: why.
struct Codes {
    class: FaultClass,
    /// The token checks this before it uses the key, so that no signature exists when C_Sign returns it.
    before_signing: bool,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for readers; a test wants one for each")
    )]
    reason: &'static str,
    codes: &'static [E],
}

const fn codes(
    class: FaultClass,
    before_signing: bool,
    reason: &'static str,
    codes: &'static [E],
) -> Codes {
    Codes {
        class,
        before_signing,
        reason,
        codes,
    }
}

/// What is not in here, a vendor's own codes included, is lost and may have signed.
const CODES: &[Codes] = {
    use FaultClass::{Busy, Lost, Refused};
    &[
        codes(
            Busy,
            true,
            "others hold the token's sessions: one of theirs has to end, and ours are good",
            &[E::SessionCount],
        ),
        codes(
            Refused,
            true,
            "the input is wrong, and is as wrong the next time",
            &[
                E::ActionProhibited,
                E::ArgumentsBad,
                E::AttributeReadOnly,
                E::AttributeSensitive,
                E::AttributeTypeInvalid,
                E::AttributeValueInvalid,
                E::CurveNotSupported,
                E::DataInvalid,
                E::DataLenRange,
                E::DomainParamsInvalid,
                E::FunctionNotSupported,
                E::FunctionRejected,
                E::KeyFunctionNotPermitted,
                E::KeySizeRange,
                E::KeyTypeInconsistent,
                E::MechanismInvalid,
                E::MechanismParamInvalid,
                E::TemplateIncomplete,
                E::TemplateInconsistent,
                E::TokenWriteProtected,
            ],
        ),
        codes(
            Refused,
            true,
            "each further attempt with this PIN brings the token closer to its lock",
            &[
                E::PinExpired,
                E::PinIncorrect,
                E::PinInvalid,
                E::PinLenRange,
                E::PinLocked,
                E::PinTooWeak,
                E::UserPinNotInitialized,
            ],
        ),
        codes(
            Lost,
            true,
            "a lost login, in the words of SoftHSM, opencryptoki and TPM2: a new login, and new handles",
            &[
                E::ObjectHandleInvalid,
                E::KeyHandleInvalid,
                E::UserNotLoggedIn,
            ],
        ),
        codes(
            Lost,
            true,
            "the session is gone, or is held by an operation that was abandoned: a new one has neither",
            &[
                E::OperationActive,
                E::OperationNotInitialized,
                E::SessionHandleInvalid,
            ],
        ),
        codes(
            Lost,
            true,
            "the slot or the module's state is gone: after C_Finalize and C_Initialize the token is found again",
            &[E::CryptokiNotInitialized, E::SlotIdInvalid],
        ),
        codes(
            Lost,
            false,
            "a lost login, in the words of Kryoptic and NSS, or a fault without a reason",
            &[E::GeneralError, E::HostMemory, E::FunctionFailed],
        ),
        codes(
            Lost,
            false,
            "the device fails, is gone, or was cut off in the middle of its work",
            &[
                E::DeviceError,
                E::DeviceMemory,
                E::DeviceRemoved,
                E::FunctionCanceled,
                E::SessionClosed,
                E::TokenNotPresent,
                E::TokenNotRecognized,
            ],
        ),
        codes(
            Lost,
            false,
            "the module is not what it was initialized to be",
            &[
                E::CantLock,
                E::CryptokiAlreadyInitialized,
                E::FipsSelfTestFailed,
                E::LibraryLoadFailed,
                E::MutexBad,
                E::MutexNotLocked,
                E::NeedToCreateThreads,
            ],
        ),
        codes(
            Lost,
            false,
            "no answer to what was called: the session cannot be relied on",
            &[
                E::BufferTooSmall,
                E::Cancel,
                E::EncryptedDataInvalid,
                E::EncryptedDataLenRange,
                E::ExceededMaxIterations,
                E::FunctionNotParallel,
                E::InformationSensitive,
                E::KeyChanged,
                E::KeyIndigestible,
                E::KeyNeeded,
                E::KeyNotNeeded,
                E::KeyNotWrappable,
                E::KeyUnextractable,
                E::NewPinMode,
                E::NextOtp,
                E::NoEvent,
                E::PublicKeyInvalid,
                E::RandomNoRng,
                E::RandomSeedNotSupported,
                E::SavedStateInvalid,
                E::SessionExists,
                E::SessionParallelNotSupported,
                E::SessionReadOnly,
                E::SessionReadOnlyExists,
                E::SessionReadWriteSoExists,
                E::SignatureInvalid,
                E::SignatureLenRange,
                E::StateUnsaveable,
                E::UnwrappingKeyHandleInvalid,
                E::UnwrappingKeySizeRange,
                E::UnwrappingKeyTypeInconsistent,
                E::UserAlreadyLoggedIn,
                E::UserAnotherAlreadyLoggedIn,
                E::UserTooManyTypes,
                E::UserTypeInvalid,
                E::WrappedKeyInvalid,
                E::WrappedKeyLenRange,
                E::WrappingKeyHandleInvalid,
                E::WrappingKeySizeRange,
                E::WrappingKeyTypeInconsistent,
            ],
        ),
    ]
};

fn row(fault: &Fault) -> Option<&'static Codes> {
    let code = fault.code()?;
    CODES.iter().find(|row| row.codes.contains(&code))
}

impl Fault {
    pub(in crate::hsm) fn class(&self) -> FaultClass {
        row(self).map_or(FaultClass::Lost, |row| row.class)
    }

    /// True when a signature may exist although the call failed.
    pub(in crate::hsm) fn may_have_signed(&self) -> bool {
        self.is_of_signing() && !row(self).is_some_and(|row| row.before_signing)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cryptoki::context::Function;
    use cryptoki::error::{Error, Rv};

    use super::*;

    fn fault(code: E, function: Function) -> Fault {
        Fault::from(Error::Pkcs11(code, function))
    }

    #[test]
    fn every_code_of_pkcs11_is_in_one_row_with_a_reason() {
        let defined = (1..=0x200_u64).filter_map(|number| match Rv::from(number) {
            Rv::Error(E::UnknownErrorCode(_)) | Rv::Ok => None,
            Rv::Error(code) => Some(code),
        });
        let mut count = 0;
        for code in defined {
            let rows = CODES.iter().filter(|row| row.codes.contains(&code));
            assert_eq!(rows.count(), 1, "{code:?}");
            count += 1;
        }
        assert_eq!(
            CODES.iter().map(|row| row.codes.len()).sum::<usize>(),
            count
        );
        assert!(count > 80 && CODES.iter().all(|row| !row.reason.is_empty()));
    }

    #[test]
    fn each_code_of_a_lost_login_is_retried() {
        for code in [
            E::ObjectHandleInvalid,
            E::KeyHandleInvalid,
            E::GeneralError,
            E::UserNotLoggedIn,
            E::HostMemory,
            E::VendorDefined(0x8000_0001),
            E::UnknownErrorCode(0x999),
        ] {
            let class = fault(code, Function::SignInit).class();
            assert_eq!(class, FaultClass::Lost, "{code:?}");
        }
    }

    #[test]
    fn input_and_pin_codes_are_never_retried() {
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
            let fault = fault(code, Function::Sign);
            assert_eq!(fault.class(), FaultClass::Refused, "{code:?}");
            assert!(!fault.may_have_signed(), "{code:?}");
        }
        let busy = fault(E::SessionCount, Function::OpenSession);
        assert_eq!(busy.class(), FaultClass::Busy);
    }

    #[test]
    fn only_a_failed_c_sign_may_have_signed() {
        assert!(fault(E::DeviceError, Function::Sign).may_have_signed());
        assert!(fault(E::VendorDefined(0x8000_0001), Function::Sign).may_have_signed());
        assert!(!fault(E::DeviceError, Function::SignInit).may_have_signed());
        assert!(!fault(E::UserNotLoggedIn, Function::Sign).may_have_signed());
    }
}
