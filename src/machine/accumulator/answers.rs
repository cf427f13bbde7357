//! What a broker answers for each partition of a request.

use std::sync::Arc;

use super::{Hint, PartitionId, PartitionName};
use crate::wire::error_code::ErrorCode;
use crate::wire::leader::produce::{LeaderIdAndEpoch, PartitionProduceResponse, ProduceResponse};
use crate::wire::message::Uuid;

/// What one walk over a response finds for each partition that was asked about, in the order of the request. Others are
/// ignored, and of each the first mention counts (rule 21).
pub(super) fn find<'a>(
    asked: impl Iterator<Item = (PartitionId, &'a PartitionName)>,
    response: &ProduceResponse,
) -> Vec<(PartitionId, Option<PartitionProduceResponse>)> {
    let (mut found, mut names) = (Vec::new(), Vec::new());
    for (id, name) in asked {
        found.push((id, None));
        names.push(name);
    }
    let (mut next, mut places) = (0, None::<Places<'_>>);
    for topic in &response.responses {
        for answer in &topic.partition_responses {
            let mention = Mention::new(&topic.name, topic.topic_id, answer.index);
            // Brokers answer in the order of the request.
            let is_next = names.get(next).is_some_and(|name| mention.is_of(name));
            let place =
                if is_next { Some(next) } else { places.get_or_insert_with(|| Places::new(&names)).find(mention) };
            let Some(place) = place else { continue };
            next = place + 1;
            if let Some((_, none @ None)) = found.get_mut(place) {
                *none = Some(answer);
            }
        }
    }
    found
}

/// A topic by its id when the answer has one (v13 and later), else by its name, the other being empty; and the index of the
/// partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Mention<'a> {
    topic_id: Uuid,
    topic: &'a str,
    index: i32,
}

impl<'a> Mention<'a> {
    fn new(topic: &'a str, topic_id: Uuid, index: i32) -> Self {
        Self { topic_id, topic: if topic_id.is_zero() { topic } else { "" }, index }
    }

    fn is_of(self, name: &PartitionName) -> bool {
        let is_topic =
            if self.topic_id.is_zero() { *self.topic == *name.topic } else { self.topic_id == name.topic_id };
        is_topic && self.index == name.index
    }
}

/// Where the partitions are in a request, for a broker that answers in an order of its own.
struct Places<'a>(Vec<(Mention<'a>, usize)>);

impl<'a> Places<'a> {
    fn new(names: &[&'a PartitionName]) -> Self {
        let by_name = |name: &'a PartitionName| Mention::new(&name.topic, Uuid::ZERO, name.index);
        let by_id = |name: &'a PartitionName| Mention::new(&name.topic, name.topic_id, name.index);
        let mut places: Vec<_> = names.iter().enumerate().map(|(place, name)| (by_name(name), place)).collect();
        places.extend(names.iter().enumerate().map(|(place, name)| (by_id(name), place)));
        places.sort_unstable();
        Self(places)
    }

    fn find(&self, mention: Mention<'_>) -> Option<usize> {
        let at = self.0.binary_search_by(|(other, _)| other.cmp(&mention)).ok()?;
        self.0.get(at).map(|(_, place)| *place)
    }
}

/// Rule 78, KIP-951.
pub(super) fn hint_of(
    name: &PartitionName,
    answer: &PartitionProduceResponse,
    response: &ProduceResponse,
) -> Option<Hint> {
    let LeaderIdAndEpoch { leader_id: leader, leader_epoch, .. } = answer.current_leader;
    let is_moved = [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::FENCED_LEADER_EPOCH].contains(&answer.error_code);
    let PartitionName { topic, topic_id, index } = name;
    (is_moved && leader >= 0 && leader_epoch >= 0).then(|| Hint {
        topic: Arc::clone(topic),
        topic_id: *topic_id,
        partition: *index,
        leader,
        leader_epoch,
        endpoint: response.node_endpoints.iter().find(|endpoint| endpoint.node_id == leader),
    })
}

/// What the broker says of the batch, and of its first bad record (KIP-467).
pub(super) fn reason_of(answer: &PartitionProduceResponse) -> Option<Arc<str>> {
    let record = answer.record_errors.iter().next().and_then(|record| {
        let message = record.batch_index_error_message.as_deref()?;
        Some(format!("record {} of the batch: {message}", record.batch_index).into())
    });
    record.or_else(|| answer.error_message.clone())
}
