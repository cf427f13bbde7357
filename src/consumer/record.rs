//! A consumed record, lent or owned.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::cursor::Cursor;
use crate::error::TopicPartition;
use crate::record::{Headers, RecordAt, TimestampType};

/// What the records of one fetched batch share.
#[derive(Debug)]
pub struct Source {
    pub cursor: Arc<Cursor>,
    pub leader_epoch: i32,
    pub timestamp_type: TimestampType,
    pub bytes: Bytes,
}

/// A record that was read from a topic.
///
/// It owns a share of the batch that it was fetched with: taking, cloning and sending it costs one reference count and
/// no copy. So a record that is kept also keeps its batch, and whatever was fetched in the same answer, in memory:
/// [`detach`](Self::detach) one that should live for long.
#[derive(Clone)]
pub struct ConsumerRecord {
    source: Arc<Source>,
    at: RecordAt,
}

impl ConsumerRecord {
    pub(super) fn new(source: &Arc<Source>, at: RecordAt) -> Self {
        Self { source: Arc::clone(source), at }
    }

    /// The record with its own bytes, copied out, so that a small record which is kept for long frees what it was fetched
    /// with. What is held shows in [`ConsumerMetrics::frame_bytes`](super::ConsumerMetrics::frame_bytes).
    #[must_use]
    pub fn detach(&self) -> Self {
        let (bytes, at) = self.at.detach(&self.source.bytes);
        let Source { cursor, leader_epoch, timestamp_type, .. } = &*self.source;
        let (cursor, leader_epoch, timestamp_type) = (Arc::clone(cursor), *leader_epoch, *timestamp_type);
        Self { source: Arc::new(Source { cursor, leader_epoch, timestamp_type, bytes }), at }
    }

    /// The same record, lent.
    pub fn borrow(&self) -> BorrowedRecord<'_> {
        BorrowedRecord::new(&self.source, self.at)
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        self.borrow().topic()
    }

    /// The partition's index.
    pub fn partition(&self) -> i32 {
        self.borrow().partition()
    }

    /// Topic and partition in one.
    pub fn topic_partition(&self) -> TopicPartition {
        self.borrow().topic_partition().clone()
    }

    /// Where the record stands in its partition. To commit that everything up to it has been dealt with, commit this
    /// plus one.
    pub fn offset(&self) -> i64 {
        self.at.offset()
    }

    /// Milliseconds since 1970, as the producer or the broker set it: see [`timestamp_type`](Self::timestamp_type).
    /// -1 if nobody did.
    pub fn timestamp(&self) -> i64 {
        self.at.timestamp()
    }

    /// Who set the timestamp.
    pub fn timestamp_type(&self) -> TimestampType {
        self.source.timestamp_type
    }

    /// The epoch of the leader that appended the record, if the broker says so.
    pub fn leader_epoch(&self) -> Option<i32> {
        self.borrow().leader_epoch()
    }

    /// The key. None and empty are different keys.
    pub fn key(&self) -> Option<&[u8]> {
        self.borrow().key()
    }

    /// The value; none is a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.borrow().value()
    }

    /// The headers in the order in which they were written; a key may come more than once.
    pub fn headers(&self) -> Headers<'_> {
        self.borrow().headers()
    }

    /// The key as a share of the batch: one reference count, no copy.
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key().map(|key| self.source.bytes.slice_ref(key))
    }

    /// The value as a share of the batch: one reference count, no copy.
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value().map(|value| self.source.bytes.slice_ref(value))
    }
}

/// A record lent by [`Consumer::poll`](super::Consumer::poll): no allocation, no reference count, copied freely.
#[derive(Clone, Copy)]
pub struct BorrowedRecord<'a> {
    source: &'a Arc<Source>,
    at: RecordAt,
}

impl<'a> BorrowedRecord<'a> {
    #[inline]
    pub(super) fn new(source: &'a Arc<Source>, at: RecordAt) -> Self {
        Self { source, at }
    }

    pub(super) fn cursor(&self) -> &'a Cursor {
        &self.source.cursor
    }

    /// The record with a share of its batch: one reference count.
    #[allow(clippy::should_implement_trait, reason = "`ToOwned` gives a copy for every `Clone` type")]
    pub fn to_owned(&self) -> ConsumerRecord {
        ConsumerRecord::new(self.source, self.at)
    }

    /// The topic's name.
    pub fn topic(&self) -> &'a str {
        &self.source.cursor.topic_partition.topic
    }

    /// The partition's index.
    pub fn partition(&self) -> i32 {
        self.source.cursor.topic_partition.partition
    }

    /// Topic and partition in one.
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.source.cursor.topic_partition
    }

    /// Where the record stands in its partition: as [`ConsumerRecord::offset`].
    #[inline]
    pub fn offset(&self) -> i64 {
        self.at.offset()
    }

    /// Milliseconds since 1970: as [`ConsumerRecord::timestamp`].
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.at.timestamp()
    }

    /// Who set the timestamp.
    pub fn timestamp_type(&self) -> TimestampType {
        self.source.timestamp_type
    }

    /// The epoch of the leader that appended the record, if the broker says so.
    pub fn leader_epoch(&self) -> Option<i32> {
        Some(self.source.leader_epoch).filter(|epoch| *epoch >= 0)
    }

    /// The key. None and empty are different keys.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.at.view(&self.source.bytes).key()
    }

    /// The value; none is a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.at.view(&self.source.bytes).value()
    }

    /// The headers in the order in which they were written; a key may come more than once.
    pub fn headers(&self) -> Headers<'a> {
        self.at.view(&self.source.bytes).headers()
    }
}

impl<'a> From<&'a ConsumerRecord> for BorrowedRecord<'a> {
    fn from(record: &'a ConsumerRecord) -> Self {
        record.borrow()
    }
}

impl From<&Self> for BorrowedRecord<'_> {
    fn from(record: &Self) -> Self {
        *record
    }
}

impl fmt::Debug for ConsumerRecord {
    /// Where it stands and how large it is; never its content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.borrow().describe(f, "ConsumerRecord")
    }
}

impl fmt::Debug for BorrowedRecord<'_> {
    /// Where it stands and how large it is; never its content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f, "BorrowedRecord")
    }
}

impl BorrowedRecord<'_> {
    fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .field("key_len", &self.key().map(<[u8]>::len))
            .field("value_len", &self.value().map(<[u8]>::len))
            .field("headers", &self.headers().len())
            .finish()
    }
}
