//! Patterns over names: literal text in which `*` stands for one whole segment.

use std::fmt;

use crate::x509::San;

/// A pattern of a policy rule. A name is cut at `/` (SPIFFE IDs) or at `.` (DNS names); `*`
/// matches exactly one whole segment and a last `**` one or more, so that no pattern can match
/// across a separator by accident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    separator: char,
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    /// `*` inside a segment.
    #[error("`{0}`: `*` stands for one whole segment, and `**` only for the last ones")]
    Wildcard(String),
    /// An empty pattern.
    #[error("an empty pattern matches nothing")]
    Empty,
    /// A trust domain or the kind of name left open.
    #[error("`{0}`: the trust domain and the kind of name are always written out")]
    Open(String),
}

impl Pattern {
    /// A pattern over callers or names as they are shown: `spiffe://…`, `dns:…`, `operator:…`.
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let separator = if text.starts_with("dns:") { '.' } else { '/' };
        let head = match text.strip_prefix("spiffe://") {
            Some(rest) => rest.split('/').next().unwrap_or_default(),
            None => text.split(':').next().unwrap_or_default(),
        };
        if head.is_empty() || head.contains('*') {
            return Err(PatternError::Open(text.to_owned()));
        }
        let body = text.split_once(':').map_or("", |(_, body)| body);
        let segments: Vec<&str> = body.split(separator).collect();
        let last = segments.len().saturating_sub(1);
        for (at, segment) in segments.iter().enumerate() {
            let whole = *segment == "*" || (*segment == "**" && at == last);
            if segment.contains('*') && !whole {
                return Err(PatternError::Wildcard(text.to_owned()));
            }
        }
        Ok(Self {
            text: text.to_owned(),
            separator,
        })
    }

    /// A pattern that means exactly `text`, which has been validated as a name.
    pub(super) fn literal(text: &str) -> Self {
        // No name has a newline: nothing is cut, so a `*` could only be compared as it is.
        Self {
            text: text.to_owned(),
            separator: '\n',
        }
    }

    /// Whether `name`, as it is shown, is one that this pattern means.
    pub(super) fn matches(&self, name: &str) -> bool {
        // The kind (`spiffe:`, `dns:`, `operator:`) is literal, so a DNS pattern never meets a
        // SPIFFE ID that merely has the same segments.
        let (Some((kind, pattern)), Some((name_kind, name))) =
            (self.text.split_once(':'), name.split_once(':'))
        else {
            return self.text == name;
        };
        if kind != name_kind {
            return false;
        }
        let mut wanted = pattern.split(self.separator);
        let mut given = name.split(self.separator);
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some("**"), Some(segment)) => {
                    return !segment.is_empty() && given.all(|segment| !segment.is_empty());
                }
                (Some("*"), Some(segment)) if !segment.is_empty() => {}
                (Some(wanted), Some(segment)) if wanted == segment => {}
                _ => return false,
            }
        }
    }

    /// Whether this pattern means the name `san`.
    pub(super) fn matches_san(&self, san: &San) -> bool {
        self.matches(&san.to_string())
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
    fn a_star_is_one_whole_segment() {
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
    fn a_last_double_star_is_the_rest() {
        let pattern = Pattern::parse("spiffe://td/ns/shop/**").unwrap();
        assert!(pattern.matches("spiffe://td/ns/shop/sa/web"));
        assert!(!pattern.matches("spiffe://td/ns/shop"));
        assert!(!pattern.matches("spiffe://td/ns/shop/"));
        assert!(!pattern.matches("spiffe://td/ns/shopping/sa/web"));
    }

    #[test]
    fn dns_patterns_are_cut_at_dots() {
        let pattern = Pattern::parse("dns:*.shop.svc").unwrap();
        assert!(pattern.matches("dns:web.shop.svc"));
        assert!(!pattern.matches("dns:a.web.shop.svc"));
        assert!(!pattern.matches("dns:shop.svc"));
    }

    #[test]
    fn open_or_broken_patterns_are_refused() {
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
