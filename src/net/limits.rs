//! `[listeners.*.limits]`: limits of one listener.

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::call::CALL_BYTES;
use crate::config_issue::ConfigIssues;

/// `[listeners.NAME.limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at a time. When all are in use, the one that has been idle longest is closed for a
    /// new one, which waits where none is idle.
    pub max_connections: usize,
    /// Those of one source: an IPv4 address, or an IPv6 network of 64 bits.
    pub max_connections_per_source: usize,
    /// Networks of load balancers and proxies, behind each of whose addresses are many clients: a limit
    /// for each source does not apply to them.
    pub shared_sources: Vec<IpNet>,
    /// TLS handshakes at a time; one source may have an eighth of them. When all are in use, the oldest
    /// is dropped for a new one.
    pub max_handshakes: usize,
    /// Bytes of memory for the requests in flight; one source may use a quarter of them.
    pub request_memory_bytes: usize,
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
    /// From a request's headers to the last byte of its body.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// A connection without a call for so long is closed.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// A connection of this age, more or less by a tenth, is closed once its calls have ended.
    #[serde(with = "humantime_serde")]
    pub max_connection_age: Duration,
    /// How often an idle HTTP/2 connection is pinged.
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    /// An unanswered ping ends the connection after this time.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
    /// How long a shutdown, and the end of a connection, wait for calls that have started.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 2_000,
            max_connections_per_source: 256,
            shared_sources: Vec::new(),
            max_handshakes: 512,
            request_memory_bytes: 64 * 1024 * 1024,
            max_message_bytes: 64 * 1024,
            max_header_bytes: 64 * 1024,
            max_streams: 100,
            handshake_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            max_connection_age: Duration::from_secs(1800),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Handshakes of one source at a time.
    pub(super) fn handshakes_of_source(&self) -> usize {
        (self.max_handshakes / 8).max(1)
    }

    /// Of the memory for requests.
    pub(super) fn request_memory_of_source(&self) -> usize {
        self.request_memory_bytes / 4
    }

    /// Sockets at a time.
    pub(super) fn max_sockets(&self) -> usize {
        self.max_connections + self.max_handshakes
    }

    pub(super) fn lower_max_sockets(&mut self, most: usize) {
        if most < self.max_sockets() {
            self.max_handshakes = self.max_handshakes.min((most / 8).max(1));
            let left = most.saturating_sub(self.max_handshakes).max(1);
            self.max_connections = self.max_connections.min(left);
        }
    }

    fn largest_request(&self) -> usize {
        CALL_BYTES + self.max_header_bytes as usize * 2 + self.max_message_bytes
    }

    /// Checks each value; `at` returns the full path of a key of this section, for the error.
    pub fn check(self, at: impl Fn(&str) -> String) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let mut count = |key, value: usize, allowed: RangeInclusive<usize>| {
            let problem = format_args!("must be {} to {}", allowed.start(), allowed.end());
            issues.require(allowed.contains(&value), at(key), problem);
        };
        count("max_connections", self.max_connections, 1..=1_000_000);
        let of_source = self.max_connections_per_source;
        count("max_connections_per_source", of_source, 1..=1_000_000);
        count("max_handshakes", self.max_handshakes, 8..=65_536);
        // The minimum has room for a few requests of the largest size from one source.
        let memory = 4_194_304..=1 << 40;
        count("request_memory_bytes", self.request_memory_bytes, memory);
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
        issues.require(
            self.request_memory_of_source() >= self.largest_request(),
            at("request_memory_bytes"),
            format_args!(
                "a quarter of it, which one source may use, is less than a request of the largest size, \
                 {} bytes",
                self.largest_request()
            ),
        );
        for (key, time) in [
            ("handshake_timeout", self.handshake_timeout),
            ("body_timeout", self.body_timeout),
            ("keepalive_interval", self.keepalive_interval),
            ("keepalive_timeout", self.keepalive_timeout),
            ("drain_timeout", self.drain_timeout),
        ] {
            let allowed = Duration::from_millis(100)..=Duration::from_secs(3600);
            issues.require(allowed.contains(&time), at(key), "must be 100ms to 1h");
        }
        for (key, time) in [
            ("idle_timeout", self.idle_timeout),
            ("max_connection_age", self.max_connection_age),
        ] {
            let allowed = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
            issues.require(allowed.contains(&time), at(key), "must be 1s to 30d");
        }
        issues.into_result(Some(self))
    }
}
