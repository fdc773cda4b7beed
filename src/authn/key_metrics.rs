//! Gauges of token issuers' keys, read when the metrics are collected.

use std::fmt::Error;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::jwt::JwtVerifiers;
use super::key_cache::KeyCacheReport;
use crate::clock::Clock;

/// How many keys each verifier has, and how old they are.
#[derive(Debug)]
pub struct KeyMetrics {
    verifiers: Arc<ArcSwap<JwtVerifiers>>,
    clock: Arc<dyn Clock>,
}

impl KeyMetrics {
    /// Of the verifiers that are in `verifiers` at each collection.
    pub fn register(
        verifiers: Arc<ArcSwap<JwtVerifiers>>,
        clock: Arc<dyn Clock>,
        registry: &mut Registry,
    ) {
        registry.register_collector(Box::new(Self { verifiers, clock }));
    }

    /// Seconds since the source last returned the keys; -1 for keys that were never read.
    fn age(&self, report: &KeyCacheReport) -> i64 {
        let age = report.as_of.map(|as_of| self.clock.now().since(as_of));
        age.map_or(-1, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
    }
}

impl Collector for KeyMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let verifiers = self.verifiers.load();
        let reports: Vec<_> = verifiers.reports().collect();
        let keys = |report: &KeyCacheReport| i64::try_from(report.keys).unwrap_or(i64::MAX);
        let values = reports.iter().map(|(name, report)| (*name, keys(report)));
        gauge(
            &mut encoder,
            "jwt_keys",
            "Keys of the token issuer; 0 when none were ever read",
            values,
        )?;
        let values = reports
            .iter()
            .map(|(name, report)| (*name, self.age(report)));
        gauge(
            &mut encoder,
            "jwt_keys_age_seconds",
            "Seconds since the token issuer's keys were last read; -1 when they never were",
            values,
        )
    }
}

fn gauge<'n>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (&'n str, i64)>,
) -> Result<(), Error> {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let shape = ConstGauge::new(0_i64);
    let mut family = encoder.encode_descriptor(name, help, None, shape.metric_type())?;
    for (verifier, value) in values {
        let labels = [("verifier", verifier)];
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
