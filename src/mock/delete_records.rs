//! DeleteRecords and DescribeProducers: what is done to a log, and asked of it, by administrators.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, DescribeProducersRequest, DescribeProducersResponse,
};

use super::broker::{Call, Handle, Handled};
use super::fault::Target;
use super::topic::Topic;

/// Up to the high watermark.
const ALL: i64 = -1;

impl Handle for DeleteRecordsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let partitions = self.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| (topic.name.to_string(), partition.partition_index))
        });
        partitions.map(|(topic, index)| Target { topic, partition: Some(index) }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let topics = self.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|asked| {
                let index = asked.partition_index;
                let injected = call.effects.error_for(&topic.name, Some(index)).map_or(Ok(()), Err);
                let deleted = injected.and_then(|()| {
                    let mut state = call.state();
                    let topic = state.topic_mut(&topic.name).ok_or(ResponseError::UnknownTopicOrPartition);
                    topic
                        .and_then(|topic| delete(topic, index, asked.offset, call.broker))
                        .map_err(|error| error.code())
                });
                let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
                match deleted {
                    Ok(start) => result.with_low_watermark(start),
                    Err(error) => result.with_low_watermark(-1).with_error_code(error),
                }
            });
            let partitions = partitions.collect();
            DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
        });
        let response = DeleteRecordsResponse::default().with_topics(topics.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}

/// Gives the new start of the log.
fn delete(topic: &mut Topic, index: i32, offset: i64, broker: i32) -> Result<i64, ResponseError> {
    let deletes = topic.config.deletes();
    let partition = topic.partition_mut(index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    partition.check_leader(broker, -1)?;
    if !deletes {
        return Err(ResponseError::PolicyViolation);
    }
    let offset = if offset == ALL { partition.high_watermark() } else { offset };
    if !(0..=partition.high_watermark()).contains(&offset) {
        return Err(ResponseError::OffsetOutOfRange);
    }
    partition.delete_before(offset);
    Ok(partition.log.start())
}

impl Handle for DescribeProducersRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let partitions = self
            .topics
            .iter()
            .flat_map(|topic| topic.partition_indexes.iter().map(|index| (topic.name.to_string(), *index)));
        partitions.map(|(topic, index)| Target { topic, partition: Some(index) }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let state = call.state();
        let topics = self.topics.into_iter().map(|topic| {
            let partitions = topic.partition_indexes.into_iter().map(|index| {
                let injected = call.effects.error_for(&topic.name, Some(index)).map_or(Ok(()), Err);
                let known = state.partition(&topic.name, index).ok_or(ResponseError::UnknownTopicOrPartition);
                let led = known.and_then(|partition| partition.check_leader(call.broker, -1).map(|()| partition));
                let response = PartitionResponse::default().with_partition_index(index).with_error_message(None);
                match injected.and_then(|()| led.map_err(|error| error.code())) {
                    Err(error) => response.with_error_code(error),
                    Ok(partition) => {
                        let mut producers: Vec<_> = partition.log.producers().iter().map(producer_state).collect();
                        producers.sort_by_key(|producer| producer.producer_id.0);
                        response.with_active_producers(producers)
                    }
                }
            });
            let partitions = partitions.collect();
            TopicResponse::default().with_name(topic.name).with_partitions(partitions)
        });
        let response = DescribeProducersResponse::default().with_topics(topics.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}

fn producer_state((id, producer): (i64, &super::producers::Producer)) -> ProducerState {
    ProducerState::default()
        .with_producer_id(id.into())
        .with_producer_epoch(producer.epoch.into())
        .with_last_sequence(producer.last_sequence())
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.open.unwrap_or(-1))
}
