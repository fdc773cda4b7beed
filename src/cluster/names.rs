//! What the API server takes as names of objects.

/// A label of DNS (RFC 1123 §2.1) in lower case, as namespaces are named.
pub(crate) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// Labels joined by dots, as most objects are named: 253 bytes in all, and no bound to one label,
/// for the API server has none.
pub(crate) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains() {
        let long = "a".repeat(64);
        for good in ["a", "0", "a-b", "x1-2y", &long[1..]] {
            assert!(is_label(good) && is_subdomain(good), "{good}");
        }
        for bad in [
            "", "-", "-a", "a-", "A", "a_b", "a b", "é", "a\n", "a/b", "*",
        ] {
            assert!(!is_label(bad) && !is_subdomain(bad), "{bad:?}");
            for around in [format!("{bad}.a"), format!("a.{bad}")] {
                assert!(!is_subdomain(&around), "{around:?}");
            }
        }
        assert!(!is_label("a.b") && is_subdomain("a.b"));
        assert!(!is_label(&long) && is_subdomain(&long));
        let most = ["a"; 127].join(".");
        assert!(is_subdomain(&most) && !is_subdomain(&format!("{most}.a")));
    }
}
