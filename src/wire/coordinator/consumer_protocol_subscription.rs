//! What a member of a classic consumer group wants, inside JoinGroup and behind an i16 version. A later version is read
//! as the newest one known here, without what follows: it only appends. v2 and v3: KIP-792, KIP-881.

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::message::message;

message! {
    data ConsumerProtocolSubscription [0-3];

    struct ConsumerProtocolSubscription {
        topics: Vec<Arc<str>> [0+];
        user_data: Option<Bytes> [0+, null 0+];
        owned_partitions: Vec<TopicPartition> [1+, ignorable];
        generation_id: i32 [2+, ignorable] = -1;
        rack_id: Option<Arc<str>> [3+, null 3+, ignorable];
    }

    struct TopicPartition {
        topic: Arc<str> [1+];
        partitions: Vec<i32> [1+];
    }
}
