//! A span for each batch that is handed out, from when it is opened for the caller until the caller is done with it, by
//! OpenTelemetry's conventions for messaging (1.37, `poll`); and one for each change of a member's assignment, for as long as
//! its listener takes, which the conventions do not know. Feature `tracing`; without it nothing is here.
//!
//! Not one for each record: that would cost more than all the rest. Who wants a record's trace to go on reads its context
//! from a header, where a producer's [`Interceptor`](crate::Interceptor) put it.

#[cfg(feature = "tracing")]
use tracing::{Span, field::Empty, info_span};

use super::group::RebalanceEvent;
use super::watch::Watch;
use crate::error::TopicPartition;
use crate::record::RecordError;

/// Ends when it is dropped.
pub(super) struct BatchSpan {
    #[cfg(feature = "tracing")]
    span: Span,
}

/// Ends when it is dropped.
pub(super) struct RebalanceSpan {
    #[cfg(feature = "tracing")]
    _span: Span,
}

#[cfg(not(feature = "tracing"))]
impl RebalanceSpan {
    pub(super) fn begin(_: &Watch, _: &str, _: &RebalanceEvent) -> Self {
        Self {}
    }
}

#[cfg(feature = "tracing")]
impl RebalanceSpan {
    pub(super) fn begin(watch: &Watch, group: &str, event: &RebalanceEvent) -> Self {
        let name = match event {
            RebalanceEvent::Assigned(_) => "assigned",
            RebalanceEvent::Revoked(_) => "revoked",
            RebalanceEvent::Lost(_) => "lost",
        };
        let span = info_span!(
            target: "milena::consumer",
            parent: None,
            "rebalance",
            otel.kind = "internal",
            messaging.system = "kafka",
            messaging.operation.name = name,
            messaging.client.id = &*watch.client_id,
            messaging.consumer.group.name = group,
            milena.rebalance.partitions = event.partitions().len() as u64,
        );
        Self { _span: span }
    }
}

#[cfg(not(feature = "tracing"))]
impl BatchSpan {
    pub(super) fn begin(_: &Watch, _: &TopicPartition, _: i64, _: usize) -> Self {
        Self {}
    }

    pub(super) fn fail(&self, _: &RecordError) {}

    pub(super) fn handed_out(&self, _: usize) {}
}

#[cfg(feature = "tracing")]
impl BatchSpan {
    pub(super) fn begin(watch: &Watch, tp: &TopicPartition, offset: i64, bytes: usize) -> Self {
        // Of nobody's span: it outlives the call that opened it.
        let span = info_span!(
            target: "milena::consumer",
            parent: None,
            "poll",
            otel.name = Empty,
            otel.kind = "consumer",
            otel.status_code = Empty,
            messaging.system = "kafka",
            messaging.operation.name = "poll",
            messaging.operation.type = "receive",
            messaging.client.id = &*watch.client_id,
            messaging.destination.name = &*tp.topic,
            messaging.destination.partition.id = tp.partition,
            messaging.batch.message_count = Empty,
            messaging.message.envelope.size = bytes as u64,
            messaging.kafka.offset = offset,
            error.type = Empty,
        );
        if !span.is_disabled() {
            span.record("otel.name", format_args!("poll {}", tp.topic));
        }
        Self { span }
    }

    pub(super) fn fail(&self, error: &RecordError) {
        self.span.record("otel.status_code", "ERROR");
        self.span.record("error.type", format_args!("{error}"));
    }

    /// So many records of it, in the end.
    pub(super) fn handed_out(&self, records: usize) {
        self.span.record("messaging.batch.message_count", records as u64);
    }
}
