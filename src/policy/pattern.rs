//! Patterns over names: literal text in which `*` matches one whole segment.

/// A pattern of a policy rule. Names are split at `/` (SPIFFE IDs) or `.` (DNS names). `*` matches
/// exactly one segment, and a final `**` one or more, so no pattern matches across a separator by
/// accident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    /// `None`: it matches exactly `text`.
    separator: Option<char>,
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
            separator: Some(separator),
        })
    }

    /// A pattern that matches exactly `text`, a valid name.
    pub(super) fn literal(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            separator: None,
        }
    }

    /// Whether `name`, as text, matches.
    pub(super) fn matches(&self, name: &str) -> bool {
        // The kind (`spiffe:`, `dns:`, `operator:`) is literal: a DNS pattern never matches a
        // SPIFFE ID with the same segments.
        let (Some(separator), Some((kind, pattern)), Some((name_kind, name))) = (
            self.separator,
            self.text.split_once(':'),
            name.split_once(':'),
        ) else {
            return self.text == name;
        };
        if kind != name_kind {
            return false;
        }
        let mut expected = pattern.split(separator);
        let mut given = name.split(separator);
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
        assert!(pattern.matches("spiffe://td/ns/shop/sa"));
        assert!(pattern.matches("spiffe://td/ns/shop/sa/web"));
        for other in [
            "spiffe://td/ns/shop",
            "spiffe://td/ns/shop/",
            "spiffe://td/ns/shop//web",
            "spiffe://td/ns/shop/sa//web",
            "spiffe://td/ns/shop/sa/",
            "spiffe://td/ns/shopping/sa/web",
        ] {
            assert!(!pattern.matches(other), "{other}");
        }
    }

    #[test]
    fn dns_patterns_are_split_at_dots() {
        let pattern = Pattern::parse("dns:*.shop.svc").unwrap();
        assert!(pattern.matches("dns:web.shop.svc"));
        assert!(!pattern.matches("dns:a.web.shop.svc"));
        assert!(!pattern.matches("dns:shop.svc"));
    }

    /// The names of the server's own listeners: each is itself, whatever is in it.
    #[test]
    fn a_literal_matches_itself_alone() {
        for name in [
            "spiffe://td/a",
            "dns:*.shop.svc",
            "dns:**",
            "ip:10.0.0.1",
            "local:serving",
        ] {
            let literal = Pattern::literal(name);
            assert!(literal.matches(name), "{name}");
            for other in [
                "spiffe://td/b",
                "dns:web.shop.svc",
                "dns:shop",
                "ip:10.0.0.2",
                "local:",
            ] {
                assert!(!literal.matches(other), "{name} {other}");
            }
        }
        let literal = Pattern::literal("serving");
        assert!(literal.matches("serving"));
        for other in ["serving2", "local:serving", "serving:x", ""] {
            assert!(!literal.matches(other), "{other}");
        }
        assert!(!Pattern::literal("local:serving").matches("serving"));
    }

    #[test]
    fn incomplete_and_malformed_patterns_are_refused() {
        let refused = |text: &str| Pattern::parse(text).unwrap_err();
        assert_eq!(refused(""), PatternError::Empty);
        for text in [
            "*",
            ":x",
            "*:x",
            "o*:x",
            "spiffe://",
            "spiffe:///ns/a",
            "spiffe://*/ns/a/sa/b",
            "spiffe://t*/a",
        ] {
            assert_eq!(refused(text), PatternError::Incomplete(text.to_owned()));
        }
        for text in [
            "spiffe://td/ns/a*/sa/b",
            "spiffe://td/**/sa/b",
            "spiffe://td/a**",
            "spiffe://td/***",
            "dns:*a.svc",
            "dns:**.svc",
            "operator:*x",
        ] {
            assert_eq!(refused(text), PatternError::Wildcard(text.to_owned()));
        }
        for text in [
            "spiffe://td/*/x",
            "spiffe://td/**",
            "dns:*",
            "dns:a.**",
            "operator:*",
            "operator:**",
        ] {
            assert!(Pattern::parse(text).is_ok(), "{text}");
        }
    }
}
