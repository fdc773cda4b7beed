//! Converts the library's errors to failures of a command. The component that failed determines the
//! exit code.

use std::io::ErrorKind;

use super::failure::{Exit, Failure};
use crate::app::StartError;
use crate::config::ConfigError;
use crate::error_chain::error_chain;
use crate::hsm::{HsmError, TokenState};
use crate::issuance::{Category, CeremonyError, IssueError};
use crate::ledger::LedgerError;
use crate::net::ListenError;

impl From<HsmError> for Failure {
    fn from(error: HsmError) -> Self {
        let failure = Self::new(Exit::Hsm, error.to_string());
        match &error {
            HsmError::NoSuchModule { .. } | HsmError::Module { .. } => {
                failure.at("hsm.module").next("rootbridge check")
            }
            HsmError::NotReady {
                token,
                state: TokenState::PinRejected | TokenState::RefusedEarlier(_),
            } => failure
                .at(format!("hsm.tokens.{token}"))
                .next("correct the PIN; no further attempt is made with this one"),
            HsmError::NotReady { token, .. } => failure
                .at(format!("hsm.tokens.{token}"))
                .next("rootbridge check"),
            HsmError::UnknownToken { .. } => failure.at("hsm.tokens"),
            _ => failure.next("rootbridge check"),
        }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let failure = Self::new(Exit::Ledger, error.to_string());
        match &error {
            LedgerError::UnknownAuthority(domain) => {
                failure.next(format!("rootbridge ca init --trust-domain {domain}"))
            }
            LedgerError::Older { .. } => failure
                .at("ledger.path")
                .next("put the newest ledger back in its place, with its -wal file")
                .next(
                    "if it is lost: rootbridge serve --accept-older-ledger --reason 'why'; the \
                     certificates that it lacks exist and are in no record",
                ),
            LedgerError::Unavailable { .. } => failure.at("ledger.path").next("rootbridge check"),
            _ => failure,
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Hsm(error) => error.into(),
            StartError::Ledger(error) => error.into(),
        }
    }
}

impl From<CeremonyError> for Failure {
    fn from(error: CeremonyError) -> Self {
        match error {
            CeremonyError::Hsm(error) => error.into(),
            CeremonyError::Ledger(error) => error.into(),
            CeremonyError::Issue(IssueError::Ledger(error)) => error.into(),
            CeremonyError::Issue(error) => {
                let text = error_chain(&error);
                match error.category() {
                    Category::HsmBusy | Category::Timeout => {
                        Self::new(Exit::Unavailable, text).next("try again")
                    }
                    Category::HsmUnavailable | Category::HsmRefused => {
                        Self::new(Exit::Hsm, text).next("rootbridge check")
                    }
                    _ => Self::new(Exit::Failed, text),
                }
            }
            CeremonyError::NoSuchKey { .. } | CeremonyError::AmbiguousKey { .. } => {
                Self::new(Exit::Hsm, error.to_string()).next("rootbridge key list -o json")
            }
            error => Self::new(Exit::Failed, error_chain(&error)),
        }
    }
}

/// An address that cannot be listened on, with the key that has it.
fn not_listening(key: &str, error: &ListenError) -> Failure {
    let failure = Failure::new(Exit::Failed, error.to_string()).at(key);
    match error.source.kind() {
        ErrorKind::AddrInUse => {
            let port = error.address.port();
            let failure = match error.holder {
                Some(_) => failure,
                None => failure.next(format!("`ss -ltnp 'sport = {port}'`, as root, names it")),
            };
            failure.next(format!("stop what listens there, or change {key}"))
        }
        ErrorKind::AddrNotAvailable => failure.next(format!(
            "no interface of this host has this address: change {key}, or use 0.0.0.0 or [::]"
        )),
        ErrorKind::PermissionDenied => failure.next(format!(
            "a port below 1024 needs CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities): change \
             {key}, or give it"
        )),
        _ => failure,
    }
}

impl From<anyhow::Error> for Failure {
    /// By the typed error that it wraps.
    fn from(error: anyhow::Error) -> Self {
        if let Some(listen) = error.downcast_ref::<ListenError>() {
            return not_listening(&error.to_string(), listen);
        }
        error
            .downcast::<ConfigError>()
            .map(Self::from)
            .or_else(|error| error.downcast::<StartError>().map(Self::from))
            .or_else(|error| error.downcast::<HsmError>().map(Self::from))
            .or_else(|error| error.downcast::<LedgerError>().map(Self::from))
            .unwrap_or_else(|error| Self::new(Exit::Failed, error_chain(error.as_ref())))
    }
}
