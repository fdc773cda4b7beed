//! `[listeners.*.limits]`: what a listener takes on at most.

use std::time::Duration;

use serde::Deserialize;

/// `[listeners.NAME.limits]` as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLimits {
    /// Connections at a time. Default 10000.
    pub max_connections: usize,
    /// Bytes of one request message. Default 65536.
    pub max_message_bytes: usize,
    /// Bytes of one request's headers. Default 65536.
    pub max_header_bytes: u32,
    /// HTTP/2 streams at a time on one connection. Default 100.
    pub max_streams: u32,
    /// From accept to the end of the TLS handshake. Default 10s.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// How often an idle connection is pinged. Default 30s.
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    /// A ping unanswered for so long ends the connection. Default 10s.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
    /// How long a shutdown waits for calls under way. Default 10s.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for RawLimits {
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

/// Checked limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time.
    pub max_connections: usize,
    /// Bytes of one request message.
    pub max_message_bytes: usize,
    /// Bytes of one request's headers.
    pub max_header_bytes: u32,
    /// HTTP/2 streams at a time on one connection.
    pub max_streams: u32,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// How often an idle connection is pinged.
    pub keepalive_interval: Duration,
    /// A ping unanswered for so long ends the connection.
    pub keepalive_timeout: Duration,
    /// How long a shutdown waits for calls under way.
    pub drain_timeout: Duration,
}

impl TryFrom<RawLimits> for Limits {
    type Error = (&'static str, String);

    fn try_from(raw: RawLimits) -> Result<Self, Self::Error> {
        let count = |key, value: usize, range: std::ops::RangeInclusive<usize>| {
            let why = || (key, format!("must be {} to {}", range.start(), range.end()));
            if range.contains(&value) {
                Ok(())
            } else {
                Err(why())
            }
        };
        let span = |key, value: Duration| {
            let range = Duration::from_millis(100)..=Duration::from_secs(3600);
            if range.contains(&value) {
                Ok(())
            } else {
                Err((key, "must be 100ms to 1h".to_owned()))
            }
        };
        count("limits.max_connections", raw.max_connections, 1..=1_000_000)?;
        // A CSR of 16 KiB in base64, with room for the names beside it.
        count(
            "limits.max_message_bytes",
            raw.max_message_bytes,
            32_768..=4_194_304,
        )?;
        // A token of 16 KiB and what else a proxy adds.
        count(
            "limits.max_header_bytes",
            raw.max_header_bytes as usize,
            20_480..=1_048_576,
        )?;
        count("limits.max_streams", raw.max_streams as usize, 1..=10_000)?;
        span("limits.handshake_timeout", raw.handshake_timeout)?;
        span("limits.keepalive_interval", raw.keepalive_interval)?;
        span("limits.keepalive_timeout", raw.keepalive_timeout)?;
        span("limits.drain_timeout", raw.drain_timeout)?;
        Ok(Self {
            max_connections: raw.max_connections,
            max_message_bytes: raw.max_message_bytes,
            max_header_bytes: raw.max_header_bytes,
            max_streams: raw.max_streams,
            handshake_timeout: raw.handshake_timeout,
            keepalive_interval: raw.keepalive_interval,
            keepalive_timeout: raw.keepalive_timeout,
            drain_timeout: raw.drain_timeout,
        })
    }
}
