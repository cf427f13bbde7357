//! The records of one partition, for whoever has the stream.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::pending::PendingRecord;
use crate::consumer::pull::{Pull, Pulled};
use crate::consumer::record::ConsumerRecord;
use crate::consumer::shared::Shared;
use crate::consumer::unpack::Unpacker;
use crate::consumer::watch::Watch;
use crate::error::{Error, TopicPartition};
use crate::machine::credit::PartitionId;

/// One partition of a consumer: from [`PartitionStreams`](super::PartitionStreams), which says how it ends.
///
/// It is owned, and may be moved to a task of its own. What it does not ask for stays in the consumer's
/// [`fetch_buffer`](crate::ConsumerBuilder::fetch_buffer), of which a partition never has so much that others have nothing.
///
/// Dropped while the partition is still this consumer's, it makes place for another one, which
/// [`PartitionStreams::try_next`](super::PartitionStreams::try_next) returns, and which begins behind what was acknowledged
/// without a gap: at the first record that this one handed out and was not told of. Acknowledgements that come later have no
/// effect. Once it has ended, dropping it changes nothing, and what is still in hand can be acknowledged. (librdkafka: `rd_kafka_queue_get_partition`; rdkafka: `split_partition_queue`.)
#[must_use = "a stream that is dropped is made anew"]
pub struct PartitionStream {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    topic_partition: TopicPartition,
    id: PartitionId,
    pull: Pull,
}

impl PartitionStream {
    pub(super) fn new(
        shared: Arc<Shared>,
        watch: Arc<Watch>,
        topic_partition: TopicPartition,
        id: PartitionId,
        unpacker: Arc<Unpacker>,
    ) -> Self {
        Self { shared, watch, topic_partition, id, pull: Pull::new(unpacker) }
    }

    /// What the records are from.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The next record, or none when nothing comes any more: the partition goes elsewhere, the
    /// [streams](super::PartitionStreams) are closed or dropped, or all was read up to where it should
    /// ([`stop_at_end`](crate::ConsumerHandle::stop_at_end)). Of a partition that goes elsewhere not one record more comes,
    /// and what is in hand should be acknowledged soon: the rebalance waits for it.
    ///
    /// Records come in order. Those that were fetched come at once, except that every 128 the runtime gets its turn first.
    ///
    /// # Errors
    /// Those of [`Consumer::recv`](crate::Consumer::recv) that concern this partition. They do not end the stream: call again
    /// to go on.
    ///
    /// # Cancel safety
    /// Dropping the future loses no record and aborts no fetch.
    pub async fn try_next(&mut self) -> Result<Option<PendingRecord>, Error> {
        poll_fn(|cx| self.poll_pending(cx)).await.transpose()
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<PendingRecord, Error>>> {
        if self.shared.calls().begin_of_many() {
            self.shared.come_back();
        }
        loop {
            if let Some((source, at)) = self.pull.next() {
                match source.cursor.hand_over(at.offset(), source.leader_epoch) {
                    Some(ticket) => {
                        let record = ConsumerRecord::new(source, at);
                        let interceptors = &self.watch.interceptors;
                        interceptors.iter().for_each(|interceptor| interceptor.on_consume(record.borrow()));
                        return Poll::Ready(Some(Ok(PendingRecord::new(record, ticket))));
                    }
                    None => {
                        // Nobody has it: the position must not pass it, for a commit would.
                        source.cursor.advance(at.offset());
                        self.pull.refuse();
                    }
                }
            }
            let (shared, id) = (&self.shared, self.id);
            match ready!(self.pull.poll(cx, shared, |cx, done| shared.take_of(cx, id, done))) {
                Pulled::Record => {}
                Pulled::Error(error) => return Poll::Ready(Some(Err(error))),
                Pulled::Nothing => return Poll::Pending,
                Pulled::Unassigned | Pulled::Ended | Pulled::Closed => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for PartitionStream {
    type Item = Result<PendingRecord, Error>;

    /// As [`PartitionStream::try_next`]. Yields errors and goes on.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_pending(cx)
    }
}

impl Drop for PartitionStream {
    fn drop(&mut self) {
        let current = self.pull.put_down();
        self.shared.deliver(|inbox| inbox.leave_stream(self.id, current));
    }
}

impl fmt::Debug for PartitionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionStream").field("partition", &self.topic_partition).finish_non_exhaustive()
    }
}
