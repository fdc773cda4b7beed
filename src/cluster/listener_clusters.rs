//! Which clusters authenticate the callers of a listener.

/// The clusters of a listener, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerClusters {
    names: Vec<String>,
    default: Option<String>,
}

impl ListenerClusters {
    /// A call without a `clusterid` is for `default`.
    pub fn new(names: Vec<String>, default: Option<String>) -> Self {
        Self { names, default }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn default_name(&self) -> Option<&str> {
        self.default.as_deref()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.names.iter().any(|each| each == name)
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}
