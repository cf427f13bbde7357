//! ListOffsets and OffsetForLeaderEpoch: questions about where things are in a log.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::api::KafkaRelease;
use super::broker::{Call, Handle, Handled};
use super::fault::Target;
use super::partition::Partition;

/// What a negative timestamp asks for.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const READ_COMMITTED: i8 = 1;

impl Handle for ListOffsetsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let partitions = self.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| (topic.name.to_string(), partition.partition_index))
        });
        partitions.map(|(topic, index)| Target { topic, partition: Some(index) }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let committed = self.isolation_level == READ_COMMITTED;
        let topics = self.topics.into_iter().map(|topic| {
            let mut asked = BTreeMap::new();
            topic.partitions.iter().for_each(|p| *asked.entry(p.partition_index).or_insert(0) += 1);
            let mut done = BTreeSet::new();
            let once = call.shared.release >= KafkaRelease::V4_0;
            let answered = topic.partitions.into_iter().filter(|p| done.insert(p.partition_index) || !once);
            let partitions = answered.map(|partition| {
                let index = partition.partition_index;
                let twice = asked.get(&index).is_some_and(|times| *times > 1);
                let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
                let found = if twice {
                    Err(ResponseError::InvalidRequest.code())
                } else if !is_understood(partition.timestamp, call) {
                    Err(ResponseError::UnsupportedVersion.code())
                } else {
                    with_leader(call, &topic.name, index, partition.current_leader_epoch, |found| {
                        look_up(found, partition.timestamp, committed, call)
                    })
                    .and_then(|found| found)
                };
                match found {
                    Err(error) => response.with_error_code(error),
                    Ok(None) => response,
                    Ok(Some((timestamp, offset, epoch))) => response
                        .with_timestamp(timestamp)
                        .with_offset(offset)
                        .with_leader_epoch(if call.version >= 4 { epoch } else { -1 }),
                }
            });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
        });
        let response = ListOffsetsResponse::default().with_topics(topics.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}

/// Asks a partition that this broker leads.
fn with_leader<T>(
    call: &Call<'_>,
    topic: &str,
    index: i32,
    epoch: i32,
    ask: impl FnOnce(&Partition) -> T,
) -> Result<T, i16> {
    if let Some(error) = call.effects.error_for(topic, Some(index)) {
        return Err(error);
    }
    let mut state = call.state();
    state.expire_transactions(call.shared.runtime.elapsed(), call.shared.runtime.wall_ms());
    let partition = state.partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition);
    let answer = partition.and_then(|partition| {
        partition.check_leader(call.broker, epoch)?;
        Ok(ask(partition))
    });
    answer.map_err(|error| error.code())
}

/// Whether a timestamp means something in this version of the request. To old brokers, every one does.
fn is_understood(timestamp: i64, call: &Call<'_>) -> bool {
    let version = call.version;
    match timestamp {
        _ if call.shared.release < KafkaRelease::V3_9 => true,
        MAX_TIMESTAMP => version >= 7,
        EARLIEST_LOCAL => version >= 8,
        LATEST_TIERED => version >= 9,
        timestamp => timestamp >= EARLIEST,
    }
}

/// Timestamp, offset and leader epoch; `None` when no record is as late. Consumers learn of nothing that they may not
/// read yet.
fn look_up(
    partition: &Partition,
    timestamp: i64,
    committed: bool,
    call: &Call<'_>,
) -> Result<Option<(i64, i64, i32)>, i16> {
    let log = &partition.log;
    let end = if committed { partition.last_stable_offset() } else { partition.high_watermark() };
    // A new leader has to learn first how far its predecessor had come.
    let unsettled = || {
        let error =
            if call.version >= 5 { ResponseError::OffsetNotAvailable } else { ResponseError::LeaderNotAvailable };
        if log.epoch_start(partition.leader_epoch).is_some_and(|start| end < start) {
            Err(error.code())
        } else {
            Ok(())
        }
    };
    let visible = |found: Option<(i64, i64, i32)>| match found.filter(|(_, offset, _)| *offset < end) {
        None => unsettled().map(|()| None),
        found => Ok(found),
    };
    match timestamp {
        LATEST => unsettled().map(|()| Some((-1, end, partition.leader_epoch))),
        EARLIEST => Ok(Some((-1, log.start(), log.epoch_at_start().unwrap_or(-1)))),
        timestamp if call.shared.release < KafkaRelease::V3_9 => visible(log.find_time(timestamp)),
        EARLIEST_LOCAL => Ok(Some((-1, log.start(), log.epoch_at_start().unwrap_or(-1)))),
        MAX_TIMESTAMP => visible(log.latest_time()),
        LATEST_TIERED => Ok(None), // nothing is in remote storage
        timestamp => visible(log.find_time(timestamp)),
    }
}

impl Handle for OffsetForLeaderEpochRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let partitions = self
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic.to_string(), partition.partition)));
        partitions.map(|(topic, index)| Target { topic, partition: Some(index) }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let topics = self.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|asked| {
                let response = EpochEndOffset::default().with_partition(asked.partition);
                let end = with_leader(call, &topic.topic, asked.partition, asked.current_leader_epoch, |partition| {
                    partition.log.end_of_epoch(asked.leader_epoch)
                });
                match end {
                    Err(error) => response.with_error_code(error),
                    Ok(None) => response,
                    Ok(Some((epoch, end))) => response.with_leader_epoch(epoch).with_end_offset(end),
                }
            });
            let partitions = partitions.collect();
            OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
        });
        let response = OffsetForLeaderEpochResponse::default().with_topics(topics.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}
