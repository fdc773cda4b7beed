//! What a certificate that is good and cannot be used yet waits for.

use crate::clock::UnixTime;
use crate::digest::hex;
use crate::issuance::{ImportReport, UpstreamOutcome};
use crate::x509::Certificate;

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) root: Certificate,
    pub(super) problem: String,
    /// When it is over, if that is known.
    pub(super) until: Option<UnixTime>,
}

impl Waiting {
    /// What became of an answer, or what it waits for.
    pub(super) fn of(outcome: UpstreamOutcome) -> Result<Box<ImportReport>, Self> {
        let named = |root: &Certificate| {
            let sha256 = hex(&root.fingerprint());
            format!("its root `{}` sha256:{sha256}", root.subject())
        };
        Err(match outcome {
            UpstreamOutcome::Activated(report) => return Ok(report),
            UpstreamOutcome::WaitsForApproval(root) => Self {
                problem: format!(
                    "its root `{}` is not known: compare its fingerprint with the CA's \
                     administrators, then run `rootbridge anchors approve sha256:{}`",
                    root.subject(),
                    hex(&root.fingerprint())
                ),
                root,
                until: None,
            },
            UpstreamOutcome::WaitsForBundle { anchor, until } => Self {
                problem: format!("{} is published until {until} first", named(&anchor)),
                root: anchor,
                until: Some(until),
            },
            UpstreamOutcome::WaitsForRotation { anchor, rotation } => Self {
                problem: format!(
                    "rotation {rotation} says when it signs: every verifier gets {} first, see \
                     `rootbridge rotate explain`",
                    named(&anchor)
                ),
                root: anchor,
                until: None,
            },
        })
    }
}
