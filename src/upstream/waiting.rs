//! What a certificate that is good and cannot be used yet waits for.

use crate::clock::UnixTime;
use crate::digest::hex;
use crate::issuance::{ImportReport, UpstreamOutcome};
use crate::x509::Certificate;

#[derive(Debug)]
pub(super) struct Waiting {
    /// Its subject.
    pub(super) root: String,
    pub(super) sha256: String,
    pub(super) problem: String,
    /// When it is over, if that is known.
    pub(super) until: Option<UnixTime>,
}

impl Waiting {
    /// What became of an answer, or what it waits for.
    pub(super) fn of(outcome: UpstreamOutcome) -> Result<Box<ImportReport>, Self> {
        match outcome {
            UpstreamOutcome::Activated(report) => Ok(report),
            UpstreamOutcome::WaitsForApproval(root) => Err(Self::for_root(&root, None, |root| {
                format!(
                    "its root `{}` is not known: compare its fingerprint with the CA's \
                     administrators, then run `rootbridge anchors approve sha256:{}`",
                    root.root, root.sha256
                )
            })),
            UpstreamOutcome::WaitsForBundle { anchor, until } => {
                Err(Self::for_root(&anchor, Some(until), |root| {
                    format!(
                        "its root `{}` sha256:{} is published until {until} first",
                        root.root, root.sha256
                    )
                }))
            }
            UpstreamOutcome::WaitsForRotation { anchor, rotation } => {
                Err(Self::for_root(&anchor, None, |root| {
                    format!(
                        "rotation {rotation} says when it signs: every verifier gets its root `{}` \
                         sha256:{} first, see `rootbridge rotate explain`",
                        root.root, root.sha256
                    )
                }))
            }
        }
    }

    fn for_root(
        root: &Certificate,
        until: Option<UnixTime>,
        problem: impl FnOnce(&Self) -> String,
    ) -> Self {
        let mut waiting = Self {
            root: root.subject(),
            sha256: hex(&root.fingerprint()),
            problem: String::new(),
            until,
        };
        waiting.problem = problem(&waiting);
        waiting
    }
}
