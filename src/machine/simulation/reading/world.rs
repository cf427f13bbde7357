//! The driver: a caller, the manager of positions and a task for each broker, as `consumer/` has them, and the clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::broker::{Log, NODES, Sessions, Truth};
use super::caller::{Caller, Landing};
use super::judge::Seen as SeenByCaller;
use super::{MS, Micros, Plan, Random, Summary};
use crate::machine::credit::{Credit, PartitionId};
use crate::machine::fetch::{self, Event, Fetch, LaneKind, Route, Seen, Why};
use crate::machine::metadata::{self, Metadata};
use crate::machine::offsets::{self, AskedEpoch, AskedOffset, Offsets, Output, Reset, Start};
use crate::wire::cluster::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::wire::error_code::ErrorCode;
use crate::wire::leader::fetch::{FetchRequest, FetchResponse};
use crate::wire::message::Uuid;

const MAX_WAIT: Micros = 100 * MS;
/// For how long nothing may come to be read after everything has healed: longer than the longest back-off and session.
const LIVELY: Micros = 10_000 * MS;
/// More than any history needs: one that takes more is a busy loop (P14).
const MOST_EVENTS: u64 = 100_000;

pub(super) enum What {
    Append,
    Read,
    /// Whose timers are due looks after itself.
    Wake,
    Tell(usize, Tell),
    Home {
        id: PartitionId,
        generation: u64,
        next: i64,
        seen: Seen,
        why: Why,
    },
    Arrive {
        node: usize,
        lane: LaneKind,
        token: u64,
        request: FetchRequest,
        until: Micros,
    },
    Answer {
        node: usize,
        token: u64,
        response: FetchResponse,
    },
    Fail {
        node: usize,
        token: u64,
    },
    Offsets {
        leader: i32,
        asked: Vec<AskedOffset>,
        is_lost: bool,
    },
    Listed {
        asked: AskedOffset,
        answer: Result<i64, ErrorCode>,
    },
    Epochs {
        leader: i32,
        asked: Vec<AskedEpoch>,
        is_lost: bool,
    },
    Ended {
        asked: AskedEpoch,
        answer: Result<(i32, i64), ErrorCode>,
    },
    Picture {
        query: u64,
        response: Option<MetadataResponse>,
    },
    Move,
    Retain,
    Recreate,
    Elect {
        index: usize,
        leader: usize,
    },
    Evict,
    Relocate,
    Committed {
        id: PartitionId,
        generation: u64,
        is_lost: bool,
    },
    Seek,
    Pause,
    Heal,
}

/// From the manager to a broker's task.
pub(super) enum Tell {
    Add(Route),
    Recall(PartitionId, u64),
    Pause(PartitionId, bool),
}

pub(super) struct World {
    pub(super) plan: Plan,
    /// As it was before it healed.
    pub(super) drawn: Plan,
    pub(super) random: Random,
    start: Instant,
    pub(super) now: Micros,
    agenda: BTreeMap<(Micros, u64), What>,
    next_event: u64,
    incarnation: u8,
    pub(super) logs: Vec<Log>,
    pub(super) truth: Truth,
    pub(super) sessions: Vec<Sessions>,
    pub(super) hung_until: [Micros; NODES],
    muted_until: [[Micros; 2]; NODES],
    /// What was told to a task arrives in order, and so does what comes home.
    told_at: [Micros; NODES],
    home_at: [Micros; NODES],
    pub(super) tasks: Vec<Fetch>,
    pub(super) offsets: Offsets,
    metadata: Metadata,
    pictures: Vec<MetadataResponse>,
    pub(super) credit: Credit,
    pub(super) callers: Vec<Caller>,
    armed: Option<Micros>,
    is_healed: bool,
    /// What was read by then, and when that was last more than before.
    moved: (u64, Micros),
    /// By the caller, in its order.
    pub(super) seen: Vec<SeenByCaller>,
    pub(super) summary: Summary,
    problems: Vec<String>,
    /// What the machines said of positions, for whoever looks at a history that fails.
    told: Vec<String>,
}

