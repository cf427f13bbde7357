//! What brokers make of requests, and what becomes of their answers.

use super::broker::{Asked, NODES};
use super::world::{What, World};
use super::{MS, Micros};
use crate::machine::fetch::LaneKind;
use crate::machine::offsets::{AskedEpoch, AskedOffset, At};
use crate::wire::error_code::ErrorCode;
use crate::wire::leader::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use crate::wire::message::Records;

/// Of one partition, and soon over.
const PASSING: &[ErrorCode] = &[
    ErrorCode::KAFKA_STORAGE_ERROR,
    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode::OFFSET_NOT_AVAILABLE,
    ErrorCode::UNKNOWN_LEADER_EPOCH,
    ErrorCode::CORRUPT_MESSAGE,
    ErrorCode::UNKNOWN_SERVER_ERROR,
];

impl World {
    /// A request reaches its broker.
    pub(super) fn arrive(&mut self, node: usize, lane: LaneKind, token: u64, request: &FetchRequest, until: Micros) {
        if self.tasks[node].sent(token).is_none() {
            return;
        }
        let again = |request: &FetchRequest| What::Arrive { node, lane, token, request: request.clone(), until };
        if self.now < self.hung_until[node] {
            return self.at(self.hung_until[node], again(request));
        }
        let faults = self.plan.faults.clone();
        if self.random.chance(faults.hang) {
            self.hung_until[node] = self.now + self.random.between(10 * MS, 2 * self.plan.request_timeout);
            return self.at(self.hung_until[node], again(request));
        }
        let delay = self.delay();
        if self.random.chance(faults.cut_before) {
            return self.after(delay, What::Fail { node, token });
        }
        // While there is nothing to say it waits, and its session does.
        if request.max_wait_ms > 0 && self.now < until && !self.has_news(node, request) {
            return self.at((self.now + 10 * MS).min(until), again(request));
        }
        let remembers = node >= self.plan.forgetful;
        let response = match self.sessions[node].open(request, remembers) {
            Err(error_code) => FetchResponse { error_code, ..Default::default() },
            Ok((wanted, is_full, session_id)) => self.answer(node, &wanted, is_full, session_id, request),
        };
        if self.random.chance(faults.cut_after) {
            return self.after(delay, What::Fail { node, token });
        }
        if !self.random.chance(faults.silent) {
            self.after(delay, What::Answer { node, token, response });
        }
    }

    /// Whether a broker that waits for data has any, or an error to tell.
    fn has_news(&mut self, node: usize, request: &FetchRequest) -> bool {
        let Some(wanted) = self.sessions[node].peek(request) else { return true };
        let (id, is_committed) = (self.topic_id(), self.plan.is_committed);
        wanted.iter().any(|(topic_id, asked)| {
            let log = &self.logs[asked.partition as usize];
            let end = if is_committed { log.stable_end() } else { log.end() };
            *topic_id != id
                || log.leader != Some(node)
                || asked.current_leader_epoch != log.epoch
                || asked.fetch_offset != end
        })
    }

    fn answer(
        &mut self,
        node: usize,
        wanted: &[Asked],
        is_full: bool,
        session_id: i32,
        request: &FetchRequest,
    ) -> FetchResponse {
        let faults = self.plan.faults.clone();
        let mut left = request.max_bytes as usize;
        let mut partitions = Vec::new();
        for asked in wanted {
            let is_first =
                partitions.iter().all(|data: &PartitionData| data.records.as_ref().is_none_or(|r| r.0.is_empty()));
            let data = self.answer_of(node, asked, left, is_first, !request.rack_id.is_empty());
            let size = data.records.as_ref().map_or(0, |records| records.0.len());
            left = left.saturating_sub(size);
            if is_full || size > 0 || !data.error_code.is_ok() || data.preferred_read_replica >= 0 {
                partitions.push(data);
            }
        }
        if self.random.chance(faults.hostile_answer) {
            partitions.extend(partitions.first().cloned());
            partitions.push(PartitionData { partition_index: 77, high_watermark: -5, ..Default::default() });
        }
        let topic = FetchableTopicResponse {
            topic: "t".into(),
            // It answers by the name that it was asked by.
            topic_id: wanted.first().map_or_else(|| self.topic_id(), |(id, _)| *id),
            partitions: partitions.into(),
            ..Default::default()
        };
        let throttle_time_ms = if self.random.chance(faults.throttle) { self.random.between(1, 300) as i32 } else { 0 };
        FetchResponse { throttle_time_ms, session_id, responses: vec![topic].into(), ..Default::default() }
    }

