//! DescribeLogDirs: how large the logs of a broker are.

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Call, Handle, Handled};
use super::fault::Target;
use super::log::Stored;
use super::partition::Partition;

/// The size of a disk, when it is not known.
const UNKNOWN: i64 = -1;

fn asked(filter: Option<&[DescribableLogDirTopic]>, topic: &str, index: i32) -> bool {
    filter
        .is_none_or(|topics| topics.iter().any(|wanted| *wanted.topic == *topic && wanted.partitions.contains(&index)))
}

impl Handle for DescribeLogDirsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let partitions = self
            .topics
            .iter()
            .flatten()
            .flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic.to_string(), *index)));
        partitions.map(|(topic, index)| Target { topic, partition: Some(index) }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = DescribeLogDirsResponse::default().with_throttle_time_ms(call.throttle_ms());
        let directory = DescribeLogDirsResult::default()
            .with_log_dir(StrBytes::from(format!("/memory/broker-{}", call.broker)))
            .with_total_bytes(UNKNOWN)
            .with_usable_bytes(UNKNOWN);
        if let Some(error) = call.effects.error() {
            let directory = directory.with_error_code(error);
            let error = if call.version >= 3 { error } else { 0 };
            return call.answer(&response.with_error_code(error).with_results(vec![directory]));
        }
        let state = call.state();
        let topics = state.topics().filter_map(|(name, topic)| {
            let here = topic.partitions.iter().zip(0..).filter(|(partition, index)| {
                partition.replicas.contains(&call.broker) && asked(self.topics.as_deref(), name, *index)
            });
            let partitions: Vec<_> = here.map(|(partition, index)| describe(partition, index, call.broker)).collect();
            let topic = DescribeLogDirsTopic::default().with_name(StrBytes::from(name.to_owned()).into());
            (!partitions.is_empty()).then(|| topic.with_partitions(partitions))
        });
        let topics = topics.collect();
        call.answer(&response.with_results(vec![directory.with_topics(topics)]))
    }
}

fn describe(partition: &Partition, index: i32, broker: i32) -> DescribeLogDirsPartition {
    let end = partition.end_at(broker);
    let size =
        partition.log.batches().filter(|batch| batch.header.last_offset() < end).map(Stored::size).sum::<usize>();
    DescribeLogDirsPartition::default()
        .with_partition_index(index)
        .with_partition_size(i64::try_from(size).unwrap_or(i64::MAX))
        .with_offset_lag((partition.high_watermark() - end).max(0))
        .with_is_future_key(false)
}
