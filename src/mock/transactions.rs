//! InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit and EndTxn; and transactions that a test writes
//! itself.

use std::time::Duration;

use bytes::{BufMut, Bytes};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
};

use super::MockCluster;
use super::api::KafkaRelease;
use super::batch::{Batch, Marker, TransactionalRecord};
use super::broker::{Call, Handle, Handled};
use super::coordinator::{End, Identity};
use super::fault::Target;
use super::group::Caller;
use super::offsets::{check_coordinator, committed, may_commit};

/// A broker's `transaction.max.timeout.ms`.
const LONGEST_TRANSACTION: i32 = 900_000;
/// The first version of EndTxn that gives its producer a new epoch (KIP-890).
const BUMPING: i16 = 5;
/// The first versions that know PRODUCER_FENCED.
const FENCED_INIT: i16 = 4;
const FENCED: i16 = 2;
/// The first version of AddPartitionsToTxn for many transactions, which brokers send to each other.
const BATCHED: i16 = 4;
/// The first version of TxnOffsetCommit that adds the group to the transaction itself.
const IMPLICIT_GROUP: i16 = 5;

/// Older versions say of a fenced producer what they say of any old epoch.
fn code(error: ResponseError, version: i16, fenced_from: i16) -> i16 {
    match error {
        ResponseError::ProducerFenced if version < fenced_from => ResponseError::InvalidProducerEpoch.code(),
        error => error.code(),
    }
}

/// Whether this broker coordinates a transactional id.
fn check(call: &Call<'_>, transactional_id: &str) -> Result<(), ResponseError> {
    let runtime = &call.shared.runtime;
    call.state().expire_transactions(runtime.elapsed(), runtime.wall_ms());
    match check_coordinator(call, transactional_id) {
        Ok(()) => Ok(()),
        Err(_) => Err(ResponseError::NotCoordinator),
    }
}

impl Handle for InitProducerIdRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = InitProducerIdResponse::default().with_throttle_time_ms(call.throttle_ms());
        let half_an_id = (self.producer_id.0 == -1) != (self.producer_epoch == -1);
        let given = match &self.transactional_id {
            _ if half_an_id => Err(ResponseError::InvalidRequest),
            // Without a transactional id, every request gets an id of its own.
            None => Ok(Identity { id: call.state().next_producer_id(), epoch: 0 }),
            Some(name) if name.is_empty() => Err(ResponseError::InvalidRequest),
            Some(_) if !(1..=LONGEST_TRANSACTION).contains(&self.transaction_timeout_ms) => {
                Err(ResponseError::InvalidTransactionTimeout)
            }
            Some(name) => check(call, name).and_then(|()| {
                let expected = Identity { id: self.producer_id.0, epoch: self.producer_epoch };
                let expected = (call.version >= 3 && expected.id != -1).then_some(expected);
                let timeout = Duration::from_millis(self.transaction_timeout_ms.unsigned_abs().into());
                call.state().init_transactions(name, timeout, expected, call.shared.runtime.wall_ms())
            }),
        };
        let given = given.map_err(|error| code(error, call.version, FENCED_INIT));
        match call.effects.error().map_or(given, Err) {
            Err(error) => call.answer(&response.with_error_code(error).with_producer_epoch(-1)),
            Ok(Identity { id, epoch }) => call.answer(&response.with_producer_id(id.into()).with_producer_epoch(epoch)),
        }
    }
}

