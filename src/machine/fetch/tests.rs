//! Histories of fetches from one leader, on a clock that the test moves.
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use super::*;
use crate::record::Identity;
use crate::record::writer::{BatchWriter, NO_HEADERS};
use crate::wire::leader::fetch::FetchableTopicResponse;
use crate::wire::message::Records;

mod answers;
mod budget;
mod distance;
mod histories;
mod lanes;
mod records;
mod sessions;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const MAX_WAIT: Duration = ms(500);
/// Jitter of exactly one: delays as they are configured.
const MIDDLE: u64 = 1 << 63;
const CODE_NOT_LEADER: ErrorCode = ErrorCode::NOT_LEADER_OR_FOLLOWER;

/// A batch of `count` records of 10 bytes from `base` on, as a broker stores it.
fn batch(base: i64, count: usize) -> Vec<u8> {
    let mut writer = BatchWriter::new(1024);
    for n in 0..count {
        writer.append(n as i64, None, Some(&[n as u8; 10]), NO_HEADERS).unwrap();
    }
    let mut bytes = writer.finish().stamp(Identity::NONE).to_vec();
    // Outside of what the CRC covers.
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes
}

fn set(batches: &[(i64, usize)]) -> Vec<u8> {
    batches.iter().flat_map(|&(base, count)| batch(base, count)).collect()
}

struct Rig {
    now: Instant,
    machine: Fetch,
    credit: Credit,
}

impl Rig {
    /// With partitions 0 to `partitions` of topic `t` at offset 0, their ids the same.
    fn new(partitions: u64) -> Self {
        Self::with_buffer(partitions, 64 << 20, 1 << 20)
    }

    fn with_buffer(partitions: u64, total: usize, per_fetch: usize) -> Self {
        let config = Config {
            max_wait: MAX_WAIT,
            min_bytes: 1,
            max_bytes: 50 << 20,
            partition_max_bytes: per_fetch,
            partition_most_bytes: 8 * per_fetch,
            check_crcs: true,
            read_committed: false,
            rack: "".into(),
            retry_backoff: ms(100),
            retry_backoff_max: ms(1000),
        };
        let mut credit = Credit::new(total, per_fetch);
        credit.assign(0..partitions);
        let mut rig = Self { now: Instant::now(), machine: Fetch::new(config), credit };
        (0..partitions).for_each(|id| rig.machine.add(route(id, 0, 0)));
        rig
    }

    fn plan(&mut self) -> Option<Plan> {
        self.machine.poll_fetch(self.now, &mut self.credit)
    }

    /// The next request, which names these partitions.
    fn ask(&mut self, lane: LaneKind, partitions: &[i32]) -> Plan {
        let plan = self.plan().expect("nothing is asked");
        assert_eq!(plan.lane, lane);
        assert_eq!(named(&plan), partitions);
        plan
    }

    fn silent(&mut self) {
        if let Some(plan) = self.plan() {
            panic!("{:?} is asked for {:?}", plan.lane, named(&plan));
        }
    }

    fn answer(&mut self, plan: &Plan, partitions: impl IntoIterator<Item = PartitionData>) {
        self.answer_as(plan, response(partitions));
    }

    fn answer_as(&mut self, plan: &Plan, response: FetchResponse) {
        self.machine.handle_answer(self.now, self.now, plan.token, response, MIDDLE);
    }

    /// What happened: fetched data by partition as (from, first base offset, next offset), everything else in words.
    fn events(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Answered { id, reserved, fetched, .. } => {
                    self.credit.give_back(id, reserved);
                    if let Some(fetched) = fetched {
                        self.credit.take(id, fetched.bytes);
                        let last = fetched.batches.back().unwrap().header().next_offset();
                        events.push(format!("{id}: {}..{last}", fetched.from));
                    }
                }
                Event::Released { id, next, why, .. } => events.push(match why {
                    Why::Unreadable { end, .. } => format!("{id} unreadable at {next}, end {end:?}"),
                    why => format!("{id} released at {next}: {why:?}"),
                }),
                Event::Hint(hint) => {
                    let at = hint.endpoint.map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port));
                    let Hint { topic, partition, leader, leader_epoch, .. } = hint;
                    events.push(format!("{topic}-{partition}: {leader} leads at {at:?} in {leader_epoch}"));
                }
                Event::SessionOver(id) => events.push(format!("session {id} is over")),
                Event::Stale => events.push("stale".into()),
                Event::Refused(code) => events.push(format!("refused: {code}")),
            }
        }
        events
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.machine.handle_timeout(self.now);
    }
}

fn route(id: PartitionId, generation: u64, offset: i64) -> Route {
    Route {
        id,
        generation,
        topic: "t".into(),
        topic_id: Uuid([7; 16]),
        index: id as i32,
        offset,
        leader_epoch: 3,
        is_nearby: false,
        leader_until: None,
        is_paused: false,
    }
}

fn named(plan: &Plan) -> Vec<i32> {
    plan.request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| p.partition)).collect()
}

fn response(partitions: impl IntoIterator<Item = PartitionData>) -> FetchResponse {
    let topic = FetchableTopicResponse {
        topic_id: Uuid([7; 16]),
        partitions: partitions.into_iter().collect::<Vec<_>>().into(),
        ..Default::default()
    };
    FetchResponse { responses: vec![topic].into(), ..Default::default() }
}

fn data(partition: i32, records: Vec<u8>) -> PartitionData {
    PartitionData { partition_index: partition, records: Some(Records(records.into())), ..Default::default() }
}

fn empty(partition: i32) -> PartitionData {
    data(partition, Vec::new())
}

fn refused(partition: i32, error_code: ErrorCode) -> PartitionData {
    PartitionData { partition_index: partition, error_code, ..Default::default() }
}

/// What a broker does with sessions: it remembers, and only mentions news.
#[derive(Default)]
struct Broker {
    sessions: BTreeMap<i32, (i32, BTreeMap<i32, FetchPartition>)>,
    last_id: i32,
}

impl Broker {
    /// The partitions that are to be read, and the id to answer with.
    fn open(&mut self, request: &FetchRequest) -> Result<(Vec<FetchPartition>, i32), ErrorCode> {
        let named = request.topics.iter().flat_map(|topic| topic.partitions.iter().cloned());
        let named = named.map(|partition| (partition.partition, partition));
        if request.session_epoch <= 0 {
            self.sessions.remove(&request.session_id);
            let named: BTreeMap<_, _> = named.collect();
            let wanted = named.values().cloned().collect();
            if request.session_epoch < 0 {
                return Ok((wanted, 0));
            }
            self.last_id += 1;
            self.sessions.insert(self.last_id, (1, named));
            return Ok((wanted, self.last_id));
        }
        let Some((epoch, known)) = self.sessions.get_mut(&request.session_id) else {
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        };
        if *epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        *epoch += 1;
        known.extend(named);
        request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions).for_each(|index| {
            assert!(known.remove(index).is_some(), "{index} is forgotten twice");
        });
        Ok((known.values().cloned().collect(), request.session_id))
    }
}

impl Rig {
    /// A broker whose partitions are all at their end, but for those that have something.
    fn answer_by(&mut self, broker: &mut Broker, plan: &Plan, news: impl IntoIterator<Item = PartitionData>) {
        let answer = match broker.open(&plan.request) {
            Ok((_, session_id)) => FetchResponse { session_id, ..response(news) },
            Err(error_code) => FetchResponse { error_code, ..Default::default() },
        };
        self.answer_as(plan, answer);
    }
}
