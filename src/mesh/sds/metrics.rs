//! The streams of SDS by what their clients have said, and the answers.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    listener: String,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    listener: String,
    result: State,
}

/// The label's values are these names.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum State {
    /// Nothing was sent, because nothing of what it subscribes to exists.
    nothing,
    /// The client has not said yet whether it takes the last answer.
    waiting,
    accepted,
    refused,
}

/// Clones share the values.
#[derive(Debug, Clone, Default)]
pub struct SdsMetrics {
    streams: Family<StreamLabels, Gauge>,
    answers: Family<AnswerLabels, Counter>,
}

impl SdsMetrics {
    /// Puts the metrics under the names that docs/reference/metrics.md lists.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "sds_streams",
            "Streams of SDS by what their clients have said of the last answer",
            self.streams.clone(),
        );
        registry.register(
            "sds_answers",
            "Answers that clients of SDS have accepted or refused",
            self.answers.clone(),
        );
    }

    /// Counts from zero: a counter that begins at one shows no growth.
    pub(in crate::mesh) fn begin(&self, listener: &str) {
        for state in [
            State::nothing,
            State::waiting,
            State::accepted,
            State::refused,
        ] {
            self.gauge(listener, state);
        }
        self.answer(listener, State::accepted);
        self.answer(listener, State::refused);
    }

    pub(super) fn open(&self, listener: &str) -> Counted {
        self.gauge(listener, State::nothing).inc();
        Counted {
            metrics: self.clone(),
            listener: listener.to_owned(),
            state: State::nothing,
        }
    }

    fn gauge(&self, listener: &str, state: State) -> Gauge {
        self.streams.get_or_create_owned(&StreamLabels {
            listener: listener.to_owned(),
            state,
        })
    }

    fn answer(&self, listener: &str, result: State) -> Counter {
        self.answers.get_or_create_owned(&AnswerLabels {
            listener: listener.to_owned(),
            result,
        })
    }
}

/// A stream among those that are counted.
#[derive(Debug)]
pub(super) struct Counted {
    metrics: SdsMetrics,
    listener: String,
    state: State,
}

impl Counted {
    pub(super) fn is_waiting(&self) -> bool {
        self.state == State::waiting
    }

    pub(super) fn set(&mut self, state: State) {
        self.metrics.gauge(&self.listener, self.state).dec();
        self.metrics.gauge(&self.listener, state).inc();
        if matches!(state, State::accepted | State::refused) {
            self.metrics.answer(&self.listener, state).inc();
        }
        self.state = state;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.gauge(&self.listener, self.state).dec();
    }
}
