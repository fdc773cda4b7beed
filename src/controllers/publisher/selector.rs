//! Label selectors in the syntax of `kubectl get -l`.

use std::collections::BTreeSet;

use kube::core::{Expression, Selector};

use crate::cluster::is_subdomain;

/// Parses a selector; an empty one selects everything.
pub(super) fn parse(text: &str) -> Result<Selector, String> {
    let mut selector = Selector::default();
    if text.trim().is_empty() {
        return Ok(selector);
    }
    for part in split(text)? {
        selector.extend([requirement(part.trim())?]);
    }
    Ok(selector)
}

/// Splits at the commas outside parentheses.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, c) in text.char_indices() {
        match (c, inside) {
            ('(', false) => inside = true,
            (')', true) => inside = false,
            ('(' | ')', _) => {
                return Err(format!(
                    "`{}`: parentheses do not match",
                    text.escape_default()
                ));
            }
            (',', false) => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(format!(
            "`{}`: parentheses do not match",
            text.escape_default()
        ));
    }
    parts.push(text.get(start..).unwrap_or_default());
    Ok(parts)
}

fn requirement(part: &str) -> Result<Expression, String> {
    if let Some(name) = part.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(key(name)?));
    }
    if let Some((name, word)) = part.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, value(word)?));
    }
    if let Some((name, word)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Expression::Equal(key(name)?, value(word)?));
    }
    let Some((left, list)) = part.split_once('(') else {
        return Ok(Expression::Exists(key(part)?));
    };
    let list = list.strip_suffix(')').ok_or_else(|| {
        format!(
            "`{}`: nothing may follow the parenthesis",
            part.escape_default()
        )
    })?;
    let words: BTreeSet<String> = list.split(',').map(value).collect::<Result<_, _>>()?;
    match left.trim().rsplit_once(char::is_whitespace) {
        Some((name, "in")) => Ok(Expression::In(key(name)?, words)),
        Some((name, "notin")) => Ok(Expression::NotIn(key(name)?, words)),
        _ => Err(format!(
            "`{}` is not a requirement; write key=value, key!=value, key in (a,b), key notin (a,b), \
             key or !key",
            part.escape_default()
        )),
    }
}

fn key(text: &str) -> Result<String, String> {
    let text = text.trim();
    match is_label_key(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{}` is not a label's name", text.escape_default())),
    }
}

fn value(text: &str) -> Result<String, String> {
    let text = text.trim();
    match is_label_value(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{}` is not a label's value",
            text.escape_default()
        )),
    }
}

/// `[prefix/]name`, the prefix a DNS subdomain.
pub(super) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}

/// At most 63 letters, digits, `-`, `_` and `.`, the first and last a letter or digit; may be empty.
pub(super) fn is_label_value(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        && edge(bytes.first())
        && edge(bytes.last())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use kube::core::SelectorExt as _;

    use super::*;

    #[test]
    fn selects_as_kubectl_does() {
        let labels = BTreeMap::from([
            ("team".to_owned(), "a".to_owned()),
            ("kubernetes.io/metadata.name".to_owned(), "shop".to_owned()),
        ]);
        for (text, selects) in [
            ("", true),
            ("team=a", true),
            (
                "team == a , kubernetes.io/metadata.name in (shop, till)",
                true,
            ),
            ("team!=a", false),
            ("other!=a", true),
            ("team in (b,c)", false),
            ("team notin (b,c),!other", true),
            ("team,other", false),
        ] {
            assert_eq!(parse(text).unwrap().matches(&labels), selects, "{text}");
        }
    }

    #[test]
    fn invalid_selectors_are_refused() {
        for text in [
            ",",
            "a=b,",
            "a in b",
            "a in (b",
            "a)",
            "a of (b)",
            "a in (b) c",
            "-a",
            "a=b c",
            "a=b=c",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    /// The API server would read each as another label, or as two.
    #[test]
    fn unusual_characters_are_refused_in_labels() {
        let long = "a".repeat(64);
        for odd in [
            "*", "a b", "a\t", "a\n", "a\0", "\u{e4}", "\u{ff0c}", "-a", "a-", "_a", "a.", "a:b",
            "a%b", "a;b", "'a'", "\"a\"", "a&b", "a<b", &long,
        ] {
            assert!(!is_label_value(odd), "{odd:?}");
            for key in [odd.to_owned(), format!("d.example/{odd}")] {
                assert!(!is_label_key(&key), "{key:?}");
            }
            // A prefix may be as long as a DNS name.
            assert_eq!(is_label_key(&format!("{odd}/a")), odd == long, "{odd:?}");
            let trimmed = odd.trim() != odd;
            for text in [
                format!("team={odd}"),
                format!("team in ({odd})"),
                odd.to_owned(),
            ] {
                let error = match parse(&text) {
                    Err(error) => error,
                    // Whitespace around a word is ignored.
                    Ok(_) => {
                        assert!(trimmed, "{text:?}");
                        continue;
                    }
                };
                assert!(!error.chars().any(char::is_control), "{error:?}");
            }
        }
        for odd in ["(\u{1b}", "a \u{1b} (b)", "a (b)\u{1b}", "a in (b)\u{1b}x"] {
            let error = parse(odd).unwrap_err();
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
        for odd in ["", "/", "a/", "/a", "a/b/c", "D.example/a", "d..example/a"] {
            assert!(!is_label_key(odd), "{odd:?}");
        }
    }
}
