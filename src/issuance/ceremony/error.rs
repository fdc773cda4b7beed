//! Why a ceremony failed.

use super::super::error::IssueError;
use crate::clock::UnixTime;
use crate::hsm::{HsmError, UriError};
use crate::ledger::{IssuerState, LedgerError, Role};
use crate::x509::{CertError, PathError, TbsError, TrustDomain};

/// Why a ceremony failed. Its completed steps are recorded: the same command, run again, continues
/// after them.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    #[error("`{0}` already has an active issuing CA; `rootbridge ca request` prepares another one")]
    AlreadyActive(TrustDomain),
    /// The options differ from those of an earlier, incomplete run.
    #[error(
        "an earlier `ca init` of `{trust_domain}` did not finish: it has made a root with {made}; \
         run it again with the same token, --key and --path-len"
    )]
    OptionsDiffer {
        trust_domain: TrustDomain,
        /// Token, kind and path length of that root's key.
        made: String,
    },
    #[error(
        "no authority here has the key of any of these certificates as an active or pending issuing \
         key ({subjects}): import the answer to `rootbridge ca request`"
    )]
    UnknownKey {
        /// Of the certificates.
        subjects: String,
    },
    #[error(
        "the root is missing: `{subject}` is not among the certificates, and no published anchor is \
         above them; add the enterprise's root certificate"
    )]
    NoRoot {
        /// Of the missing issuer.
        subject: String,
    },
    /// Workloads do not trust the root of the new path yet.
    #[error(
        "`{trust_domain}` is in use and its bundle does not hold the root `{subject}`: publish it first, by \
         `rootbridge rotate start --kind upstream-root` and another import, or with \
         `rootbridge anchors add`, and wait until every workload has it"
    )]
    UnpublishedRoot {
        trust_domain: TrustDomain,
        subject: String,
    },
    #[error("the issuing certificate allows {given} CAs below it, {requested} were requested")]
    PathLen {
        /// pathLenConstraint of the certificate.
        given: u8,
        requested: u8,
    },
    /// Profiles issue certificates that live longer.
    #[error("its certification path ends at {end}; the profiles in use need one until {least}")]
    TooShort { end: UnixTime, least: UnixTime },
    /// An upstream CA's old answer, sent again.
    #[error(
        "`{subject}` is the certificate that the issuing key has already: the CA has made no new one"
    )]
    NotNew { subject: String },
    /// A certificate of the path that verifiers of the mesh refuse.
    #[error("`{subject}` cannot be used: {objections}")]
    Objections {
        subject: String,
        /// By which verifiers, and why.
        objections: String,
    },
    #[error(
        "`{name}` names several keys: {}; give the URI of one of them",
        candidates.join(", ")
    )]
    AmbiguousKey {
        name: String,
        /// URIs.
        candidates: Vec<String>,
    },
    #[error(
        "no private key in token `{tokens}` is called `{name}`: {}",
        listed(present)
    )]
    NoSuchKey {
        name: String,
        tokens: String,
        /// URIs of the keys that are there.
        present: Vec<String>,
    },
    #[error(
        "the key {key} is the {role} key of `{trust_domain}` already ({state}): name another one"
    )]
    KeyInUse {
        /// Its URI.
        key: String,
        role: Role,
        trust_domain: TrustDomain,
        state: IssuerState,
    },
    /// No issuing CA that a rotation could follow.
    #[error("nothing can follow: {0}")]
    NothingToSucceed(String),
    #[error("--root-key and --issuing-key name the same key: a root does not sign for workloads")]
    SameKey,
    #[error(
        "none of the certificates ({subjects}) was issued for the key {key}: name the key of one of them"
    )]
    KeyNotCertified {
        /// Its URI.
        key: String,
        /// Of the certificates.
        subjects: String,
    },
    #[error("the token's URI cannot be used: {0}")]
    TokenUri(UriError),
    #[error("the chain does not verify: {0}")]
    Path(#[from] PathError),
    #[error("the chain cannot be read: {0}")]
    Chain(#[from] CertError),
    #[error(transparent)]
    Build(#[from] TbsError),
    #[error(transparent)]
    Hsm(#[from] HsmError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// What a token holds, for a name that fits none of it.
fn listed(present: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = present.get(..SHOWN).unwrap_or(present).join(", ");
    match present.len() {
        0 => "there is no private key that this user may use".to_owned(),
        all if all > SHOWN => format!("there are {shown} and {} more", all - SHOWN),
        _ => format!("there are {shown}"),
    }
}
