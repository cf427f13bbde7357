//! ListOffsets and OffsetForLeaderEpoch: questions about where things are in a log.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::broker::{Call, Handle, Handled};
use super::fault::Target;
use super::topic::Partition;

/// What a negative timestamp asks for.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

impl Handle for ListOffsetsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let partitions = self.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| (topic.name.to_string(), partition.partition_index))
        });
        partitions.map(|(topic, index)| Target { topic, partition: Some(index) }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let topics = self.topics.into_iter().map(|topic| {
            let asked: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            let partitions = topic.partitions.into_iter().map(|partition| {
                let index = partition.partition_index;
                let twice = asked.iter().filter(|other| **other == index).count() > 1;
                let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
                let found = if twice {
                    Err(ResponseError::InvalidRequest.code())
                } else {
                    with_leader(call, &topic.name, index, partition.current_leader_epoch, |partition_| {
                        look_up(partition_, partition.timestamp, call.version)
                    })
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
    ask: impl FnOnce(&Partition) -> Result<T, ResponseError>,
) -> Result<T, i16> {
    if let Some(error) = call.effects.error_for(topic, Some(index)) {
        return Err(error);
    }
    let state = call.state();
    let partition = state.partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition);
    let answer = partition.and_then(|partition| {
        partition.check_leader(call.broker, epoch)?;
        ask(partition)
    });
    answer.map_err(|error| error.code())
}

/// Timestamp, offset and leader epoch; `None` when no record is as late.
fn look_up(partition: &Partition, timestamp: i64, version: i16) -> Result<Option<(i64, i64, i32)>, ResponseError> {
    let log = &partition.log;
    let since = |first: i16| if version >= first { Ok(()) } else { Err(ResponseError::UnsupportedVersion) };
    Ok(match timestamp {
        LATEST => Some((-1, log.end(), partition.leader_epoch)),
        EARLIEST => Some((-1, log.start(), log.epoch_at_start().unwrap_or(-1))),
        MAX_TIMESTAMP => {
            since(7)?;
            log.latest_time()
        }
        EARLIEST_LOCAL => {
            since(8)?;
            Some((-1, log.start(), log.epoch_at_start().unwrap_or(-1)))
        }
        LATEST_TIERED => {
            since(9)?;
            None // nothing is in remote storage
        }
        other if other < 0 => return Err(ResponseError::UnsupportedVersion),
        timestamp => log.find_time(timestamp),
    })
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
                    Ok(partition.log.end_of_epoch(asked.leader_epoch))
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
