//! Gauges of clusters, read when the metrics are collected.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;

use super::cluster::Cluster;

#[derive(Debug)]
pub(super) struct ClusterCollector(pub(super) Vec<Arc<Cluster>>);

impl Collector for ClusterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        gauge(
            &mut encoder,
            "cluster_up",
            "1 when the API server answered the last probe",
            self.0.iter().map(|c| (c, i64::from(c.is_up()))),
        )?;
        let indexed = || self.0.iter().filter_map(|c| Some((c, c.index()?)));
        gauge(
            &mut encoder,
            "cluster_watch_silent_seconds",
            "Seconds since the last contact about pods or accounts; -1 before the first list",
            indexed().map(|(c, index)| {
                let silent = index.time_since_contact().map(|silent| silent.as_secs());
                (
                    c,
                    silent
                        .and_then(|secs| i64::try_from(secs).ok())
                        .unwrap_or(-1),
                )
            }),
        )?;
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        gauge(
            &mut encoder,
            "cluster_pods",
            "Pods in the index",
            indexed().map(|(c, index)| (c, count(index.counts().0))),
        )?;
        gauge(
            &mut encoder,
            "cluster_service_accounts",
            "Service accounts in the index",
            indexed().map(|(c, index)| (c, count(index.counts().1))),
        )
    }
}

fn gauge<'c>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (&'c Arc<Cluster>, i64)>,
) -> Result<(), Error> {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let kind = prometheus_client::metrics::MetricType::Gauge;
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (cluster, value) in values {
        let labels = [("cluster", cluster.config().name())];
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
