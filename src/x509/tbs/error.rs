//! Why a certificate cannot be made.

use crate::clock::UnixTime;
use crate::x509::name::NameError;

/// Why a certificate cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TbsError {
    /// A leaf without a name.
    #[error("a leaf certificate needs at least one name")]
    NoNames,
    /// A leaf for neither servers nor clients.
    #[error("a leaf certificate must be for servers, for clients or for both")]
    NoUsage,
    /// A name that is not certified.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No time to live.
    #[error("the validity from {from} to {to} is empty")]
    Validity {
        /// Its first second.
        from: UnixTime,
        /// Its last second.
        to: UnixTime,
    },
    /// A time that X.509 cannot write.
    #[error("{at} cannot stand in a certificate (1970 to 9999); check the clock and the lifetime")]
    Time {
        /// The time.
        at: UnixTime,
    },
    /// A CA's common name or organization.
    #[error(
        "\"{name}\" cannot be a CA's name: 1 to 64 characters, none of them a control character"
    )]
    CaName {
        /// The name, escaped.
        name: String,
    },
    /// A CA's subject.
    #[error("a CA's subject must be a distinguished name that is not empty")]
    CaSubject,
}
