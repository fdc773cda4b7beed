//! The enterprise's own CA certifies the issuing keys, and does so again in time, without an operator.
//!
//! [`UpstreamCa`] is what a CA is asked by; each implementation is one file. [`Renewals`] follows the
//! ledger: when an issuing CA is due it begins a request, and takes it from state to state until its
//! certificate signs. Every state is on record before the next step, so that the answer may take days
//! and any process may die in between.

mod adcs;
mod answer;
mod aws_pca;
mod cert_manager;
mod cfssl;
mod cmp;
mod command;
mod config;
mod ejbca;
mod est;
mod http;
mod kinds;
mod metrics;
mod offline;
mod raw;
mod renewals;
mod retirement;
mod schedule;
mod secret;
mod status;
mod step;
mod step_ca;
mod vault;
mod waiting;

use std::fmt;
use std::future;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

pub use answer::{Answer, Submission, Unreachable};
pub use config::{AuthorityConfig, Config, RawAuthority, RawConfig, UpstreamConfig};
pub use metrics::Metrics;
pub use raw::{RawCredentials, RawKind, RawLogin, RawMac, RawUpstream};
pub use renewals::{Parts, Renewals};
pub use retirement::{Retirement, replaced, unexpired};
pub use status::{RequestStatus, Statuses};

/// A CA that certifies issuing keys. Every call is bounded in time and in the size of its answer, and
/// none logs a credential.
#[warn(missing_docs)]
pub trait UpstreamCa: Send + Sync + fmt::Debug {
    /// Asks for a certificate. It may be called again with the same request, when nobody knows
    /// whether the first call arrived.
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>>;

    /// Asks what became of a request, by the reference that the CA gave. A CA that answers at once gives
    /// none: what is pending is another one's, under the same name before.
    fn poll<'a>(
        &'a self,
        _request: &'a Submission,
        _reference: &'a str,
    ) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        future::ready(Ok(Answer::Forgotten)).boxed()
    }

    /// Whether the CA answers, accepts the credential and may sign CAs, without a request for a
    /// certificate: what was found, one line each.
    fn test(&self) -> BoxFuture<'_, Result<Vec<String>, Unreachable>>;
}
