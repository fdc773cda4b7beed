//! The size of a mesh, and what can happen to it.

use rootbridge::trust::rotation::Condition;

/// What decides which moves there are; the sizes are small in the exhaustive model.
#[derive(Clone, Debug)]
pub struct Rules {
    pub servers: usize,
    pub clusters: usize,
    pub sidecars: usize,
    pub pods: usize,
    /// Proxies that read their bundle when they start.
    pub proxies: usize,
    /// Followers of the bundle stream, which say what they have applied.
    pub watchers: usize,
    /// A CA of somebody else may be certified.
    pub subordinate: bool,
    /// How often objects are edited back to an old bundle.
    pub edits: u8,
    /// How many answers are lost.
    pub losses: u8,
    /// This condition is ignored: the move is forced too early.
    pub ignored: Option<Condition>,
}

impl Rules {
    pub const NONE: Self = Self {
        servers: 1,
        clusters: 0,
        sidecars: 0,
        pods: 0,
        proxies: 0,
        watchers: 0,
        subordinate: false,
        edits: 0,
        losses: 0,
        ignored: None,
    };
}
