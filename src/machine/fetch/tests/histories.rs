//! Histories at random.

use std::collections::BTreeSet;

use super::*;
use crate::machine::planted;

/// A leader with endless logs, a caller who takes, seeks and stalls, partitions that leave and come back, a topic that is
/// created anew, and answers that are lost: whatever happens, each partition's data continues exactly where it ended.
#[test]
fn random_histories_lose_and_double_nothing() {
    if let Some(seeds) = planted::seeds() {
        return planted::hunt(seeds, |seed| {
            history(seed);
            Ok(())
        });
    }
    for seed in 0..2_000u64 {
        history(seed);
    }
}

const PARTITIONS: u64 = 4;

/// What a caller knows of its partitions.
#[derive(Default)]
struct Caller {
    /// What the next data must begin with, under which generation.
    expected: [(i64, u64); PARTITIONS as usize],
    at_home: BTreeMap<PartitionId, i64>,
    buffered: Vec<(PartitionId, usize)>,
    /// The topic was created so often, and each partition is asked for in that one.
    incarnation: u8,
    incarnations: [u8; PARTITIONS as usize],
    /// Those of which data came.
    fed: BTreeSet<PartitionId>,
}

impl Caller {
    fn listen(&mut self, seed: u64, rig: &mut Rig) {
        while let Some(event) = rig.machine.poll_event() {
            match event {
                Event::Answered { id, generation, reserved, fetched, .. } => {
                    rig.credit.give_back(id, reserved);
                    let Some(fetched) = fetched else { continue };
                    let (next, current) = &mut self.expected[id as usize];
                    assert_eq!(generation, *current, "seed {seed}: data of a past life");
                    assert_eq!(fetched.from, *next, "seed {seed}");
                    *next = fetched.batches.back().unwrap().header().next_offset();
                    rig.credit.take(id, fetched.bytes);
                    self.buffered.push((id, fetched.bytes));
                    self.fed.insert(id);
                }
                Event::Released { id, generation, next, .. } => {
                    if (next, generation) == self.expected[id as usize] {
                        self.at_home.insert(id, next);
                    } else {
                        assert!(generation < self.expected[id as usize].1, "seed {seed}: released at {next}");
                    }
                }
                Event::Hint(_) | Event::SessionOver(_) | Event::Stale | Event::Refused(_) => {}
            }
        }
    }

    fn read(&mut self, rig: &mut Rig) {
        self.buffered.drain(..).for_each(|(id, bytes)| rig.credit.give_back(id, bytes));
    }

    fn send_out(&mut self, rig: &mut Rig) {
        for (id, next) in std::mem::take(&mut self.at_home) {
            self.add(rig, id, next);
        }
    }

    fn add(&mut self, rig: &mut Rig, id: PartitionId, next: i64) {
        self.incarnations[id as usize] = self.incarnation;
        let topic_id = topic_id(self.incarnation);
        rig.machine.add(Route { topic_id, ..route(id, self.expected[id as usize].1, next) });
    }

    /// The next request, which asks for each partition in its own topic.
    fn plan(&self, rig: &mut Rig) -> Option<Plan> {
        let plan = rig.plan()?;
        for topic in &plan.request.topics {
            for asked in &topic.partitions {
                let id = topic_id(self.incarnations[asked.partition as usize]);
                assert_eq!(topic.topic_id, id, "partition {} is asked for in another topic", asked.partition);
            }
        }
        Some(plan)
    }

    /// Each partition in its own topic.
    fn response(&self, session_id: i32, answers: impl IntoIterator<Item = PartitionData>) -> FetchResponse {
        let topics = answers.into_iter().map(|data| FetchableTopicResponse {
            topic_id: topic_id(self.incarnations[data.partition_index as usize]),
            partitions: vec![data].into(),
            ..Default::default()
        });
        FetchResponse { session_id, responses: topics.collect::<Vec<_>>().into(), ..Default::default() }
    }
}

fn topic_id(incarnation: u8) -> Uuid {
    Uuid([7 + incarnation; 16])
}

