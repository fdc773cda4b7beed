//! Things that a watch lists and follows: what a new listing leaves out has gone meanwhile.

use std::collections::BTreeSet;

use super::object_state::ObjectKey;

/// Where a listing stands.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// What has been listed since it began.
    under_way: Option<BTreeSet<ObjectKey>>,
    /// Whether one was ever complete.
    complete: bool,
    /// Why the watch is broken now.
    broken: Option<String>,
}

impl Listing {
    pub(super) fn begin(&mut self) {
        self.under_way = Some(BTreeSet::new());
    }

    pub(super) fn listed(&mut self, key: &ObjectKey) {
        if let Some(listed) = &mut self.under_way {
            listed.insert(key.clone());
        }
    }

    /// All were said; answers which of `known` were not among them.
    pub(super) fn finish<'a>(
        &mut self,
        known: impl Iterator<Item = &'a ObjectKey>,
    ) -> Vec<ObjectKey> {
        self.complete = true;
        self.broken = None;
        let listed = self.under_way.take().unwrap_or_default();
        known
            .filter(|key| !listed.contains(*key))
            .cloned()
            .collect()
    }

    pub(super) fn broke(&mut self, why: String) {
        self.broken = Some(why);
    }

    /// Follows well again.
    pub(super) fn follows(&mut self) {
        if self.under_way.is_none() {
            self.broken = None;
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.broken.as_deref()
    }
}
