//! How far a ledger has come, for a mark outside of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a ledger has come. A ledger that holds less than a mark, or something else at the same
/// place, is not the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HighWater {
    /// Of the records.
    pub revision: u64,
    /// The number of the newest intent.
    pub intent: u64,
    /// The newest intent that has an outcome.
    pub concluded: u64,
    /// SHA-256 over the newest intent and the newest change of the records, in lower hex.
    pub digest: String,
    /// The sequence of each trust domain's bundle.
    pub bundles: BTreeMap<String, u64>,
}

impl HighWater {
    /// The one that has come further, with the highest sequence of each bundle in both.
    #[must_use]
    pub fn furthest(self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        let place = |mark: &Self| (mark.intent, mark.concluded, mark.revision);
        let (mut further, behind) = match place(&self) >= place(&other) {
            true => (self, other),
            false => (other, self),
        };
        for (trust_domain, sequence) in behind.bundles {
            let highest = further.bundles.entry(trust_domain).or_default();
            *highest = sequence.max(*highest);
        }
        further
    }
}

impl fmt::Display for HighWater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            revision,
            intent,
            concluded,
            digest: _,
            bundles,
        } = self;
        write!(
            f,
            "intent {intent}, outcome {concluded}, revision {revision}"
        )?;
        for (trust_domain, sequence) in bundles {
            write!(f, ", bundle {sequence} of {trust_domain}")?;
        }
        Ok(())
    }
}
