//! The state of one object that holds a trust bundle in a cluster. It keeps hashes instead of objects, so that thousands cost
//! little memory.

use super::conflict::WriteConflict;

/// The field manager of server-side apply.
pub(super) const FIELD_MANAGER: &str = "rootbridge";

/// What a watch or a write returned for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    /// The resourceVersion; 0 where the server's versions are not numbers.
    pub(super) version: u64,
    /// SHA-256 of the value under the key that the target configures; for a truststore, of the bundle
    /// that it was made from.
    pub(super) value_hash: Option<[u8; 32]>,
    /// Whether the object has the target's labels.
    pub(super) labels_match: bool,
    /// The field manager other than this server that wrote last.
    pub(super) other_manager: Option<String>,
}

/// The namespace of a target's object; `None` for a cluster-scoped one.
pub(super) type ObjectKey = Option<String>;

#[derive(Debug, Default)]
pub(super) struct ObjectState {
    /// `None` when the object does not exist.
    pub(super) observed: Option<Observed>,
    /// The resourceVersion that the last write returned.
    last_written: u64,
    /// Why the last write failed.
    pub(super) failure: Option<String>,
    pub(super) conflict: WriteConflict,
}

impl ObjectState {
    /// Takes over what a watch reports; false when that is older than the last write.
    pub(super) fn on_watch(&mut self, observed: Option<Observed>, version: u64) -> bool {
        let is_current = version == 0 || version >= self.last_written;
        if is_current {
            self.observed = observed;
        }
        is_current
    }

    /// Takes over what a write returned.
    pub(super) fn on_written(&mut self, observed: Observed) {
        self.failure = None;
        self.last_written = observed.version;
        // The watch may already have reported a later write by somebody else.
        if self
            .observed
            .as_ref()
            .is_none_or(|known| known.version <= observed.version)
        {
            self.observed = Some(observed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn observed(version: u64, value: u8) -> Observed {
        Observed {
            version,
            value_hash: Some([value; 32]),
            labels_match: true,
            other_manager: None,
        }
    }

    #[test]
    fn events_older_than_the_last_write_are_ignored() {
        let mut object = ObjectState::default();
        object.on_written(observed(10, 1));
        assert!(!object.on_watch(Some(observed(9, 2)), 9));
        assert_eq!(object.observed.as_ref().unwrap().version, 10);
        assert!(object.on_watch(None, 11));
        assert_eq!(object.observed, None);
    }

    #[test]
    fn a_later_write_by_others_is_not_replaced_by_ours() {
        let mut object = ObjectState::default();
        object.on_watch(Some(observed(12, 2)), 12);
        object.on_written(observed(11, 1));
        assert_eq!(object.observed.unwrap().version, 12);
    }
}
