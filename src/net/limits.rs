//! `[listeners.*.limits]`: limits of one listener.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

use crate::config_issue::ConfigIssues;

/// `[listeners.NAME.limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at a time; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Bytes of one request message.
    pub max_message_bytes: usize,
    /// Bytes of one request's headers.
    pub max_header_bytes: u32,
    /// HTTP/2 streams at a time on one connection.
    pub max_streams: u32,
    /// From accept to the end of the TLS handshake; then again for the first bytes of a request, and
    /// for the headers of an HTTP/1.1 request.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// How often an idle HTTP/2 connection is pinged.
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    /// An unanswered ping ends the connection after this time.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
    /// How long a shutdown waits for calls that have started.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_message_bytes: 64 * 1024,
            max_header_bytes: 64 * 1024,
            max_streams: 100,
            handshake_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Checks each value; `at` returns the full path of a key of this section, for the error.
    pub fn check(self, at: impl Fn(&str) -> String) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let mut count = |key, value: usize, allowed: RangeInclusive<usize>| {
            let problem = format_args!("must be {} to {}", allowed.start(), allowed.end());
            issues.require(allowed.contains(&value), at(key), problem);
        };
        count("max_connections", self.max_connections, 1..=1_000_000);
        // The minimum has room for a CSR of 16 KiB in base64, and the requested names.
        let message_bytes = 32_768..=4_194_304;
        count("max_message_bytes", self.max_message_bytes, message_bytes);
        // The minimum has room for a bearer token of 16 KiB, and the headers that a proxy adds.
        let header_bytes = 20_480..=1_048_576;
        count(
            "max_header_bytes",
            self.max_header_bytes as usize,
            header_bytes,
        );
        count("max_streams", self.max_streams as usize, 1..=10_000);
        for (key, time) in [
            ("handshake_timeout", self.handshake_timeout),
            ("keepalive_interval", self.keepalive_interval),
            ("keepalive_timeout", self.keepalive_timeout),
            ("drain_timeout", self.drain_timeout),
        ] {
            let allowed = Duration::from_millis(100)..=Duration::from_secs(3600);
            issues.require(allowed.contains(&time), at(key), "must be 100ms to 1h");
        }
        issues.into_result(Some(self))
    }
}
