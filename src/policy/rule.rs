//! One rule: which callers may have which names, under which profiles.

use super::pattern::Pattern;
use crate::x509::San;

/// Any of its callers may have any of its names under any of its profiles.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) callers: Vec<Pattern>,
    pub(super) profiles: Vec<String>,
    pub(super) names: Vec<NamePattern>,
}

#[derive(Debug, Clone)]
pub(super) enum NamePattern {
    /// The caller's own name.
    Own,
    /// Any that fits.
    Like(Pattern),
}

impl Rule {
    pub(super) fn allows(&self, identity: &str, profile: &str, name: &San, own: bool) -> bool {
        self.profiles.iter().any(|allowed| allowed == profile)
            && self.callers.iter().any(|caller| caller.matches(identity))
            && self.names.iter().any(|allowed| match allowed {
                NamePattern::Own => own,
                NamePattern::Like(pattern) => pattern.matches_san(name),
            })
    }
}
