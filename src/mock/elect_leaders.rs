//! ElectLeaders: an administrator wants the preferred leader back, or any leader at all (KIP-460).

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Call, Handle, Handled};
use super::fault::Target;
use super::state::State;

const PREFERRED: i8 = 0;

impl Handle for ElectLeadersRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let partitions = self
            .topic_partitions
            .iter()
            .flatten()
            .flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic.to_string(), *index)));
        partitions.map(|(topic, index)| Target { topic, partition: Some(index) }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = ElectLeadersResponse::default().with_throttle_time_ms(call.throttle_ms());
        let mut state = call.state();
        let elsewhere = !call.shared.release.forwards_to_controller() && state.controller != call.broker;
        let preferred = self.election_type == PREFERRED;
        // Those that need no election are an answer only to who asked for them by name.
        let all = self.topic_partitions.is_none();
        let asked: Vec<(String, Vec<i32>)> = match self.topic_partitions {
            Some(topics) => topics.into_iter().map(|topic| (topic.topic.to_string(), topic.partitions)).collect(),
            None => state
                .topics()
                .map(|(name, topic)| (name.to_owned(), (0..).take(topic.partitions.len()).collect()))
                .collect(),
        };
        let topics = asked.into_iter().filter_map(|(topic, indexes)| {
            let results = indexes.into_iter().filter_map(|index| {
                let injected = call.effects.error_for(&topic, Some(index)).map_or(Ok(()), Err);
                let here = if elsewhere { Err(ResponseError::NotController.code()) } else { Ok(()) };
                let elected = injected
                    .and(here)
                    .and_then(|()| elect(&mut state, &topic, index, preferred).map_err(|error| error.code()));
                let needless = elected == Err(ResponseError::ElectionNotNeeded.code());
                let result = PartitionResult::default().with_partition_id(index).with_error_message(None);
                (!all || !needless).then(|| result.with_error_code(elected.err().unwrap_or_default()))
            });
            let results: Vec<_> = results.collect();
            let topic = ReplicaElectionResult::default().with_topic(StrBytes::from(topic).into());
            (!all || !results.is_empty()).then(|| topic.with_partition_result(results))
        });
        let topics = topics.collect();
        call.answer(&response.with_replica_election_results(topics))
    }
}

/// Makes the preferred replica the leader, if it is in sync; or, where there is no leader, any replica that lives.
fn elect(state: &mut State, topic: &str, index: i32, preferred: bool) -> Result<(), ResponseError> {
    let live: BTreeSet<i32> = state.live().collect();
    let partition = state.partition_mut(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let first = partition.replicas.first().copied();
    if if preferred { partition.leader == first } else { partition.leader.is_some() } {
        return Err(ResponseError::ElectionNotNeeded);
    }
    if preferred {
        let able = first.filter(|first| partition.in_sync().contains(first) && live.contains(first));
        partition.elect(able.ok_or(ResponseError::PreferredLeaderNotAvailable)?);
    } else {
        let able = partition.replicas.iter().copied().find(|replica| live.contains(replica));
        partition.elect(able.ok_or(ResponseError::EligibleLeadersNotAvailable)?);
    }
    partition.catch_up(&live);
    Ok(())
}
