//! What a producer counts: with batches and requests, never with records.

use std::time::Duration;

use crate::count::{Count, Times, Timing};

/// A producer's counts since it was built, as of one moment: from [`Producer::metrics`](crate::Producer::metrics).
///
/// Everything is counted when a batch or a request begins or ends, so records that are in an open batch are not in it
/// yet. With the feature `metrics` the same counts go to the recorder of the `metrics` crate that is installed when the
/// producer is built, labelled `client_id`: the names stand with the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerMetrics {
    /// Records in batches that were sealed. (`milena_producer_records`; Java: `record-send-total`, of those sent.)
    pub records: u64,
    /// Records that were acknowledged. (`milena_producer_records_acknowledged`.)
    pub records_acknowledged: u64,
    /// Records in batches that failed, whatever their fate. (`milena_producer_records_failed`; Java: `record-error-total`.)
    pub records_failed: u64,
    /// Batches that were sealed. (`milena_producer_batches`.)
    pub batches: u64,
    /// Bytes of the sealed batches before compression. (`milena_producer_batch_bytes`.)
    pub batch_bytes: u64,
    /// Bytes of batches that were given to the codec. (`milena_producer_codec_input_bytes`.)
    pub codec_input_bytes: u64,
    /// Bytes of those batches behind the codec; one that does not shrink stays as it was.
    /// (`milena_producer_codec_output_bytes`.)
    pub codec_output_bytes: u64,
    /// Batches that were sent again. (`milena_producer_retries`; Java: `record-retry-total`, which counts records.)
    pub retries: u64,
    /// Produce requests. (`milena_producer_requests`; Java: `request-total`.)
    pub requests: u64,
    /// Produce requests that got no answer. (`milena_producer_requests_failed`.)
    pub requests_failed: u64,
    /// Of each request with a batch that was not sent before, how long the oldest of these waited: from when its first record was enqueued.
    /// (`milena_producer_queue_seconds`; Java: `record-queue-time-avg` and `-max`.)
    pub queue_time: Timing,
    /// From each request to its answer. (`milena_producer_request_seconds`; Java: `request-latency-avg` and `-max`.)
    pub request_latency: Timing,
    /// Bytes of [`buffer_memory`](crate::ProducerBuilder::buffer_memory) that batches hold now.
    /// (Java: `buffer-total-bytes` less `buffer-available-bytes`.)
    pub buffer_used: u64,
    /// `buffer_memory`. (Java: `buffer-total-bytes`.)
    pub buffer_total: u64,
}

impl ProducerMetrics {
    /// What compression leaves of a byte: 1 without it, and before anything was compressed. (Java: `compression-rate-avg`.)
    pub fn compression_ratio(&self) -> f64 {
        match self.codec_input_bytes {
            0 => 1.0,
            input => self.codec_output_bytes as f64 / input as f64,
        }
    }
}

/// Where it is counted. Shared by a producer's tasks and callers.
pub(super) struct Counts {
    records: Count,
    acknowledged: Count,
    failed: Count,
    batches: Count,
    batch_bytes: Count,
    codec_input: Count,
    codec_output: Count,
    retries: Count,
    requests: Count,
    requests_failed: Count,
    queue_time: Times,
    request_latency: Times,
}

impl Counts {
    pub(super) fn new(client_id: &str) -> Self {
        let count = |name| Count::new(name, client_id);
        let times = |name| Times::new(name, client_id);
        Self {
            records: count("milena_producer_records"),
            acknowledged: count("milena_producer_records_acknowledged"),
            failed: count("milena_producer_records_failed"),
            batches: count("milena_producer_batches"),
            batch_bytes: count("milena_producer_batch_bytes"),
            codec_input: count("milena_producer_codec_input_bytes"),
            codec_output: count("milena_producer_codec_output_bytes"),
            retries: count("milena_producer_retries"),
            requests: count("milena_producer_requests"),
            requests_failed: count("milena_producer_requests_failed"),
            queue_time: times("milena_producer_queue_seconds"),
            request_latency: times("milena_producer_request_seconds"),
        }
    }

    pub(super) fn sealed(&self, records: usize, bytes: usize) {
        self.records.add(records as u64);
        self.batches.add(1);
        self.batch_bytes.add(bytes as u64);
    }

    pub(super) fn settled(&self, acknowledged: u64, failed: u64) {
        self.acknowledged.add(acknowledged);
        self.failed.add(failed);
    }

    pub(super) fn compressed(&self, input: usize, output: usize) {
        self.codec_input.add(input as u64);
        self.codec_output.add(output as u64);
    }

    /// A request goes out: with so many batches that were sent before, and the oldest of the others having waited so long.
    pub(super) fn request(&self, retries: usize, waited: Option<Duration>) {
        self.requests.add(1);
        self.retries.add(retries as u64);
        if let Some(waited) = waited {
            self.queue_time.add(waited);
        }
    }

    pub(super) fn answered(&self, after: Duration) {
        self.request_latency.add(after);
    }

    pub(super) fn unanswered(&self) {
        self.requests_failed.add(1);
    }

    pub(super) fn snapshot(&self, buffer_used: usize, buffer_total: usize) -> ProducerMetrics {
        ProducerMetrics {
            records: self.records.get(),
            records_acknowledged: self.acknowledged.get(),
            records_failed: self.failed.get(),
            batches: self.batches.get(),
            batch_bytes: self.batch_bytes.get(),
            codec_input_bytes: self.codec_input.get(),
            codec_output_bytes: self.codec_output.get(),
            retries: self.retries.get(),
            requests: self.requests.get(),
            requests_failed: self.requests_failed.get(),
            queue_time: self.queue_time.get(),
            request_latency: self.request_latency.get(),
            buffer_used: buffer_used as u64,
            buffer_total: buffer_total as u64,
        }
    }
}
