//! What a broker answers for each partition of a request.

use std::sync::Arc;

use super::{Hint, PartitionId, PartitionName};
use crate::wire::error_code::ErrorCode;
use crate::wire::leader::produce::{LeaderIdAndEpoch, PartitionProduceResponse, ProduceResponse};
use crate::wire::message::Uuid;

/// What one walk over a response finds for each partition that was asked about, in the order of the request.
pub(super) struct Answers {
    pub(super) answers: Vec<(PartitionId, Option<PartitionProduceResponse>)>,
    /// By id when the answer has one (v13 and later), else by name: where that partition is in `answers`. Ascending.
    places: Vec<(Mention, usize)>,
}

/// A topic's id or its name, the other being empty; and the index of the partition.
type Mention = (Uuid, Arc<str>, i32);

impl Answers {
    pub(super) fn new<'a>(asked: impl Iterator<Item = (PartitionId, &'a PartitionName)>) -> Self {
        let mut found = Self { answers: Vec::new(), places: Vec::new() };
        for (id, name) in asked {
            let place = found.answers.len();
            found.answers.push((id, None));
            found.places.push(((Uuid::ZERO, Arc::clone(&name.topic), name.index), place));
            if !name.topic_id.is_zero() {
                found.places.push(((name.topic_id, Arc::default(), name.index), place));
            }
        }
        found.places.sort_unstable();
        found
    }

    /// The first mention counts.
    pub(super) fn find(&mut self, response: &ProduceResponse) {
        for topic in &response.responses {
            let name = if topic.topic_id.is_zero() { topic.name } else { Arc::default() };
            for answer in &topic.partition_responses {
                let wanted = (topic.topic_id, &name, answer.index);
                let at = self.places.binary_search_by(|((id, name, index), _)| (*id, name, *index).cmp(&wanted));
                let Some((_, place)) = at.ok().and_then(|at| self.places.get(at)) else { continue };
                if let Some((_, none @ None)) = self.answers.get_mut(*place) {
                    *none = Some(answer);
                }
            }
        }
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