fn history(seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut rig = Rig::with_buffer(PARTITIONS, 20_000, 2_000);
    // Every other broker has sessions.
    let mut broker = Broker::default();
    let mut caller = Caller::default();
    let mut flights: Vec<Plan> = Vec::new();
    for _ in 0..100 {
        match random(9) {
            0..=2 => {
                let under_way = |rig: &Rig, lane| rig.machine.under_way(lane).len();
                let in_line = under_way(&rig, LaneKind::Immediate);
                while let Some(plan) = caller.plan(&mut rig) {
                    flights.push(plan);
                }
                assert!(under_way(&rig, LaneKind::Waiting) <= 1);
                // Next door one as well; and after a loss those of before, until they are back.
                assert!(under_way(&rig, LaneKind::Immediate) <= in_line.max(rig.machine.depth.pipeline()));
            }
            3 | 4 if !flights.is_empty() => {
                let mut plan = flights.swap_remove(random(flights.len() as u64) as usize);
                if seed.is_multiple_of(2) {
                    (plan.request.session_id, plan.request.session_epoch) = (0, -1);
                }
                if random(30) == 0 {
                    broker.sessions.clear();
                }
                // A lost request may have reached the broker all the same.
                let is_lost = random(6) == 0;
                let opened = if is_lost && random(2) == 0 { Ok((Vec::new(), 0)) } else { broker.open(&plan.request) };
                if let (Err(error_code), false) = (&opened, is_lost) {
                    rig.answer_as(&plan, FetchResponse { error_code: *error_code, ..Default::default() });
                } else if is_lost {
                    rig.machine.handle_failed(rig.now, plan.token, MIDDLE);
                } else {
                    let mut answers = Vec::new();
                    let (wanted, session_id) = opened.unwrap();
                    // Whoever stands in a session is in it, and who left it is not.
                    let flight = rig.machine.flights.iter().find(|flight| flight.token == plan.token);
                    let asked = flight.into_iter().flat_map(|flight| &flight.asked);
                    let read = wanted.iter().map(|asked| asked.partition as PartitionId);
                    assert!(read.eq(asked.map(|asked| asked.id)), "seed {seed}: {wanted:?} are read");
                    for asked in &wanted {
                        answers.push(match random(9) {
                            8 if plan.request.session_epoch > 0 => continue,
                            0 => refused(asked.partition, CODE_NOT_LEADER),
                            1 => empty(asked.partition),
                            _ => {
                                // Batches of ten, so the first one may begin below.
                                let base = asked.fetch_offset / 10 * 10;
                                let mut records = set(&[(base, 10), (base + 10, 10)]);
                                let cut = random(5) as usize;
                                records.truncate(records.len() - cut * 30);
                                // Every other time the log goes on, for all that is known.
                                let high_watermark = if random(2) == 0 { i64::MAX } else { 0 };
                                PartitionData { high_watermark, ..data(asked.partition, records) }
                            }
                        });
                    }
                    rig.answer_as(&plan, caller.response(session_id, answers));
                }
            }
            5 => {
                let id = random(PARTITIONS);
                let (_, generation) = caller.expected[id as usize];
                let to = random(1000) as i64;
                caller.expected[id as usize] = (to, generation + 1);
                caller.at_home.remove(&id);
                caller.incarnation += u8::from(random(8) == 0);
                caller.add(&mut rig, id, to);
            }
            6 => {
                let id = random(PARTITIONS);
                rig.machine.recall(id, caller.expected[id as usize].1);
            }
            7 => caller.send_out(&mut rig),
            _ => {
                caller.read(&mut rig);
                let time = ms(random(300));
                rig.wait(time);
            }
        }
        caller.listen(seed, &mut rig);
    }
    // Nothing goes wrong any more: every partition is fetched.
    flights.drain(..).for_each(|plan| rig.machine.handle_failed(rig.now, plan.token, MIDDLE));
    caller.listen(seed, &mut rig);
    // Who fetches from a topic that is no more is told so.
    for id in (0..PARTITIONS).filter(|id| caller.incarnations[*id as usize] < caller.incarnation) {
        rig.machine.recall(id, caller.expected[id as usize].1);
    }
    caller.listen(seed, &mut rig);
    caller.fed.clear();
    let mut rounds = 0..100;
    while caller.fed.len() < PARTITIONS as usize && rounds.next().is_some() {
        caller.read(&mut rig);
        caller.send_out(&mut rig);
        rig.wait(ms(100));
        flights.extend(caller.plan(&mut rig));
        for mut plan in flights.drain(..) {
            if seed.is_multiple_of(2) {
                (plan.request.session_id, plan.request.session_epoch) = (0, -1);
            }
            match broker.open(&plan.request) {
                Err(error_code) => rig.answer_as(&plan, FetchResponse { error_code, ..Default::default() }),
                Ok((wanted, session_id)) => {
                    let answers = wanted.iter().map(|asked| {
                        let base = asked.fetch_offset / 10 * 10;
                        data(asked.partition, set(&[(base, 10), (base + 10, 10)]))
                    });
                    rig.answer_as(&plan, caller.response(session_id, answers));
                }
            }
        }
        caller.listen(seed, &mut rig);
    }
    assert!(caller.fed.iter().copied().eq(0..PARTITIONS), "seed {seed}: of {:?} alone anything comes", caller.fed);
    // Every reservation comes back.
    while let Some(plan) = rig.plan() {
        rig.machine.handle_failed(rig.now, plan.token, MIDDLE);
    }
    caller.listen(seed, &mut rig);
    let left: usize = caller.buffered.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(rig.credit.used(), left, "seed {seed}");
}