impl Handle for AddPartitionsToTxnRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let batched = self.transactions.iter().flat_map(|one| &one.topics);
        let topics = self.v3_and_below_topics.iter().chain(batched);
        let partitions = topics.flat_map(|topic| topic.partitions.iter().map(|index| (topic.name.to_string(), *index)));
        partitions.map(|(topic, index)| Target { topic, partition: Some(index) }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = AddPartitionsToTxnResponse::default().with_throttle_time_ms(call.throttle_ms());
        if call.version >= BATCHED {
            let results = self.transactions.into_iter().map(|one| {
                let identity = Identity { id: one.producer_id.0, epoch: one.producer_epoch };
                let topics = add(call, &one.transactional_id, identity, one.topics, one.verify_only);
                let result = AddPartitionsToTxnResult::default().with_transactional_id(one.transactional_id);
                result.with_topic_results(topics)
            });
            return call.answer(&response.with_results_by_transaction(results.collect()));
        }
        let identity = Identity { id: self.v3_and_below_producer_id.0, epoch: self.v3_and_below_producer_epoch };
        let topics = add(call, &self.v3_and_below_transactional_id, identity, self.v3_and_below_topics, false);
        call.answer(&response.with_results_by_topic_v3_and_below(topics))
    }
}

/// Adds partitions to a transaction, all of them or none.
fn add(
    call: &Call<'_>,
    name: &str,
    identity: Identity,
    topics: Vec<AddPartitionsToTxnTopic>,
    verify_only: bool,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let now = call.shared.runtime.elapsed();
    let state = call.state();
    let known = |topic: &str, index: i32| state.partition(topic, index).is_some();
    let partitions = || topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (&*topic.name, *index)));
    let unknown: Vec<_> = partitions().map(|(topic, index)| !known(topic, index)).collect();
    let any_unknown = unknown.contains(&true);
    drop(state);
    let added = call.effects.error().map_or(Ok(()), Err).and_then(|()| {
        if any_unknown {
            return Ok(());
        }
        let added = check(call, name).and_then(|()| {
            let mut state = call.state();
            let transaction = state.transaction_of(name, identity)?;
            for (topic, index) in partitions() {
                if verify_only && !transaction.has_partition(topic, index) {
                    return Err(ResponseError::TransactionAbortable);
                } else if !verify_only {
                    transaction.add_partition(topic, index, now);
                }
            }
            Ok(())
        });
        added.map_err(|error| code(error, call.version, FENCED))
    });
    let mut unknown = unknown.into_iter();
    let topics = topics.iter().map(|topic| {
        let results = topic.partitions.iter().map(|index| {
            let error = match (added, unknown.next()) {
                (Err(error), _) => error,
                (Ok(()), Some(true)) => ResponseError::UnknownTopicOrPartition.code(),
                (Ok(()), _) if any_unknown => ResponseError::OperationNotAttempted.code(),
                (Ok(()), _) => 0,
            };
            let error = call.effects.error_for(&topic.name, Some(*index)).unwrap_or(error);
            AddPartitionsToTxnPartitionResult::default().with_partition_index(*index).with_partition_error_code(error)
        });
        let results = results.collect();
        AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone()).with_results_by_partition(results)
    });
    topics.collect()
}

/// What a Produce request says of the transaction that its batches belong to.
pub(super) struct Producing<'a> {
    pub(super) transactional_id: Option<&'a str>,
    pub(super) version: i16,
}

/// The first version of Produce that adds its partitions to the transaction itself (KIP-890).
const IMPLICIT_PARTITION: i16 = 12;
/// The first version of Produce that knows TRANSACTION_ABORTABLE.
const ABORTABLE: i16 = 11;

/// Whether a transactional batch belongs to a transaction that its coordinator knows (KIP-890, since 3.6). Brokers ask
/// only for the first batch of a transaction.
pub(super) fn verify(
    call: &Call<'_>,
    state: &mut super::state::State,
    producing: &Producing<'_>,
    (topic, index): (&str, i32),
    batch: &Batch,
) -> Result<(), ResponseError> {
    let Some(name) = producing.transactional_id else {
        return Err(ResponseError::TransactionalIdAuthorizationFailed);
    };
    let identity = Identity { id: batch.header.producer_id, epoch: batch.header.producer_epoch };
    let partition = state.partition(topic, index);
    let known = partition.and_then(|partition| partition.log.producers().get(identity.id));
    if call.shared.release < KafkaRelease::V3_9 || known.is_some_and(|producer| producer.open.is_some()) {
        return Ok(());
    }
    let now = call.shared.runtime.elapsed();
    let transaction = state.transaction_of(name, identity).map_err(|error| match error {
        ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        error => error,
    })?;
    if producing.version >= IMPLICIT_PARTITION {
        transaction.add_partition(topic, index, now);
        Ok(())
    } else if transaction.has_partition(topic, index) {
        Ok(())
    } else if producing.version >= ABORTABLE {
        Err(ResponseError::TransactionAbortable)
    } else {
        Err(ResponseError::InvalidTxnState)
    }
}