impl World {
    pub(super) fn new(start: Instant, plan: Plan, mut random: Random) -> Self {
        let micros = Duration::from_micros;
        let task = || {
            Fetch::new(fetch::Config {
                max_wait: micros(MAX_WAIT),
                min_bytes: 1,
                max_bytes: 50 << 20,
                partition_max_bytes: plan.per_fetch,
                partition_most_bytes: plan.per_fetch * 8,
                check_crcs: true,
                read_committed: plan.is_committed,
                rack: "r".into(),
                retry_backoff: micros(plan.backoff),
                retry_backoff_max: micros(plan.backoff * 8),
            })
        };
        let mut credit = Credit::new(plan.buffer, plan.per_fetch);
        credit.assign(0..plan.partitions as PartitionId);
        let mut world = Self {
            start,
            now: 0,
            agenda: BTreeMap::new(),
            next_event: 0,
            incarnation: 1,
            logs: (0..plan.partitions).map(|_| Log::new(random.index(NODES))).collect(),
            truth: Truth::default(),
            sessions: (0..NODES).map(|_| Sessions::default()).collect(),
            hung_until: [0; NODES],
            muted_until: [[0; 2]; NODES],
            told_at: [0; NODES],
            home_at: [0; NODES],
            tasks: (0..NODES).map(|_| task()).collect(),
            offsets: Offsets::new(offsets::Config {
                reset: plan.reset,
                retry_backoff: micros(plan.backoff),
                retry_backoff_max: micros(plan.backoff * 8),
                patience: micros(60_000 * MS),
                unknown_patience: micros(5_000 * MS),
                follow_for: micros(300 * MS),
            }),
            metadata: Metadata::new(
                start,
                metadata::Config {
                    max_age: micros(2_000 * MS),
                    retry_backoff: micros(plan.backoff),
                    retry_backoff_max: micros(plan.backoff * 8),
                    hedge_after: micros(500 * MS),
                    seeds: 1,
                },
                0,
            ),
            pictures: Vec::new(),
            credit,
            callers: (0..plan.partitions).map(|_| Caller::default()).collect(),
            armed: None,
            is_healed: false,
            moved: (0, 0),
            seen: Vec::new(),
            summary: Summary::default(),
            problems: Vec::new(),
            told: Vec::new(),
            drawn: plan.clone(),
            plan,
            random,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let (now, heals_at) = (self.start, self.plan.heals_at);
        self.pictures.push(self.picture());
        self.metadata.want(now, &"t".into(), false);
        for index in 0..self.plan.partitions {
            let start = match self.plan.reset {
                _ if self.plan.begins_where_committed => Start::Committed,
                Reset::None => Start::Earliest,
                _ => Start::Reset,
            };
            self.offsets.assign(index as PartitionId, "t".into(), index as i32, 0, start);
            self.callers[index].landing = Some(Landing::new(start));
            self.watch(index);
        }
        let faults = self.plan.faults.clone();
        for (rate, what) in [
            (faults.moves, (|| What::Move) as fn() -> What),
            (faults.retention, || What::Retain),
            (faults.recreations, || What::Recreate),
            (faults.evictions, || What::Evict),
            (faults.relocations, || What::Relocate),
            (faults.seeks, || What::Seek),
            (faults.pauses, || What::Pause),
        ] {
            for _ in 0..(rate * heals_at).div_ceil(1000 * MS) {
                let at = self.random.below(heals_at);
                self.at(at, what());
            }
        }
        self.at(0, What::Append);
        self.at(0, What::Read);
        self.at(0, What::Wake);
        self.at(heals_at, What::Heal);
    }

    pub(super) fn run(mut self) -> Result<Summary, String> {
        while let Some(((at, _), what)) = self.agenda.pop_first() {
            self.now = at;
            self.summary.events += 1;
            if self.summary.events > MOST_EVENTS {
                return Err("P14: a busy loop".into());
            }
            self.step(what);
            (0..self.plan.partitions).for_each(|index| self.watch(index));
            self.pump();
            if !self.problems.is_empty() {
                self.problems.push("what was said before:".into());
                self.problems.append(&mut self.told);
                return Err(self.problems.join("\n"));
            }
            if self.is_healed && self.is_read() {
                break;
            }
            if self.moved.0 != self.summary.read || !self.is_healed {
                self.moved = (self.summary.read, self.now);
            }
            if self.now > self.moved.1 + LIVELY {
                let left = self.logs.iter().zip(&self.callers);
                let left = left.map(|(log, caller)| (caller.position, log.end(), caller.has_what_is_in(log)));
                let left = left.collect::<Vec<_>>();
                let told = self.told.join("\n");
                return Err(format!(
                    "P13: all has healed, and where callers are, logs end, and whether those have what was read: {left:?}\n{told}"
                ));
            }
        }
        self.judged()?;
        // Every reservation comes back.
        for node in 0..NODES {
            self.tasks[node].handle_lanes_lost();
            self.drain_task(node);
        }
        (0..self.plan.partitions).for_each(|index| self.drop_buffered(index));
        match self.credit.used() {
            0 => Ok(self.summary),
            left => Err(format!("P12: {left} bytes of credit never came back")),
        }
    }

    /// Who has read what is no more, and stands by chance where the log ends that took its place, is still to be told.
    fn is_read(&self) -> bool {
        let has_read =
            |(log, caller): (&Log, &Caller)| caller.position == Some(log.end()) && caller.has_what_is_in(log);
        self.logs.iter().zip(&self.callers).all(has_read)
    }

    pub(super) fn at(&mut self, at: Micros, what: What) {
        self.next_event += 1;
        self.agenda.insert((at, self.next_event), what);
    }

    pub(super) fn after(&mut self, delay: Micros, what: What) {
        self.at(self.now + delay, what);
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_micros(self.now)
    }

    fn micros(&self, at: Instant) -> Micros {
        at.saturating_duration_since(self.start).as_nanos().div_ceil(1000) as Micros
    }

    pub(super) fn delay(&mut self) -> Micros {
        self.random.between(self.plan.delay / 4, self.plan.delay)
    }

    /// Milliseconds, as records have them.
    pub(super) fn timestamp(&self) -> i64 {
        1_000_000 + (self.now / MS) as i64
    }

    pub(super) fn topic_id(&self) -> Uuid {
        Uuid([self.incarnation; 16])
    }

    pub(super) fn problem(&mut self, what: String) {
        self.problems.push(what);
    }

    fn step(&mut self, what: What) {
        let (now, random) = (self.instant(), self.random.next());
        match what {
            What::Append => {
                if !self.is_healed {
                    self.append();
                    self.after(self.plan.append, What::Append);
                }
            }
            What::Read => {
                (0..self.plan.partitions).for_each(|index| self.read(index));
                self.after(self.plan.read, What::Read);
            }
            What::Wake => self.armed = None,
            What::Tell(node, Tell::Add(route)) => self.tasks[node].add(route),
            What::Tell(node, Tell::Recall(id, generation)) => self.tasks[node].recall(id, generation),
            What::Tell(node, Tell::Pause(id, is_paused)) => self.tasks[node].pause(id, is_paused),
            What::Home { id, generation, next, seen, why } => {
                self.offsets.handle_released(now, id, generation, (next, seen), why, random);
            }
            What::Arrive { node, lane, token, request, until } => self.arrive(node, lane, token, &request, until),
            What::Answer { node, token, response } => {
                if self.tasks[node].sent(token).is_some() {
                    let muted = self.now + u64::from(response.throttle_time_ms.cast_unsigned()) * MS;
                    self.muted_until[node] = self.muted_until[node].map(|until| until.max(muted));
                    self.tasks[node].handle_answer(now, now, token, response, random);
                }
            }
            What::Fail { node, token } => self.tasks[node].handle_failed(now, token, random),
            What::Offsets { leader, asked, is_lost } => self.list(leader, asked, is_lost),
            What::Listed { asked, answer } => {
                self.offsets.handle_offset(now, asked.id, asked.generation, answer, random);
            }
            What::Epochs { leader, asked, is_lost } => self.end_epochs(leader, asked, is_lost),
            What::Ended { asked, answer } => {
                self.offsets.handle_epoch_end(now, asked.id, asked.generation, answer, random);
            }
            What::Picture { query, response } => {
                match response {
                    Some(response) => self.metadata.handle_answer(now, query, &response, random),
                    None => self.metadata.handle_failure(now, query, random),
                }
                self.offsets.handle_cluster(Arc::clone(self.metadata.cluster()));
            }
            What::Committed { id, generation, is_lost } => {
                let answer = if is_lost { Err(()) } else { Ok(self.callers[id as usize].committed) };
                self.offsets.handle_committed(now, id, generation, answer, random);
            }
            What::Heal => self.heal(),
            _ if self.is_healed => {}
            What::Move => self.move_leader(),
            What::Retain => {
                let index = self.random.index(self.plan.partitions);
                let at = self.random.below(self.logs[index].end() as u64 + 1);
                self.logs[index].retain_from(at as i64);
            }
            What::Recreate => {
                self.incarnation += 1;
                self.logs = (0..self.plan.partitions).map(|_| Log::new(self.random.index(NODES))).collect();
                self.pictures.push(self.picture());
            }
            What::Evict => {
                let node = self.random.index(NODES);
                self.sessions[node].evict();
            }
            What::Elect { index, leader } => {
                self.logs[index].elect(leader);
                self.pictures.push(self.picture());
            }
            What::Relocate => {
                let node = self.random.index(NODES);
                self.tasks[node].handle_lanes_lost();
            }
            What::Seek => {
                let index = self.random.index(self.plan.partitions);
                let end = self.logs[index].end() as u64;
                let start = match self.random.below(6) {
                    0 => Start::Earliest,
                    1 => Start::Latest,
                    3 if self.plan.reset != Reset::None => Start::Committed,
                    2 => Start::Time(1_000_000 + self.random.below(self.now / MS + 1) as i64),
                    _ => Start::At(self.random.below(end + 1) as i64),
                };
                self.seek(index, start);
            }
            What::Pause => {
                let index = self.random.index(self.plan.partitions);
                let is_paused = !self.callers[index].is_paused;
                self.pause(index, is_paused);
            }
        }
    }

    fn append(&mut self) {
        let (index, timestamp) = (self.random.index(self.plan.partitions), self.timestamp());
        let log = &mut self.logs[index];
        if self.random.chance(self.plan.faults.transactions) {
            log.transact(&mut self.truth, index, timestamp, &mut self.random);
        } else {
            let count = self.random.between(1, 4) as usize;
            log.append(&mut self.truth, index, count, timestamp);
        }
    }

    fn move_leader(&mut self) {
        let (index, leader) = (self.random.index(self.plan.partitions), self.random.index(NODES));
        if self.random.chance(self.plan.faults.unclean) {
            self.logs[index].elect_uncleanly(leader, &mut self.random);
        } else if self.random.chance(self.plan.faults.leaderless) {
            self.logs[index].leader = None;
            let delay = self.random.between(MS, 500 * MS);
            self.after(delay, What::Elect { index, leader });
        } else {
            self.logs[index].elect(leader);
        }
        self.pictures.push(self.picture());
        if self.random.chance(300) {
            self.refresh();
        }
    }

    /// Another leader, who has less, and whom the client will soon hear of.
    pub(super) fn overtake(&mut self, index: usize) {
        let leader = self.random.index(NODES);
        self.logs[index].elect_uncleanly(leader, &mut self.random);
        self.pictures.push(self.picture());
        self.refresh();
    }

    fn refresh(&mut self) {
        let now = self.instant();
        self.metadata.refresh(now);
    }

    fn heal(&mut self) {
        self.is_healed = true;
        self.plan.faults = Default::default();
        self.hung_until = [0; NODES];
        let timestamp = self.timestamp();
        for index in 0..self.plan.partitions {
            if self.logs[index].leader.is_none() {
                let leader = self.random.index(NODES);
                self.logs[index].elect(leader);
                self.pictures.push(self.picture());
            }
            self.logs[index].end_transaction(&mut self.truth, index, timestamp, true);
            self.logs[index].append(&mut self.truth, index, 3, timestamp);
            self.pause(index, false);
        }
    }

    /// Who leads what, as brokers tell it.
    fn picture(&self) -> MetadataResponse {
        let broker = |node_id| MetadataResponseBroker { node_id, host: "b".into(), port: 9092, ..Default::default() };
        let partitions = self.logs.iter().zip(0..).map(|(log, partition_index)| MetadataResponsePartition {
            partition_index,
            error_code: if log.leader.is_some() { ErrorCode::NONE } else { ErrorCode::LEADER_NOT_AVAILABLE },
            leader_id: log.leader.map_or(-1, |leader| leader as i32),
            leader_epoch: log.epoch,
            ..Default::default()
        });
        let topic = MetadataResponseTopic {
            name: Some("t".into()),
            topic_id: self.topic_id(),
            partitions: partitions.collect(),
            ..Default::default()
        };
        let brokers = (0..NODES as i32).map(broker).collect();
        MetadataResponse { brokers, topics: vec![topic], ..Default::default() }
    }

    /// Everything that can be done without waiting.
    fn pump(&mut self) {
        let now = self.instant();
        self.metadata_turn(now);
        self.offsets.handle_timeout(now);
        loop {
            while let Some(output) = self.offsets.poll_output(now) {
                self.carry_out(output);
            }
            (0..NODES).for_each(|node| self.fetch(node));
            self.metadata_turn(now);
            // What a task said may have changed what is to be done.
            let Some(output) = self.offsets.poll_output(now) else { break };
            self.carry_out(output);
        }
        let timers = self.tasks.iter().filter_map(Fetch::poll_timeout);
        let timers = timers.chain(self.offsets.poll_timeout()).chain(self.metadata.poll_timeout());
        let next = timers.min().map(|at| self.micros(at).max(self.now + 1));
        if let Some(next) = next.filter(|next| self.armed.is_none_or(|armed| *next < armed)) {
            self.armed = Some(next);
            self.at(next, What::Wake);
        }
    }

    fn metadata_turn(&mut self, now: Instant) {
        while let Some(query) = self.metadata.poll_query(now) {
            let delay = 2 * self.delay();
            let is_lost = self.random.chance(self.plan.faults.cut_before);
            let is_stale = self.random.chance(self.plan.faults.stale_metadata);
            // What another broker knew a while ago.
            let back = if is_stale { self.random.index(self.pictures.len().min(4)) } else { 0 };
            let response = (!is_lost).then(|| self.pictures[self.pictures.len() - 1 - back].clone());
            self.after(delay, What::Picture { query: query.id, response });
        }
    }

    /// As the manager of `consumer/` does it.
    fn carry_out(&mut self, output: Output) {
        if matches!(
            output,
            Output::Route { .. }
                | Output::Diverged { .. }
                | Output::Recreated { .. }
                | Output::Position { .. }
                | Output::Report { .. }
        ) {
            self.told.push(format!("{} ms: {output:?}", self.now / MS));
        }
        match output {
            Output::Route { leader, route } => self.tell(leader, Tell::Add(route)),
            Output::Recall { leader, id, generation } => self.tell(leader, Tell::Recall(id, generation)),
            Output::Pause { leader, id, is_paused } => self.tell(leader, Tell::Pause(id, is_paused)),
            Output::AskCommitted(asked) => {
                for (id, generation) in asked {
                    let (delay, is_lost) = (self.delay(), self.is_lost());
                    self.after(delay, What::Committed { id, generation, is_lost });
                }
            }
            Output::AskOffsets { leader, asked } => {
                let (delay, is_lost) = (self.delay(), self.is_lost());
                self.after(delay, What::Offsets { leader, asked, is_lost });
            }
            Output::AskEpochs { leader, asked } => {
                let (delay, is_lost) = (self.delay(), self.is_lost());
                self.after(delay, What::Epochs { leader, asked, is_lost });
            }
            Output::Diverged { id, generation, end } => self.diverged(id as usize, generation, end),
            Output::Recreated { id, generation } => {
                if self.callers[id as usize].generation == generation {
                    self.summary.recreated += 1;
                    self.seek(id as usize, Start::Earliest);
                }
            }
            Output::Position { id, generation, offset } => self.place(id as usize, generation, offset),
            Output::Report { id, generation, problem } => self.report(id as usize, generation, &problem),
            Output::Stale => self.refresh(),
        }
    }

    fn tell(&mut self, leader: i32, tell: Tell) {
        let node = leader as usize;
        let at = self.told_at[node].max(self.now + self.random.below(MS));
        self.told_at[node] = at;
        self.at(at, What::Tell(node, tell));
    }

    fn is_lost(&mut self) -> bool {
        let faults = &self.plan.faults;
        self.random.chance(faults.cut_before.max(faults.cut_after).max(faults.silent))
    }

    fn pause(&mut self, index: usize, is_paused: bool) {
        self.callers[index].is_paused = is_paused;
        self.offsets.pause(index as PartitionId, is_paused);
    }

    /// What a broker's task has to say, and to send.
    fn fetch(&mut self, node: usize) {
        let now = self.instant();
        self.tasks[node].handle_timeout(now);
        self.drain_task(node);
        while let Some(plan) = self.tasks[node].poll_fetch(now, &mut self.credit) {
            self.summary.requests += 1;
            let fetch::Plan { lane, token, request, max_wait, .. } = plan;
            let muted = self.muted_until[node][lane as usize].max(self.now);
            let delay = self.delay();
            let deadline = self.now + max_wait.as_micros() as Micros + self.plan.request_timeout;
            self.at(deadline, What::Fail { node, token });
            let until = muted + delay + max_wait.as_micros() as Micros;
            self.at(muted + delay, What::Arrive { node, lane, token, request, until });
        }
        self.drain_task(node);
    }

    fn drain_task(&mut self, node: usize) {
        let now = self.instant();
        while let Some(event) = self.tasks[node].poll_event() {
            match event {
                Event::Answered { id, generation, reserved, fetched, .. } => {
                    self.credit.give_back(id, reserved);
                    if let Some(fetched) = fetched {
                        self.deliver(id, generation, fetched);
                    }
                }
                Event::Released { id, generation, next, seen, why } => {
                    self.summary.followed += u64::from(matches!(why, Why::Preferred(_)));
                    let at = self.home_at[node].max(self.now + self.random.below(MS));
                    self.home_at[node] = at;
                    self.at(at, What::Home { id, generation, next, seen, why });
                }
                Event::Hint(hint) => {
                    if self.metadata.handle_hint(&hint) {
                        self.offsets.handle_cluster(Arc::clone(self.metadata.cluster()));
                    }
                }
                Event::Stale | Event::Refused(_) => self.metadata.refresh(now),
                Event::SessionOver(_) => {}
            }
        }
    }
}
