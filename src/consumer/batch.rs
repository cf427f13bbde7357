//! Records lent from what was fetched.

use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

use super::current::Reading;
use super::interceptor::ConsumerInterceptor;
use super::record::{BorrowedRecord, Source};
use crate::error::TopicPartition;

/// Records of one partition, in order: what [`Consumer::poll`](super::Consumer::poll) lends.
///
/// An iterator that decodes as it goes. The position moves behind each record as it is yielded; what is not yielded
/// comes first with the next poll. It ends early when the partition is paused or sought meanwhile, through a
/// [`ConsumerHandle`](super::ConsumerHandle), and before a record that cannot be read, which the next poll reports.
///
/// The records borrow from the consumer, not from the iterator, so they can be collected; none of them costs an
/// allocation or a reference count. [`BorrowedRecord::to_owned`] keeps one.
pub struct Batch<'a> {
    reading: Reading<'a>,
    source: &'a Arc<Source>,
    interceptors: &'a [Box<dyn ConsumerInterceptor>],
    left: usize,
    is_over: bool,
}

impl<'a> Batch<'a> {
    pub(super) fn new(reading: Reading<'a>, interceptors: &'a [Box<dyn ConsumerInterceptor>], max: usize) -> Self {
        Self { source: reading.source, interceptors, reading, left: max, is_over: false }
    }

    /// What the records are from.
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.source.cursor.topic_partition
    }
}

impl<'a> Iterator for Batch<'a> {
    type Item = BorrowedRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        if self.left > 0
            && let Some(at) = self.reading.next()
        {
            self.left -= 1;
            let record = BorrowedRecord::new(self.source, at);
            self.interceptors.iter().for_each(|interceptor| interceptor.on_consume(record));
            return Some(record);
        }
        self.is_over = true;
        self.reading.finish();
        None
    }

    /// Up to as many as the fetched batch says that it has, or as were asked for.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(if self.is_over { 0 } else { self.left.min(self.reading.left()) }))
    }
}

impl FusedIterator for Batch<'_> {}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("partition", self.topic_partition()).field("left", &self.size_hint().1).finish()
    }
}
