//! Produce and InitProducerId: how records get into the log.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use super::batch::{Batch, Rejection};
use super::broker::{Call, Handle, Handled};
use super::fault::Target;
use super::log::Placed;
use super::quotas::Measured;
use super::topic::TopicId;
use super::transactions::{Producing, verify};

/// The first version that names topics by id.
const BY_TOPIC_ID: i16 = 13;
/// The first version whose answers name the new leader (KIP-951).
const LEADER_HINTS: i16 = 10;
const ACKS_ALL: i16 = -1;

impl Handle for ProduceRequest {
    fn targets(&self, call: &Call<'_>) -> Vec<Target> {
        let state = call.state();
        let topics = self.topic_data.iter().filter_map(|topic| {
            let name = if call.version >= BY_TOPIC_ID {
                state.name_of(TopicId::from_wire(topic.topic_id))?.to_owned()
            } else {
                topic.name.to_string()
            };
            Some(topic.partition_data.iter().map(move |data| (name.clone(), data.index)))
        });
        topics.flatten().map(|(topic, index)| Target { topic, partition: Some(index) }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let acks = self.acks;
        let deadline = call.shared.runtime.elapsed().saturating_add(millis(self.timeout_ms));
        let mut new_leaders = BTreeSet::new();
        let mut failed = false;
        let records = self.topic_data.iter().flat_map(|topic| &topic.partition_data);
        call.charge(Measured::Produced, records.filter_map(|data| data.records.as_ref()).map(Bytes::len).sum());
        call.throttle(Measured::Produced);
        let mut responses = Vec::with_capacity(self.topic_data.len());
        let mut pending = Vec::new();
        for (topic_at, topic) in self.topic_data.into_iter().enumerate() {
            let name = if call.version >= BY_TOPIC_ID {
                call.state().name_of(TopicId::from_wire(topic.topic_id)).map(str::to_owned)
            } else {
                Some(topic.name.to_string())
            };
            let partitions = topic.partition_data.into_iter().enumerate().map(|(partition_at, data)| {
                let (index, transactional) = (data.index, self.transactional_id.as_ref());
                let placed = append(call, name.as_deref(), index, data.records, acks, transactional);
                failed |= placed.is_err();
                if let (Ok(appended), Some(topic), ACKS_ALL) = (&placed, &name, acks) {
                    let (end, leader_epoch) = (appended.placed.end, appended.leader_epoch);
                    let topic = topic.clone();
                    pending.push(Pending { at: (topic_at, partition_at), topic, index, end, leader_epoch });
                }
                respond(call, name.as_deref(), index, placed, &mut new_leaders)
            });
            let partition_responses = partitions.collect();
            responses.push(
                TopicProduceResponse::default()
                    .with_name(topic.name)
                    .with_topic_id(topic.topic_id)
                    .with_partition_responses(partition_responses),
            );
        }
        if acks == 0 {
            // The only way to tell such a client that its metadata may be old.
            return if failed { Handled::Close } else { Handled::Nothing };
        }
        // The answer keeps its offset: that the batch was appended is true, whatever is said of its followers.
        for (Pending { at, topic, index, .. }, error) in replicated(call, pending, deadline).await {
            let response = &mut responses[at.0].partition_responses[at.1];
            response.error_code = error;
            if error == ResponseError::NotLeaderOrFollower.code() {
                response.current_leader = new_leader(call, Some(&topic), index, &mut new_leaders);
            }
        }
        let node_endpoints = new_leaders.into_iter().map(|id: i32| {
            let (host, port) = call.address(id);
            NodeEndpoint::default().with_node_id(id.into()).with_host(host).with_port(port).with_rack(call.rack(id))
        });
        call.answer(
            &ProduceResponse::default()
                .with_responses(responses)
                .with_throttle_time_ms(call.throttle_ms())
                .with_node_endpoints(node_endpoints.collect()),
        )
    }
}

fn millis(time: i32) -> Duration {
    Duration::from_millis(u64::try_from(time).unwrap_or(0))
}

/// What was appended to a partition.
struct Appended {
    placed: Placed,
    leader_epoch: i32,
    log_start: i64,
}

/// A partition whose followers have to catch up before it is answered for.
struct Pending {
    /// Where in the response it is: topic, partition.
    at: (usize, usize),
    topic: String,
    index: i32,
    /// The high watermark has to get there.
    end: i64,
    leader_epoch: i32,
}

/// Waits until the replicas in sync have everything, and gives what has failed.
async fn replicated(call: &Call<'_>, mut pending: Vec<Pending>, deadline: Duration) -> Vec<(Pending, i16)> {
    let mut failed = Vec::new();
    let runtime = &call.shared.runtime;
    loop {
        pending = check_replicated(call, pending, &mut failed);
        if pending.is_empty() {
            return failed;
        }
        if runtime.elapsed() >= deadline {
            let late = ResponseError::RequestTimedOut.code();
            failed.extend(pending.into_iter().map(|pending| (pending, late)));
            return failed;
        }
        runtime.wait_until(deadline, call.waker.notified()).await;
    }
}

/// Those that are not decided yet. The next change of any of them wakes the connection.
fn check_replicated(call: &Call<'_>, pending: Vec<Pending>, failed: &mut Vec<(Pending, i16)>) -> Vec<Pending> {
    let mut left = Vec::new();
    let mut state = call.state();
    for one in pending {
        let min_insync = state.min_insync_replicas(&one.topic, one.index);
        let Some(partition) = state.partition_mut(&one.topic, one.index) else {
            failed.push((one, ResponseError::UnknownTopicOrPartition.code()));
            continue;
        };
        if partition.leader != Some(call.broker) || partition.leader_epoch != one.leader_epoch {
            failed.push((one, ResponseError::NotLeaderOrFollower.code()));
        } else if partition.high_watermark() < one.end {
            partition.wait(call.waker);
            left.push(one);
        } else if partition.in_sync().len() < min_insync {
            failed.push((one, ResponseError::NotEnoughReplicasAfterAppend.code()));
        }
    }
    left
}

/// Appends the records of one partition, or says why not.
fn append(
    call: &Call<'_>,
    topic: Option<&str>,
    index: i32,
    records: Option<Bytes>,
    acks: i16,
    transactional: Option<&TransactionalId>,
) -> Result<Appended, Rejection> {
    let reject = |error: ResponseError| Rejection::new(error, "");
    let topic = topic.ok_or_else(|| reject(ResponseError::UnknownTopicId))?;
    if let Some(code) = call.effects.error_for(topic, Some(index)) {
        return Err(Rejection::new(
            ResponseError::try_from_code(code).unwrap_or(ResponseError::Unknown(code)),
            "injected by the test",
        ));
    }
    if !matches!(acks, ACKS_ALL..=1) {
        return Err(reject(ResponseError::InvalidRequiredAcks));
    }
    // The rules first, then the work without the lock, then the leadership again.
    let (rules, retention) = {
        let state = call.state();
        let topic = state.topic(topic).filter(|topic| topic.partition(index).is_some());
        let topic = topic.ok_or_else(|| reject(ResponseError::UnknownTopicOrPartition))?;
        (topic.config.rules(), topic.config.retention_bytes())
    };
    let records = records.ok_or_else(|| Rejection::new(ResponseError::InvalidRecord, "there are no records"))?;
    let batch = Batch::check(&records, call.version, &rules, call.shared.runtime.wall_ms());

    let mut state = call.state();
    let min_insync = state.min_insync_replicas(topic, index);
    let partition = state.partition_mut(topic, index).ok_or_else(|| reject(ResponseError::UnknownTopicOrPartition))?;
    partition.check_leader(call.broker, -1).map_err(reject)?;
    if acks == ACKS_ALL && partition.in_sync().len() < min_insync {
        return Err(Rejection::by_log(ResponseError::NotEnoughReplicas, ""));
    }
    let batch = batch?;
    if batch.header.is_transactional() {
        let transactional_id = transactional.map(|id| &***id);
        let producing = Producing { transactional_id, version: call.version };
        verify(call, &mut state, &producing, (topic, index), &batch).map_err(reject)?;
    }
    let partition = state.partition_mut(topic, index).ok_or_else(|| reject(ResponseError::UnknownTopicOrPartition))?;
    let placed = partition.append(batch, rules.log_append_time)?;
    if let Some(bytes) = retention {
        partition.delete_before(partition.log.start_for_bytes(bytes));
    }
    Ok(Appended { placed, leader_epoch: partition.leader_epoch, log_start: partition.log.start() })
}

fn respond(
    call: &Call<'_>,
    topic: Option<&str>,
    index: i32,
    appended: Result<Appended, Rejection>,
    new_leaders: &mut BTreeSet<i32>,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    let rejection = match appended {
        Ok(Appended { placed, log_start, .. }) => {
            return response
                .with_base_offset(placed.base_offset)
                .with_log_append_time_ms(placed.log_append_time)
                .with_log_start_offset(log_start);
        }
        Err(rejection) => rejection,
    };
    let mut response = response.with_error_code(rejection.error.code()).with_base_offset(-1);
    if rejection.by_log {
        let state = call.state();
        let partition = topic.and_then(|topic| state.partition(topic, index));
        response.log_start_offset = partition.map_or(-1, |partition| partition.log.start());
    }
    if call.version >= 8 {
        response.record_errors = rejection.records.into_iter().map(record_error).collect();
        response.error_message = Some(StrBytes::from(rejection.message.into_owned())).filter(|text| !text.is_empty());
    }
    if rejection.error == ResponseError::NotLeaderOrFollower {
        response.current_leader = new_leader(call, topic, index, new_leaders);
    }
    response
}

/// Who leads now (KIP-951), if the version has a place for it.
fn new_leader(call: &Call<'_>, topic: Option<&str>, index: i32, new_leaders: &mut BTreeSet<i32>) -> LeaderIdAndEpoch {
    let state = call.state();
    let partition = topic.and_then(|topic| state.partition(topic, index));
    let leader = partition.and_then(|found| Some((found.leader?, found.leader_epoch)));
    // Only an injected error comes from the leader itself: no hint then.
    match leader.filter(|(leader, _)| call.version >= LEADER_HINTS && *leader != call.broker) {
        Some((leader, epoch)) => {
            new_leaders.insert(leader);
            LeaderIdAndEpoch::default().with_leader_id(leader.into()).with_leader_epoch(epoch)
        }
        None => LeaderIdAndEpoch::default(),
    }
}

fn record_error((index, message): (i32, String)) -> BatchIndexAndErrorMessage {
    BatchIndexAndErrorMessage::default().with_batch_index(index).with_batch_index_error_message(Some(message.into()))
}
