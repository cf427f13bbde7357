//! A span for each batch, from when it is sealed until it is settled, by OpenTelemetry's conventions for messaging
//! (1.37, `send` of a batch). Feature `tracing`; without it nothing is here.
//!
//! Not one for each record: that would cost more than all the rest. Who wants a record's trace to go on in its consumer
//! puts its context into a header, by an [`Interceptor`](super::Interceptor).

#[cfg(feature = "tracing")]
use tracing::{Span, field::Empty, info_span};

use super::account::Account;
use super::delivery::DeliveryError;
#[cfg(feature = "tracing")]
use super::delivery::Fate;
use crate::machine::sequence::Placed;

/// Ends when it is dropped.
#[derive(Default)]
pub(super) struct BatchSpan {
    #[cfg(feature = "tracing")]
    span: Option<Span>,
}

#[cfg(not(feature = "tracing"))]
impl BatchSpan {
    pub(super) fn begin(_: &Account, _: usize, _: usize) -> Self {
        Self {}
    }

    pub(super) fn end(self, _: Option<&Result<Placed, DeliveryError>>) {}
}

#[cfg(feature = "tracing")]
impl BatchSpan {
    pub(super) fn begin(account: &Account, records: usize, bytes: usize) -> Self {
        // Of nobody's span: the callers whose records are in it are many.
        let span = info_span!(
            target: "milena::producer",
            parent: None,
            "send",
            otel.name = Empty,
            otel.kind = "producer",
            otel.status_code = Empty,
            messaging.system = "kafka",
            messaging.operation.name = "send",
            messaging.operation.type = "send",
            messaging.client.id = &*account.watch.client_id,
            messaging.destination.name = &*account.topic,
            messaging.destination.partition.id = account.partition,
            messaging.batch.message_count = records as u64,
            messaging.message.envelope.size = bytes as u64,
            messaging.kafka.offset = Empty,
            error.type = Empty,
            milena.fate = Empty,
        );
        if !span.is_disabled() {
            span.record("otel.name", format_args!("send {}", account.topic));
        }
        Self { span: Some(span) }
    }

    /// With what became of the batch's first record.
    pub(super) fn end(self, result: Option<&Result<Placed, DeliveryError>>) {
        let Some(span) = self.span.filter(|span| !span.is_disabled()) else { return };
        match result {
            Some(Ok(placed)) => {
                if let Some(offset) = placed.base_offset {
                    span.record("messaging.kafka.offset", offset);
                }
            }
            Some(Err(DeliveryError { error, fate })) => {
                span.record("otel.status_code", "ERROR");
                match error.code() {
                    Some(code) => span.record("error.type", format_args!("{code}")),
                    None => span.record("error.type", format_args!("{:?}", error.kind())),
                };
                span.record("milena.fate", if *fate == Fate::NotWritten { "NotWritten" } else { "Unknown" });
            }
            None => {}
        }
    }
}