impl Handle for AddOffsetsToTxnRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = AddOffsetsToTxnResponse::default().with_throttle_time_ms(call.throttle_ms());
        let now = call.shared.runtime.elapsed();
        let identity = Identity { id: self.producer_id.0, epoch: self.producer_epoch };
        let added = check(call, &self.transactional_id).and_then(|()| {
            call.state().transaction_of(&self.transactional_id, identity)?.add_group(&self.group_id, now);
            Ok(())
        });
        let error = added.err().map_or(0, |error| code(error, call.version, FENCED));
        call.answer(&response.with_error_code(call.effects.error().unwrap_or(error)))
    }
}

impl Handle for TxnOffsetCommitRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let partitions = self.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| (topic.name.to_string(), partition.partition_index))
        });
        partitions.map(|(topic, index)| Target { topic, partition: Some(index) }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let identity = Identity { id: self.producer_id.0, epoch: self.producer_epoch };
        let allowed = check_coordinator(call, &self.group_id).and_then(|()| {
            let caller = Caller {
                member_id: &self.member_id,
                instance: self.group_instance_id.as_deref(),
                generation: self.generation_id,
            };
            let indexes = |topic: &TxnOffsetCommitRequestTopic| {
                topic.partitions.iter().map(|partition| partition.partition_index).collect()
            };
            let partitions = self.topics.iter().map(|topic| (topic.name.to_string(), indexes(topic))).collect();
            may_commit(call, &self.group_id, caller, partitions, true)?;
            if call.shared.release < KafkaRelease::V3_9 {
                return Ok(());
            }
            let now = call.shared.runtime.elapsed();
            let mut state = call.state();
            let transaction = state.transaction_of(&self.transactional_id, identity).map_err(|error| match error {
                ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch.code(),
                error => error.code(),
            })?;
            if call.version >= IMPLICIT_GROUP {
                transaction.add_group(&self.group_id, now);
            }
            let error =
                if call.version >= 4 { ResponseError::TransactionAbortable } else { ResponseError::InvalidTxnState };
            if transaction.has_group(&self.group_id) { Ok(()) } else { Err(error.code()) }
        });
        let topics = self.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                let index = partition.partition_index;
                let injected = call.effects.error_for(&topic.name, Some(index)).map_or(Ok(()), Err);
                let stored = injected.and(allowed).and_then(|()| {
                    let mut state = call.state();
                    let (offset, epoch) = (partition.committed_offset, partition.committed_leader_epoch);
                    let offset = committed(&state, &topic.name, index, offset, epoch, partition.committed_metadata)?;
                    state.hold_offset(&self.group_id, identity.id, &topic.name, index, offset);
                    Ok(())
                });
                TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(stored.err().unwrap_or_default())
            });
            let partitions = partitions.collect();
            TxnOffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
        });
        let response = TxnOffsetCommitResponse::default().with_topics(topics.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}

impl Handle for EndTxnRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = EndTxnResponse::default().with_throttle_time_ms(call.throttle_ms());
        let identity = Identity { id: self.producer_id.0, epoch: self.producer_epoch };
        let (name, bumping): (&str, bool) = (&self.transactional_id, call.version >= BUMPING);
        let injected = call.effects.error().map_or(Ok(()), Err);
        let ended = injected.and_then(|()| {
            let ended = check(call, name).and_then(|()| {
                let mut state = call.state();
                if let End::Now = state.check_end(name, identity, self.committed, bumping)? {
                    state.end_transaction(name, self.committed, bumping, call.shared.runtime.wall_ms());
                }
                Ok(state.transactions.get(name).map_or(identity, |known| known.identity))
            });
            ended.map_err(|error| code(error, call.version, FENCED))
        });
        match ended {
            Err(error) => call.answer(&response.with_error_code(error)),
            Ok(Identity { id, epoch }) if bumping => {
                call.answer(&response.with_producer_id(id.into()).with_producer_epoch(epoch))
            }
            Ok(_) => call.answer(&response),
        }
    }
}

