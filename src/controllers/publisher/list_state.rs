//! Which keys a list has contained, and whether what is known is complete and up to date.

use std::collections::BTreeSet;

use super::object_state::ObjectKey;

#[derive(Debug, Default)]
pub(super) struct ListState {
    /// The keys of the list in progress.
    listed: Option<BTreeSet<ObjectKey>>,
    is_complete: bool,
    error: Option<String>,
}

impl ListState {
    pub(super) fn start(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    pub(super) fn add(&mut self, key: &ObjectKey) {
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
    }

    /// Ends the list; returns those of `known` that it did not contain.
    pub(super) fn complete<'a>(
        &mut self,
        known: impl Iterator<Item = &'a ObjectKey>,
    ) -> Vec<ObjectKey> {
        self.is_complete = true;
        self.error = None;
        let listed = self.listed.take().unwrap_or_default();
        known
            .filter(|key| !listed.contains(*key))
            .cloned()
            .collect()
    }

    pub(super) fn fail(&mut self, error: String) {
        self.error = Some(error);
    }

    /// The watch works.
    pub(super) fn recover(&mut self) {
        if self.listed.is_none() {
            self.error = None;
        }
    }

    /// Whether a list was ever complete.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Why the objects cannot be listed or watched now.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}
