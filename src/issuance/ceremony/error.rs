//! Why a ceremony did not come to its end.

use super::super::error::IssueError;
use crate::hsm::HsmError;
use crate::ledger::LedgerError;
use crate::x509::{CertError, PathError, TbsError, TrustDomain};

/// Why a ceremony did not come to its end. What it did until then is on record, and the same
/// command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// The authority signs already.
    #[error("`{0}` already has an active issuing CA; `rootbridge ca request` prepares another one")]
    AlreadyActive(TrustDomain),
    /// What an earlier run began does not fit.
    #[error(
        "an earlier `ca init` of `{trust_domain}` was broken off: it has made a root with {made}; \
         run it again with the same token, --key and --path-len"
    )]
    BegunOtherwise {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// Token, kind and path length of that root's key.
        made: String,
    },
    /// No certificate of the chain is for a key of this server.
    #[error(
        "the first certificate ({subject}) is for a key that no authority here has: import the \
         answer to `rootbridge ca request`, issuing certificate first"
    )]
    NotOurs {
        /// The first certificate's subject.
        subject: String,
    },
    /// The chain does not end in a root.
    #[error(
        "the chain ends in `{subject}`, which is not self-signed, and no published anchor is above \
         it: append the enterprise's root certificate"
    )]
    NoRoot {
        /// The last certificate's subject.
        subject: String,
    },
    /// The new path ends in a root that workloads do not trust yet.
    #[error(
        "`{trust_domain}` is in use and its bundle does not hold the root `{subject}`: publish it \
         first with `rootbridge anchors add`, and import when every workload has it"
    )]
    UnpublishedRoot {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// The root's subject.
        subject: String,
    },
    /// The enterprise gave less than was asked for.
    #[error("the issuing certificate allows {given} CAs below it, {asked} were asked for")]
    PathLen {
        /// pathLenConstraint of the certificate.
        given: u8,
        /// What `ca request --path-len` said.
        asked: u8,
    },
    /// The chain does not verify.
    #[error("the chain does not verify: {0}")]
    Path(#[from] PathError),
    /// The chain cannot be read.
    #[error("the chain cannot be read: {0}")]
    Chain(#[from] CertError),
    /// A name or a certificate cannot be built.
    #[error(transparent)]
    Build(#[from] TbsError),
    /// The token.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The pipeline.
    #[error(transparent)]
    Issue(#[from] IssueError),
}
