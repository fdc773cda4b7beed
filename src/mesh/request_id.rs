//! The id of a request: this server's own, beside which the caller's may stand in the log.

use std::ops::Deref;

use http::HeaderMap;

/// A caller may name its own id of a request in this header.
const HEADER: &str = "x-request-id";

/// The id that answers, the log and the ledger have. It is never the caller's, who could give many
/// requests one id, or another request's.
#[derive(Debug, Clone)]
pub struct RequestId {
    own: String,
    callers: Option<String>,
}

impl RequestId {
    /// Of a request with these headers.
    pub(super) fn new(headers: &HeaderMap) -> Self {
        let callers = headers.get(HEADER).and_then(|value| value.to_str().ok());
        let id = Self {
            own: random(),
            callers: callers.filter(|id| is_loggable(id)).map(str::to_owned),
        };
        if let Some(caller_request_id) = &id.callers {
            tracing::debug!(request_id = id.own, caller_request_id, "a request begins");
        }
        id
    }

    /// The caller's, where it has one that is safe to log.
    pub(super) fn callers(&self) -> Option<&str> {
        self.callers.as_deref()
    }
}

impl Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.own
    }
}

fn is_loggable(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn random() -> String {
    let mut bytes = [0_u8; 8];
    // Without randomness, making the serial fails with a clear error; a repeated id does no harm.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    format!("{:016x}", u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_callers_id_neither_replaces_ours_nor_forges_a_log_line() {
        let long = "a".repeat(65);
        for (sent, kept) in [
            ("abc-1.2_3", Some("abc-1.2_3")),
            ("a b=c", None),
            (&long, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, sent.parse().unwrap());
            let (first, second) = (RequestId::new(&headers), RequestId::new(&headers));
            assert_eq!(first.callers(), kept);
            assert!(
                first.len() == 16 && *first != *second,
                "{first:?} {second:?}"
            );
        }
        assert_eq!(RequestId::new(&HeaderMap::new()).callers(), None);
    }
}