/// Transactions, for tests of consumers: they are written by the test, without a producer. Producers of any language
/// write theirs through the protocol.
///
/// ```
/// use milena::mock::MockCluster;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let cluster = MockCluster::start().await;
/// cluster.create_topic("orders", 1);
/// cluster.write_transactional("orders", 0, 7, ["a", "b"]);
/// // Consumers of committed records see nothing yet …
/// assert_eq!((cluster.last_stable_offset("orders", 0), cluster.high_watermark("orders", 0)), (0, 2));
/// cluster.write_marker("orders", 0, 7, true);
/// // … and now everything. The marker has an offset of its own.
/// assert_eq!(cluster.last_stable_offset("orders", 0), 3);
/// # cluster.close().await;
/// # }
/// ```
impl MockCluster {
    /// Appends one batch of records without keys, as part of a transaction of this producer id (in epoch 0), which it
    /// opens if none is open in this partition. Gives the offset of the first.
    ///
    /// # Panics
    /// If `values` are none.
    pub fn write_transactional<V: AsRef<[u8]>>(
        &self,
        topic: &str,
        partition: i32,
        producer_id: i64,
        values: impl IntoIterator<Item = V>,
    ) -> i64 {
        let now_ms = self.shared.runtime.wall_ms();
        self.with_partition(topic, partition, |partition| {
            let known = partition.log.producers().get(producer_id);
            let sequence = known.map_or(0, |producer| producer.last_sequence().wrapping_add(1) & i32::MAX);
            let epoch = known.map_or(0, |producer| producer.epoch);
            let mut records = Vec::new();
            let mut count = 0;
            for value in values {
                records.put_slice(&TransactionalRecord { offset_delta: count, value: value.as_ref() }.bytes());
                count += 1;
            }
            assert!(count > 0, "a batch has at least one record");
            let identity = Identity { id: producer_id, epoch };
            let batch = Batch::transactional(identity, sequence, count, now_ms, Bytes::from(records));
            let placed = partition.append(batch, false);
            placed.expect("the next sequence number of the same epoch is in order").base_offset
        })
    }

    /// Appends the marker that ends the transaction of a producer id in one partition: commit, or else abort.
    pub fn write_marker(&self, topic: &str, partition: i32, producer_id: i64, commit: bool) {
        let now_ms = self.shared.runtime.wall_ms();
        self.with_partition(topic, partition, |partition| {
            let producer_epoch = partition.log.producers().get(producer_id).map_or(0, |producer| producer.epoch);
            let marker = Marker { producer_id, producer_epoch, commit, coordinator_epoch: 0, now_ms };
            partition.append_marker(&marker, false);
        });
    }

    /// Aborts the open transaction of a transactional id, as its coordinator does when it has been open for too long:
    /// its producer is fenced. Whether there was one.
    pub fn abort_transaction(&self, transactional_id: &str) -> bool {
        let now_ms = self.shared.runtime.wall_ms();
        let mut state = self.shared.state();
        let transaction = state.transactions.get(transactional_id);
        let open = transaction.is_some_and(|one| matches!(one.status, super::coordinator::Status::Open(_)));
        if open {
            state.end_transaction(transactional_id, false, true, now_ms);
        }
        open
    }

    /// The partitions of the open transaction of a transactional id; `None` if none is open.
    pub fn open_transaction(&self, transactional_id: &str) -> Option<Vec<(String, i32)>> {
        match &self.shared.state().transactions.get(transactional_id)?.status {
            super::coordinator::Status::Open(open) => Some(open.partitions.iter().cloned().collect()),
            _ => None,
        }
    }
}
