//! A Fetch response around batches that are not copied.
//!
//! `kafka-protocol` encodes a message into one buffer, records included. Here it encodes every part with an empty list
//! or empty records in it, which are then replaced by the real ones:
//!
//! ```text
//!             response              topic                   partition
//!  encoded    head ┊ 0     ┊ tags   name ┊ 0     ┊ tags    fields ┊ 0         ┊ tags
//!  sent       head ┊ n ┊ … ┊ tags   name ┊ n ┊ … ┊ tags    fields ┊ n ┊ batch ┊ tags
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::protocol::Encodable;

use super::frame::{Body, encode};

/// The first version whose encoding is flexible: lengths are varints, and tagged fields come last.
const FLEXIBLE: i16 = 12;
/// The first version with an error code and a session id before the topics.
const SESSIONS: i16 = 7;
/// A shorter segment costs less to copy than to send on its own.
const WORTH_A_SEGMENT: usize = 1024;

/// Encodes `response`, whose partitions have no records, with `records` in their place: one list for each partition, in
/// order.
pub(super) fn assemble(response: FetchResponse, records: Vec<Vec<Bytes>>, version: i16) -> Body {
    let mut records = records.into_iter();
    let mut out = Assembly { version, done: Vec::new(), open: BytesMut::new() };
    let mut outer = response;
    let topics = std::mem::take(&mut outer.responses);
    let head = if version >= SESSIONS { 4 + 2 + 4 } else { 4 };
    out.around(&outer, head, topics.len(), |out| {
        for mut topic in topics {
            let partitions = std::mem::take(&mut topic.partitions);
            out.topic(&topic, partitions, &mut records);
        }
    });
    out.finish()
}

struct Assembly {
    version: i16,
    done: Vec<Bytes>,
    open: BytesMut,
}

impl Assembly {
    fn topic(
        &mut self,
        topic: &FetchableTopicResponse,
        partitions: Vec<PartitionData>,
        records: &mut impl Iterator<Item = Vec<Bytes>>,
    ) {
        let size = topic.compute_size(self.version).unwrap_or(0);
        let at = size - self.empty() - self.no_tags();
        self.around(topic, at, partitions.len(), |out| {
            for (partition, records) in partitions.iter().zip(records) {
                out.partition(partition, records);
            }
        });
    }

    fn partition(&mut self, partition: &PartitionData, records: Vec<Bytes>) {
        let mut untagged = partition.clone();
        untagged.diverging_epoch = Default::default();
        untagged.current_leader = Default::default();
        untagged.snapshot_id = Default::default();
        let size = untagged.compute_size(self.version).unwrap_or(0);
        let at = size - self.empty() - self.no_tags();
        let length = records.iter().map(Bytes::len).sum();
        self.around(partition, at, length, |out| records.into_iter().for_each(|segment| out.segment(segment)));
    }

    /// Encodes `message`, whose list or records at `at` are empty, with `count` of what `content` adds.
    fn around<M: Encodable>(&mut self, message: &M, at: usize, count: usize, content: impl FnOnce(&mut Self)) {
        let mut encoded = BytesMut::new();
        encode(message, &mut encoded, self.version);
        self.open.extend_from_slice(&encoded[..at]);
        self.count(count);
        content(self);
        self.open.extend_from_slice(&encoded[at + self.empty()..]);
    }

    fn count(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.version < FLEXIBLE {
            return self.open.put_u32(count);
        }
        let mut left = count + 1; // 0 stands for null
        while left >= 0x80 {
            self.open.put_u8(left as u8 | 0x80);
            left >>= 7;
        }
        self.open.put_u8(left as u8);
    }

    fn segment(&mut self, segment: Bytes) {
        if segment.len() < WORTH_A_SEGMENT {
            self.open.extend_from_slice(&segment);
        } else {
            self.done.push(self.open.split().freeze());
            self.done.push(segment);
        }
    }

    /// Bytes of an empty list, or of empty records.
    fn empty(&self) -> usize {
        if self.version < FLEXIBLE { 4 } else { 1 }
    }

    /// Bytes that say there are no tagged fields.
    fn no_tags(&self) -> usize {
        if self.version < FLEXIBLE { 0 } else { 1 }
    }

    fn finish(mut self) -> Body {
        self.done.push(self.open.freeze());
        Body(self.done)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction, EpochEndOffset, LeaderIdAndEpoch, NodeEndpoint,
    };
    use kafka_protocol::protocol::Message;

    use super::*;

    fn partition(version: i16, index: i32) -> PartitionData {
        let mut data = PartitionData::default().with_partition_index(index).with_high_watermark(99);
        data.aborted_transactions = (index % 2 == 0).then(|| vec![AbortedTransaction::default(); index as usize]);
        if version >= 16 && index == 1 {
            data.current_leader = LeaderIdAndEpoch::default().with_leader_id(3.into()).with_leader_epoch(7);
        }
        if version >= 12 && index == 2 {
            data.diverging_epoch = EpochEndOffset::default().with_epoch(1).with_end_offset(5);
        }
        data
    }

    #[test]
    fn is_what_kafka_protocol_encodes_in_one_piece() {
        for version in FetchResponse::VERSIONS.min..=FetchResponse::VERSIONS.max {
            let mut whole = FetchResponse::default().with_throttle_time_ms(5);
            if version >= 7 {
                whole = whole.with_session_id(77).with_error_code(3);
            }
            if version >= 16 {
                whole.node_endpoints.push(NodeEndpoint::default().with_host("h".into()).with_rack(None));
            }
            let mut records = Vec::new();
            for (topic, sizes) in [("a", &[0, 5, 126][..]), ("b", &[]), ("c", &[127, 128, 70_000, 2_000_000])] {
                let mut response = FetchableTopicResponse::default();
                if version < 13 {
                    response.topic = kafka_protocol::protocol::StrBytes::from(topic).into();
                }
                for (index, &size) in (0..).zip(sizes) {
                    let bytes = Bytes::from(vec![index as u8; size]);
                    response.partitions.push(partition(version, index).with_records(Some(bytes.clone())));
                    records.push(vec![bytes.slice(..size / 3), bytes.slice(size / 3..)]);
                }
                whole.responses.push(response);
            }
            let mut empty = whole.clone();
            empty.responses.iter_mut().flat_map(|t| &mut t.partitions).for_each(|p| p.records = Some(Bytes::new()));
            let assembled = assemble(empty, records, version).0.concat();
            assert!(assembled == Body::encode(&whole, version).0.concat(), "version {version}");
        }
    }
}
