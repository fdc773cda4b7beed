//! What stands in a cluster, as far as it counts: never an object itself, so that thousands of
//! them cost little.

use std::time::Instant;

use super::conflict::WriteConflict;

/// Under this name the fields that are ours are owned.
pub(super) const MANAGER: &str = "rootbridge";

/// An object as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    /// Its resourceVersion.
    pub(super) version: u64,
    /// SHA-256 of what stands at our place in it; for a binary value, of what that was made from.
    pub(super) value: Option<[u8; 32]>,
    /// Whether it has the target's labels.
    pub(super) labels_match: bool,
    /// Who else has written it last.
    pub(super) other: Option<String>,
}

/// One object of a target: in a namespace, or the cluster's one.
pub(super) type ObjectKey = Option<String>;

/// What is known of one object.
#[derive(Debug, Default)]
pub(super) struct ObjectState {
    /// As it was seen last; `None` when it does not exist.
    pub(super) found: Option<Observed>,
    /// The version that our last write made: what is older is an echo of the past.
    pub(super) written: u64,
    /// Why the last write failed.
    pub(super) failure: Option<String>,
    /// Writes in a row that have failed.
    pub(super) failures: u32,
    /// Whether a write is under way.
    pub(super) writing: bool,
    /// Who else writes here, again and again.
    pub(super) conflict: WriteConflict,
}

impl ObjectState {
    /// Takes what a watch says; false when it is older than what is known.
    pub(super) fn see(&mut self, found: Option<Observed>, version: u64) -> bool {
        if version != 0 && version < self.written {
            return false;
        }
        self.found = found;
        true
    }

    /// Takes what a write answered.
    pub(super) fn wrote(&mut self, found: Observed) {
        self.writing = false;
        self.failure = None;
        self.failures = 0;
        // The watch may have been quicker, and may know of somebody's later write.
        let known = self.found.as_ref().map_or(0, |known| known.version);
        self.written = found.version;
        if known <= found.version {
            self.found = Some(found);
        }
    }

    /// Notes that somebody undid what stood here.
    pub(super) fn overwritten(&mut self, now: Instant) {
        self.conflict.overwritten(now);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(version: u64, value: u8) -> Observed {
        Observed {
            version,
            value: Some([value; 32]),
            labels_match: true,
            other: None,
        }
    }

    #[test]
    fn what_is_older_than_our_write_is_an_echo() {
        let mut object = ObjectState::default();
        object.wrote(found(10, 1));
        assert!(!object.see(Some(found(9, 2)), 9));
        assert_eq!(object.found.as_ref().unwrap().version, 10);
        assert!(object.see(None, 11));
        assert_eq!(object.found, None);
    }

    #[test]
    fn a_later_write_by_others_outlives_our_answer() {
        let mut object = ObjectState::default();
        object.see(Some(found(12, 2)), 12);
        object.wrote(found(11, 1));
        assert_eq!(object.found.unwrap().version, 12);
    }
}
