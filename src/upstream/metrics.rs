//! Counters of what upstream CAs answered.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::status::RequestStatus;
use crate::clock::UnixTime;

const ANSWERS: [&str; 6] = [
    "issued",
    "pending",
    "refused",
    "forgotten",
    "unreachable",
    "unusable",
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    upstream: String,
    answer: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    trust_domain: String,
    upstream: String,
}

/// Of all upstream CAs.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    answers: Family<AnswerLabels, Counter>,
    request_age: Family<RequestLabels, Gauge>,
    waits_for_operator: Family<RequestLabels, Gauge>,
    renewal_at: Family<RequestLabels, Gauge>,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "upstream_answers",
            "Answers of upstream CAs: issued, pending, refused, forgotten, unreachable, unusable",
            self.answers.clone(),
        );
        registry.register(
            "upstream_request_age_seconds",
            "Age of the request to the upstream CA that is in flight; 0 without one",
            self.request_age.clone(),
        );
        registry.register(
            "upstream_request_waits_for_approval",
            "1 when a certificate waits until an operator approves its root",
            self.waits_for_operator.clone(),
        );
        registry.register(
            "upstream_renewal_timestamp_seconds",
            "When the issuing CA is renewed, seconds since 1970",
            self.renewal_at.clone(),
        );
    }

    /// Counts answers of this CA from zero: a counter that begins at one shows no growth.
    pub(super) fn begin(&self, upstream: &str) {
        for answer in ANSWERS {
            let upstream = upstream.to_owned();
            self.answers
                .get_or_create_owned(&AnswerLabels { upstream, answer });
        }
    }

    pub(super) fn answered(&self, upstream: &str, answer: &'static str) {
        let labels = AnswerLabels {
            upstream: upstream.to_owned(),
            answer,
        };
        self.answers.get_or_create(&labels).inc();
    }

    /// Sets the gauges of one authority.
    pub(super) fn show(&self, status: &RequestStatus, now: UnixTime) {
        let labels = RequestLabels {
            trust_domain: status.trust_domain.clone(),
            upstream: status.upstream.clone(),
        };
        let open = status.request.as_ref();
        let age = open.map_or(0, |open| now.secs().saturating_sub(open.since_secs).max(0));
        self.request_age.get_or_create(&labels).set(age);
        let waits = open.is_some_and(|open| open.state == "received");
        self.waits_for_operator
            .get_or_create(&labels)
            .set(i64::from(waits));
        if let Some(at) = status.renewal_at_secs {
            self.renewal_at.get_or_create(&labels).set(at);
        }
    }
}
