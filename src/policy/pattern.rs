//! Patterns over names: literal text in which `*` matches one whole segment.

use std::fmt;

/// A pattern of a policy rule. Names are split at `/` (SPIFFE IDs) or `.` (DNS names). `*` matches
/// exactly one segment, and a final `**` one or more, so no pattern matches across a separator by
/// accident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    separator: char,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    #[error("`{0}`: `*` matches one whole segment, and `**` only the last ones")]
    Wildcard(String),
    #[error("an empty pattern matches nothing")]
    Empty,
    #[error("`{0}`: the trust domain and the kind of name must be written out")]
    Incomplete(String),
}

impl Pattern {
    /// Parses a pattern over the text of callers or names: `spiffe://…`, `dns:…`, `operator:…`.
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let separator = if text.starts_with("dns:") { '.' } else { '/' };
        let fixed_part = match text.strip_prefix("spiffe://") {
            Some(rest) => rest.split('/').next().unwrap_or_default(),
            None => text.split(':').next().unwrap_or_default(),
        };
        if fixed_part.is_empty() || fixed_part.contains('*') {
            return Err(PatternError::Incomplete(text.to_owned()));
        }
        let body = text.split_once(':').map_or("", |(_, body)| body);
        let segments: Vec<&str> = body.split(separator).collect();
        let last = segments.len().saturating_sub(1);
        for (index, segment) in segments.iter().enumerate() {
            let is_wildcard = *segment == "*" || (*segment == "**" && index == last);
            if segment.contains('*') && !is_wildcard {
                return Err(PatternError::Wildcard(text.to_owned()));
            }
        }
        Ok(Self {
            text: text.to_owned(),
            separator,
        })
    }

    /// A pattern that matches exactly `text`, a valid name.
    pub(super) fn literal(text: &str) -> Self {
        // No name has a newline, so nothing is split, and a `*` is literal.
        Self {
            text: text.to_owned(),
            separator: '\n',
        }
    }

    /// Whether `name`, as text, matches.
    pub(super) fn matches(&self, name: &str) -> bool {
        // The kind (`spiffe:`, `dns:`, `operator:`) is literal: a DNS pattern never matches a
        // SPIFFE ID with the same segments.
        let (Some((kind, pattern)), Some((name_kind, name))) =
            (self.text.split_once(':'), name.split_once(':'))
        else {
            return self.text == name;
        };
        if kind != name_kind {
            return false;
        }
        let mut expected = pattern.split(self.separator);
        let mut given = name.split(self.separator);
        loop {
            match (expected.next(), given.next()) {
                (None, None) => return true,
                (Some("**"), Some(segment)) => {
                    return !segment.is_empty() && given.all(|segment| !segment.is_empty());
                }
                (Some("*"), Some(segment)) if !segment.is_empty() => {}
                (Some(expected), Some(segment)) if expected == segment => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_star_matches_one_whole_segment() {
        let pattern = Pattern::parse("spiffe://td/ns/*/sa/web").unwrap();
        assert!(pattern.matches("spiffe://td/ns/shop/sa/web"));
        for other in [
            "spiffe://td/ns/shop/x/sa/web",
            "spiffe://td/ns//sa/web",
            "spiffe://td/ns/shop/sa/web/",
            "spiffe://td/ns/shop/sa/web2",
            "spiffe://td2/ns/shop/sa/web",
            "dns://td/ns/shop/sa/web",
            "spiffe:td/ns/shop/sa/web",
        ] {
            assert!(!pattern.matches(other), "{other}");
        }
    }

    #[test]
    fn a_final_double_star_matches_the_rest() {
        let pattern = Pattern::parse("spiffe://td/ns/shop/**").unwrap();
        assert!(pattern.matches("spiffe://td/ns/shop/sa/web"));
        assert!(!pattern.matches("spiffe://td/ns/shop"));
        assert!(!pattern.matches("spiffe://td/ns/shop/"));
        assert!(!pattern.matches("spiffe://td/ns/shopping/sa/web"));
    }

    #[test]
    fn dns_patterns_are_split_at_dots() {
        let pattern = Pattern::parse("dns:*.shop.svc").unwrap();
        assert!(pattern.matches("dns:web.shop.svc"));
        assert!(!pattern.matches("dns:a.web.shop.svc"));
        assert!(!pattern.matches("dns:shop.svc"));
    }

    #[test]
    fn incomplete_patterns_are_refused() {
        for text in [
            "",
            "*",
            "spiffe://*/ns/a/sa/b",
            "spiffe://td/ns/a*/sa/b",
            "spiffe://td/**/sa/b",
            "*:x",
        ] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
