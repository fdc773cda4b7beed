//! Bearer tokens as a header.

use http::HeaderValue;

/// The header for a token; white space around it, such as the newline that every editor writes, is
/// left out. `None`: it is empty, or holds what no header can.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
