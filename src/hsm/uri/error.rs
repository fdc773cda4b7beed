//! Why a text is no URI that names a token or key here. No message holds a value, which may be a PIN.

/// Why a text cannot be used as a PKCS#11 URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    #[error("it does not begin with `pkcs11:`")]
    Scheme,
    #[error("an attribute is not of the form name=value")]
    NoValue,
    #[error("`{name}` is given twice")]
    Duplicate { name: String },
    #[error("`{name}` holds a % that two hexadecimal digits do not follow")]
    PercentEncoding { name: String },
    #[error("`{name}` holds {character:?}, which must be written as {encoded}")]
    Character {
        name: String,
        character: char,
        encoded: String,
    },
    #[error("the value of `{name}` is not UTF-8")]
    NotUtf8 { name: String },
    #[error("`type` must be public, private, cert, secret-key or data")]
    Class,
    #[error("`library-version` must be a number or two, such as 3 or 1.23")]
    LibraryVersion,
    #[error("`slot-id` must be a decimal number")]
    SlotId,
    #[error(
        "`pin-value` puts the PIN where configuration files, process lists and shell histories show it: \
         write it to a file, and name that with `pin-source=file:/path`, pin_file or pin_env"
    )]
    PinValue,
    #[error("`pin-source` names a program (|), and none is started: name a file (file:/path)")]
    PinProgram,
    #[error("`pin-source` must name a file by an absolute path, such as file:/run/secrets/pin")]
    PinSource,
}
