//! A rule: which callers may have which names under which profiles.

use super::pattern::Pattern;
use crate::x509::San;

/// Allows each of its callers each of its names under each of its profiles.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) callers: Vec<Pattern>,
    pub(super) profiles: Vec<String>,
    pub(super) names: Vec<NamePattern>,
}

#[derive(Debug, Clone)]
pub(super) enum NamePattern {
    /// The caller's own name.
    Caller,
    Matching(Pattern),
}

impl Rule {
    pub(super) fn allows(
        &self,
        identity: &str,
        profile: &str,
        name: &San,
        is_callers_own_name: bool,
    ) -> bool {
        self.profiles.iter().any(|allowed| allowed == profile)
            && self.callers.iter().any(|caller| caller.matches(identity))
            && self.names.iter().any(|allowed| match allowed {
                NamePattern::Caller => is_callers_own_name,
                NamePattern::Matching(pattern) => pattern.matches(&name.to_string()),
            })
    }
}
