//! What the leader of a classic consumer group gives a member, inside SyncGroup and behind an i16 version. A later
//! version is read as the newest one known here, without what follows.

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::message::message;

message! {
    data ConsumerProtocolAssignment [0-3];

    struct ConsumerProtocolAssignment {
        assigned_partitions: Vec<TopicPartition> [0+];
        user_data: Option<Bytes> [0+, null 0+];
    }

    struct TopicPartition {
        topic: Arc<str> [0+];
        partitions: Vec<i32> [0+];
    }
}
