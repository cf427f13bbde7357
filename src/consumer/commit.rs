//! What is committed for a partition.

use std::sync::Arc;

/// A committed position: the next offset to read, with what the committer wrote next to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetAndMetadata {
    /// The next offset to read: one more than the last record that was dealt with.
    pub offset: i64,
    /// The leader epoch of the last record that was dealt with, if known.
    pub leader_epoch: Option<i32>,
    /// Anything, in text. Empty if there is nothing to say.
    pub metadata: Arc<str>,
}

impl OffsetAndMetadata {
    /// An offset with no metadata.
    pub fn new(offset: i64) -> Self {
        Self { offset, leader_epoch: None, metadata: Arc::from("") }
    }

    /// With a text next to it; brokers take 4096 bytes by default.
    pub fn metadata(mut self, metadata: impl Into<Arc<str>>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// With the leader epoch of the last record that was dealt with.
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.leader_epoch = Some(epoch).filter(|epoch| *epoch >= 0);
        self
    }
}

impl From<i64> for OffsetAndMetadata {
    fn from(offset: i64) -> Self {
        Self::new(offset)
    }
}