    fn answer_of(
        &mut self,
        node: usize,
        (topic_id, asked): &Asked,
        left: usize,
        is_first: bool,
        has_rack: bool,
    ) -> PartitionData {
        let faults = self.plan.faults.clone();
        let index = asked.partition;
        let refused = |error_code| PartitionData { partition_index: index, error_code, ..Default::default() };
        if *topic_id != self.topic_id() {
            return refused(ErrorCode::UNKNOWN_TOPIC_ID);
        }
        if self.random.chance(faults.refuse) {
            return refused(self.random.pick(PASSING));
        }
        let log = &mut self.logs[index as usize];
        let is_leader = log.leader == Some(node);
        let refusal = log.refusal(node, asked.current_leader_epoch);
        // Replicas serve those whom the leader has sent, as long as their epochs agree.
        let may_serve = is_leader || faults.nearby > 0 && asked.current_leader_epoch == log.epoch;
        if let Some(code) = refusal.filter(|_| !may_serve || is_leader) {
            let mut answer = refused(code);
            if let Some(leader) = log.leader.filter(|_| self.random.chance(faults.hint)) {
                (answer.current_leader.leader_id, answer.current_leader.leader_epoch) = (leader as i32, log.epoch);
            }
            return answer;
        }
        if is_leader && has_rack && self.random.chance(faults.nearby) {
            // One of them is none.
            let replica = self.random.index(NODES + 1) as i32;
            if replica != node as i32 {
                return PartitionData { preferred_read_replica: replica, ..refused(ErrorCode::NONE) };
            }
        }
        let end = log.readable(node, self.plan.is_committed, &mut self.random);
        let is_behind = is_leader && self.random.chance(faults.behind);
        if asked.fetch_offset < log.start || asked.fetch_offset > end || is_behind {
            if let Some(landing) = &mut self.callers[index as usize].landing {
                landing.is_out = true;
            }
            return refused(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let most = (asked.partition_max_bytes as usize).min(left);
        let (mut bytes, aborted) = if asked.fetch_offset < end && (most > 0 || is_first) {
            log.read(asked.fetch_offset, end, most, is_first)
        } else {
            Default::default()
        };
        let (high_watermark, log_start_offset) = (log.end(), log.start);
        let last_stable_offset = log.stable_end();
        if self.random.chance(faults.flip) && bytes.len() > 70 {
            // Of the first batch, what its checksum covers: nothing protects what stands before that.
            let size = 12 + u64::from(u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]));
            let at = self.random.between(21, size.min(bytes.len() as u64) - 1) as usize;
            bytes[at] ^= 1 << self.random.below(8);
        }
        PartitionData {
            partition_index: index,
            high_watermark,
            last_stable_offset,
            log_start_offset,
            aborted_transactions: Some(aborted),
            records: Some(Records(bytes.into())),
            ..Default::default()
        }
    }

    pub(super) fn list(&mut self, leader: i32, asked: Vec<AskedOffset>, is_lost: bool) {
        for asked in asked {
            let log = &self.logs[asked.id as usize];
            let time = match asked.at {
                At::Time(time) => time,
                At::Ago(ms) => self.timestamp() - ms,
            };
            let answer = match log.refusal(leader as usize, asked.leader_epoch) {
                _ if is_lost => Err(ErrorCode::NONE),
                Some(code) => Err(code),
                None => Ok(log.offset_of(time, self.plan.is_committed)),
            };
            let delay = self.wait_for(is_lost);
            self.after(delay, What::Listed { asked, answer });
        }
    }

    pub(super) fn end_epochs(&mut self, leader: i32, asked: Vec<AskedEpoch>, is_lost: bool) {
        for asked in asked {
            let log = &self.logs[asked.id as usize];
            let answer = match log.refusal(leader as usize, asked.leader_epoch) {
                _ if is_lost => Err(ErrorCode::NONE),
                Some(code) => Err(code),
                None => Ok(log.end_of_epoch(asked.epoch)),
            };
            let mut delay = self.wait_for(is_lost);
            if answer.is_ok() && self.random.chance(self.plan.faults.overtaken) {
                // The next leader may be heard of before the answer of this one.
                self.overtake(asked.id as usize);
                delay += self.random.below(self.plan.request_timeout);
            }
            self.after(delay, What::Ended { asked, answer });
        }
    }

    fn wait_for(&mut self, is_lost: bool) -> Micros {
        if is_lost { self.plan.request_timeout } else { self.delay() }
    }
}
