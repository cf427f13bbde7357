//! The driver: callers, leaders' tasks and the router, as `producer/` has them, and the clock.
//!
//! Everything that takes time is an event on one agenda. Tasks get their messages late and in bundles, as they do when
//! a runtime is busy; a stall holds back all that the client would do, as a paused process does.

mod router;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::broker;
use super::check::{Ledger, Outcome};
use super::network::{LANES, Network, Wire};
use super::{MS, Micros, Plan, Random, Summary};
use crate::machine::accumulator::{Accumulator, Config, Event, Hint, LaneId, Moving, PartitionId, PartitionName, Send};
use crate::machine::connection::Token;
use crate::machine::sequence::{self, Batch, Identity, PartitionQueue, Reason, Settled};
use crate::record::{BatchWriter, NO_HEADERS};
use crate::wire::message::Uuid;

/// The receipts of a batch: its records.
pub(super) type Receipts = Vec<u32>;

impl sequence::Receipts for Receipts {
    fn split_off(&mut self, index: usize) -> Self {
        Self::split_off(self, index)
    }

    fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

/// More than any history needs: one that takes more is a busy loop (P14).
const MOST_EVENTS: u64 = 50_000;
/// How long after one record a partition that is on the slow lane gets another, in the end; and how many at most: it comes
/// back after 64 quick answers in a row at the latest.
const AGAIN: Micros = 300 * MS;
const MOST_AGAIN: usize = 80;
/// How long after the last stall all counts as healed.
const AWAKE: Micros = 1000 * MS;
/// How often the router looks at partitions without a leader.
const SWEEP: Micros = 100 * MS;

#[derive(Debug)]
pub(super) enum What {
    /// A caller appends a record.
    Append,
    /// A leader's task looks into its inbox.
    Wake(usize),
    Timer(usize),
    /// Something on the way to or from a broker.
    Wire(Wire),
    /// A picture of who leads what, with the leaders' epochs, as it was when it was asked for.
    Picture(Vec<(Option<usize>, u32)>),
    RouterWake,
    Sweep,
    /// A leader's task hears of the identity.
    HearIdentity(usize),
    InitProducerId,
    Move,
    NewLeader(usize, usize),
    /// The leader that it had leads it again.
    Return(usize, usize),
    Stall,
    Expire,
    /// A follower of some partition stops for a while.
    Hold,
    CutIdle,
    /// A leader's task hears from a broker that it asked for something cheap.
    Probed(usize, LaneId, Token),
    Heal,
    /// Records that must arrive, since nothing goes wrong any more.
    Last,
    /// One more for a partition that is on the slow lane still, for the so-manieth time.
    Again(usize, usize),
    Stop,
}

enum Message {
    First { id: PartitionId, since: Instant },
    Sealed { id: PartitionId },
    Adopt { id: PartitionId, partition: Box<Moving<Receipts>> },
    Release { id: PartitionId },
    Hurry,
}

enum Request {
    Left { id: PartitionId, partition: Box<Moving<Receipts>> },
    Refresh,
    Hint(Hint),
    NewEpoch(Identity),
}

struct Task {
    accumulator: Accumulator<Receipts>,
    inbox: VecDeque<Message>,
    armed: Option<Instant>,
}

/// What callers and tasks share of a partition.
#[derive(Default)]
struct Shared {
    open: Option<(Receipts, Micros)>,
    sealed: VecDeque<Batch<Receipts>>,
    owner: Option<usize>,
}

enum Home {
    Router(Box<Moving<Receipts>>),
    Leader(usize),
    Leaving,
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) random: Random,
    start: Instant,
    pub(super) now: Micros,
    /// What is to come, by time, then in the order in which it was put here.
    agenda: BTreeMap<(Micros, u64), What>,
    next_event: u64,
    pub(super) logs: Vec<broker::Partition>,
    pub(super) network: Network,
    tasks: Vec<Task>,
    shared: Vec<Shared>,
    homes: Vec<Home>,
    /// What the router knows, and the newest leader epochs in it.
    picture: Vec<(Option<usize>, u32)>,
    requests: VecDeque<Request>,
    is_refreshing: bool,
    identity: Option<Identity>,
    next_id: i64,
    is_initializing: bool,
    stalled_until: Micros,
    /// (from, to)
    stalls: Vec<(Micros, Micros)>,
    pub(super) is_healed: bool,
    is_last: bool,
    is_stopped: bool,
    appended: u64,
    pub(super) ledger: Ledger,
}

impl World {
    pub(super) fn new(start: Instant, plan: Plan, mut random: Random) -> Self {
        let micros = Duration::from_micros;
        let config = Config {
            acks: -1,
            linger: micros(plan.linger),
            max_request_size: plan.max_request_size,
            max_in_flight: plan.max_in_flight,
            request_timeout: micros(plan.request_timeout),
        };
        let task = || Task {
            accumulator: Accumulator::new(config.clone(), plan.is_idempotent),
            inbox: VecDeque::new(),
            armed: None,
        };
        let home = |index| {
            let mut queue = PartitionQueue::new(sequence::Config {
                is_idempotent: plan.is_idempotent,
                window: plan.window,
                remembered: micros(plan.remembered),
                retry_backoff: micros(plan.backoff),
                retry_backoff_max: micros(plan.backoff * 8),
            });
            if plan.is_idempotent && plan.first_sequence != 0 {
                queue.resume(Identity { id: 1, epoch: plan.first_epoch, former_ids: 0 }, plan.first_sequence);
            }
            let name = PartitionName { topic: "t".into(), topic_id: Uuid::default(), index };
            Home::Router(Box::new(Moving { name, queue, had_leader: false }))
        };
        let mut world = Self {
            start,
            now: 0,
            agenda: BTreeMap::new(),
            next_event: 0,
            logs: (0..plan.partitions)
                .map(|_| broker::Partition::new(random.index(plan.nodes), plan.is_old_broker))
                .collect(),
            network: Network::new(plan.nodes),
            tasks: (0..plan.nodes).map(|_| task()).collect(),
            shared: (0..plan.partitions).map(|_| Shared::default()).collect(),
            homes: (0..plan.partitions as i32).map(home).collect(),
            picture: vec![(None, 0); plan.partitions],
            requests: VecDeque::new(),
            is_refreshing: false,
            identity: None,
            next_id: 1,
            is_initializing: false,
            stalled_until: 0,
            stalls: Vec::new(),
            is_healed: false,
            is_last: false,
            is_stopped: false,
            appended: 0,
            ledger: Ledger::new(&plan),
            plan,
            random,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let Plan { heals_at, is_stopped, ref faults, is_idempotent, .. } = self.plan;
        for (rate, what) in [
            (faults.moves, (|| What::Move) as fn() -> What),
            (faults.stalls, || What::Stall),
            (faults.expiries, || What::Expire),
            (faults.holds, || What::Hold),
            (faults.idle_cuts, || What::CutIdle),
        ] {
            for _ in 0..rate * heals_at.div_ceil(1000 * MS) {
                let at = self.random.below(heals_at);
                self.at(at, what());
            }
        }
        self.at(0, What::Append);
        self.at(0, What::Sweep);
        self.refresh();
        if is_idempotent {
            self.init_producer_id();
        }
        if is_stopped {
            let at = self.random.between(MS, heals_at);
            self.at(at, What::Stop);
        }
        self.at(heals_at, What::Heal);
    }

    pub(super) fn run(mut self) -> Result<Summary, String> {
        while let Some(((at, _), what)) = self.agenda.pop_first() {
            self.now = self.now.max(at);
            if self.now < self.stalled_until && !what.is_elsewhere() {
                self.at(self.stalled_until, what);
                continue;
            }
            self.ledger.summary.events += 1;
            if self.ledger.summary.events > MOST_EVENTS {
                return Err("P14: a busy loop".into());
            }
            self.step(what);
            if !self.ledger.problems.is_empty() {
                break;
            }
        }
        // Whatever was to be done at a moment of a stall may be done at its end, and then takes messages and sweeps.
        self.ledger.finish(&self.plan, &self.logs, &self.stalls, 2 * SWEEP)
    }

    pub(super) fn at(&mut self, at: Micros, what: What) {
        self.next_event += 1;
        self.agenda.insert((at, self.next_event), what);
    }

    pub(super) fn after(&mut self, delay: Micros, what: What) {
        self.at(self.now + delay, what);
    }

    pub(super) fn instant(&self) -> Instant {
        self.instant_of(self.now)
    }

    pub(super) fn instant_of(&self, at: Micros) -> Instant {
        self.start + Duration::from_micros(at)
    }

    /// Not before `at`: jitter knows nanoseconds.
    fn micros(&self, at: Instant) -> Micros {
        at.duration_since(self.start).as_nanos().div_ceil(1000) as Micros
    }

    fn step(&mut self, what: What) {
        match what {
            What::Append => self.append(),
            What::Wake(node) => self.wake(node),
            What::Timer(node) => self.timer(node),
            What::Wire(wire) => self.wire(wire),
            What::Picture(picture) => self.handle_picture(&picture),
            What::RouterWake => self.route(),
            What::Sweep => self.sweep(),
            What::HearIdentity(node) => {
                let (now, identity) = (self.instant(), self.identity);
                self.tasks[node].accumulator.set_identity(now, identity);
                self.pump(node);
            }
            What::InitProducerId => {
                self.is_initializing = false;
                let epoch = if self.next_id == 1 { self.plan.first_epoch } else { 0 };
                self.set_identity(Some(Identity { id: self.next_id, epoch, former_ids: self.next_id as u32 - 1 }));
                self.next_id += 1;
            }
            What::Move => self.move_leader(),
            What::NewLeader(partition, leader) => {
                // Or another one was elected meanwhile.
                let _ = self.logs[partition].leader.get_or_insert(leader);
            }
            What::Return(partition, leader) => {
                if !self.is_healed {
                    self.elect(partition, leader);
                }
            }
            What::CutIdle => self.cut_idle(),
            What::Stall => {
                let stall = self.random.between(MS, 3000 * MS);
                if !self.is_healed {
                    self.stalled_until = self.stalled_until.max(self.now + stall);
                    self.stalls.push((self.now, self.stalled_until));
                }
            }
            What::Expire => self.expire_producers(),
            What::Hold if self.is_healed => {}
            What::Hold => {
                let partition = self.random.index(self.plan.partitions);
                self.logs[partition].held_until = self.now + self.random.between(10 * MS, 3000 * MS);
            }
            What::Probed(node, lane, token) => {
                self.network.probed.insert((node * LANES + lane as usize, token));
                self.with_task(node, |task, now, _| task.handle_probe(now, lane, token, true));
            }
            What::Heal => self.heal(),
            // Whoever stood still until just now goes by what was true before: what it hears first may be of another leader.
            What::Last if self.now < self.stalled_until + AWAKE => self.at(self.stalled_until + AWAKE, What::Last),
            What::Last => {
                self.is_last = true;
                // A new epoch, and a leader that was not known, may take longer than a short time-out. And a stall may hold
                // back the moment at which the producer is closed until after this one.
                let is_patient = self.plan.delivery_timeout >= 1500 * MS && !self.plan.is_stopped;
                for partition in 0..self.plan.partitions {
                    self.append_to(partition, is_patient);
                    if is_patient {
                        self.after(AGAIN, What::Again(partition, 0));
                    }
                }
            }
            What::Again(partition, count) => {
                if self.ledger.line(partition) % LANES != LaneId::Slow as usize {
                    return;
                }
                if count >= MOST_AGAIN {
                    self.ledger.problems.push(format!("partition {partition} stays on the slow lane"));
                    return;
                }
                self.append_to(partition, true);
                self.after(AGAIN, What::Again(partition, count + 1));
            }
            What::Stop => self.stop(),
        }
    }

    fn append(&mut self) {
        if self.is_stopped || self.appended >= self.plan.records {
            return;
        }
        self.appended += 1;
        let partition = self.random.index(self.plan.partitions);
        self.append_to(partition, false);
        if self.random.chance(20) {
            (0..self.plan.nodes).for_each(|node| self.tell(node, Message::Hurry));
        }
        self.after(self.plan.pause, What::Append);
    }

    fn append_to(&mut self, partition: usize, must_arrive: bool) {
        if self.is_stopped {
            return;
        }
        let (now, id) = (self.now, partition as PartitionId);
        let shared = &mut self.shared[partition];
        let is_first = shared.open.is_none();
        let (records, since) = shared.open.get_or_insert_with(|| (Vec::new(), now));
        // In a batch that was begun before, it shares that one's deadline.
        records.push(self.ledger.enqueue(partition, *since, must_arrive && is_first));
        let is_full = records.len() >= self.plan.batch_records;
        let (owner, since) = (shared.owner, self.start + Duration::from_micros(*since));
        let mut messages = Vec::new();
        if is_first {
            messages.push(Message::First { id, since });
        }
        if is_full {
            self.seal(partition);
            if self.shared[partition].sealed.len() == 1 {
                messages.push(Message::Sealed { id });
            }
        }
        if let Some(owner) = owner {
            messages.into_iter().for_each(|message| self.tell(owner, message));
        }
    }

    fn seal(&mut self, partition: usize) {
        let Some((records, since)) = self.shared[partition].open.take() else { return };
        let mut writer = BatchWriter::new(128);
        for record in &records {
            // A record is known on the wire by its value.
            let _ = writer.append(0, None, Some(&record.to_be_bytes()), NO_HEADERS);
        }
        let deadline = self.start + Duration::from_micros(since + self.plan.delivery_timeout);
        self.shared[partition].sealed.push_back(Batch::new(writer.finish(), records, deadline));
    }

    fn take(&mut self, id: PartitionId) -> VecDeque<Batch<Receipts>> {
        self.seal(id as usize);
        self.take_sealed(id)
    }

    fn take_sealed(&mut self, id: PartitionId) -> VecDeque<Batch<Receipts>> {
        std::mem::take(&mut self.shared[id as usize].sealed)
    }

    fn tell(&mut self, node: usize, message: Message) {
        self.tasks[node].inbox.push_back(message);
        let delay = self.random.below(MS / 4);
        self.after(delay, What::Wake(node));
    }

    /// A leader's task: everything in its inbox, then everything that follows.
    fn wake(&mut self, node: usize) {
        let now = self.instant();
        while let Some(message) = self.tasks[node].inbox.pop_front() {
            match message {
                Message::First { id, since } => self.tasks[node].accumulator.handle_first(now, id, since),
                Message::Sealed { id } => self.fetch_sealed(node, id),
                Message::Adopt { id, partition } => {
                    let shared = &mut self.shared[id as usize];
                    shared.owner = Some(node);
                    let since = shared.open.as_ref().map(|(_, since)| self.start + Duration::from_micros(*since));
                    self.tasks[node].accumulator.adopt(now, id, *partition, since);
                    self.fetch_sealed(node, id);
                }
                Message::Release { id } => {
                    self.tasks[node].accumulator.release(now, id);
                    if self.plan.is_idempotent && self.tasks[node].accumulator.has(id) {
                        self.ledger.problems.push(format!("partition {id} waits for its old leader"));
                    }
                }
                Message::Hurry => self.tasks[node].accumulator.hurry(now),
            }
        }
        self.pump(node);
    }

    fn fetch_sealed(&mut self, node: usize, id: PartitionId) {
        if self.tasks[node].accumulator.has(id) {
            let now = self.instant();
            for batch in self.take_sealed(id) {
                self.tasks[node].accumulator.push(now, id, batch);
            }
        }
    }

    fn timer(&mut self, node: usize) {
        let now = self.instant();
        let accumulator = &mut self.tasks[node].accumulator;
        let before = accumulator.poll_timeout();
        accumulator.handle_timeout(now);
        let after = accumulator.poll_timeout();
        if before.is_none_or(|before| before > now) && before != after {
            self.ledger.problems.push("the contract: a spurious timer did something".into());
        }
        if after.is_some_and(|after| after <= now) {
            self.ledger.problems.push("the contract: a timer is due again at once".into());
        }
        self.pump(node);
    }

    /// Everything that a leader's task can do without waiting.
    pub(super) fn pump(&mut self, node: usize) {
        let now = self.instant();
        while let Some(id) = self.tasks[node].accumulator.poll_take() {
            for batch in self.take(id) {
                self.tasks[node].accumulator.push(now, id, batch);
            }
            self.tasks[node].accumulator.handle_taken(now, id);
        }
        // Behind what is to be cut.
        self.drain_events(node);
        let accumulator = &mut self.tasks[node].accumulator;
        let requests: Vec<_> = std::iter::from_fn(|| accumulator.poll_request(now)).collect();
        // Before what is sent, so that the ledger knows by now what ended before.
        self.drain_events(node);
        for Send { lane, token, request, .. } in requests {
            self.send(node, lane, token, &request);
        }
        let timeout = self.tasks[node].accumulator.poll_timeout();
        if timeout != self.tasks[node].armed {
            self.tasks[node].armed = timeout;
            if let Some(timeout) = timeout {
                let at = self.micros(timeout);
                self.at(at.max(self.now), What::Timer(node));
            }
        }
    }

    fn drain_events(&mut self, node: usize) {
        while let Some(event) = self.tasks[node].accumulator.poll_event() {
            match event {
                Event::Settled { settled, .. } => self.settle(settled),
                Event::Refresh | Event::Overdue => self.ask(Request::Refresh),
                Event::Cut(lane) => self.cut(node, lane),
                Event::Open(lane) => self.open(node, lane),
                Event::Probe { lane, token } => {
                    let delay = self.random.between(self.plan.delay / 2, 2 * self.plan.delay);
                    self.at(self.network.awake_at(node, self.now) + delay, What::Probed(node, lane, token));
                }
                Event::Hint(hint) => {
                    self.ledger.summary.hints += 1;
                    self.ask(Request::Hint(hint));
                }
                Event::NeedsNewerThan(spent) => self.ask(Request::NewEpoch(spent)),
                Event::Left { id, partition } => self.leave(node, id, partition),
            }
        }
    }

    fn leave(&mut self, node: usize, id: PartitionId, mut partition: Box<Moving<Receipts>>) {
        self.shared[id as usize].owner = None;
        for batch in self.take_sealed(id) {
            partition.queue.push(batch);
        }
        for records in self.network.open_requests(node, id as usize) {
            self.ledger.leave_open(&records);
        }
        self.ledger.recall(id as usize);
        self.network.leave(node, id as usize);
        self.ask(Request::Left { id, partition });
    }

    fn settle(&mut self, settled: Settled<Receipts>) {
        let outcome = match settled.result {
            Ok(placed) => Outcome::Acknowledged(placed.base_offset),
            Err(failure) if failure.maybe_written => Outcome::Unknown,
            Err(_) => Outcome::NotWritten,
        };
        self.ledger.settle(self.now, &settled.receipts, outcome);
    }

    /// What came of a request, told to the task that sent it.
    pub(super) fn with_task(&mut self, node: usize, act: impl FnOnce(&mut Accumulator<Receipts>, Instant, u64)) {
        let (now, random) = (self.instant(), self.random.next());
        act(&mut self.tasks[node].accumulator, now, random);
        self.pump(node);
    }

    fn move_leader(&mut self) {
        if self.is_healed {
            return;
        }
        let partition = self.random.index(self.plan.partitions);
        let leader = self.random.index(self.plan.nodes);
        let former = self.logs[partition].leader;
        self.elect(partition, leader);
        if self.random.chance(self.plan.faults.leaderless) {
            self.logs[partition].leader = None;
            let gap = self.random.between(MS, 800 * MS);
            self.after(gap, What::NewLeader(partition, leader));
        } else if let Some(former) = former.filter(|_| self.random.chance(self.plan.faults.returns)) {
            let soon = self.random.between(MS, 100 * MS);
            self.after(soon, What::Return(partition, former));
        }
    }

    fn elect(&mut self, partition: usize, leader: usize) {
        let log = &mut self.logs[partition];
        log.leader_epoch += 1;
        log.leader = Some(leader);
        // The picture may come before any broker has refused anything.
        if self.random.chance(500) {
            self.refresh();
        }
    }

    /// Only what no copy of a batch is on its way to: a day without records is longer than any request.
    fn expire_producers(&mut self) {
        for partition in 0..self.plan.partitions {
            if self.ledger.is_quiet(partition, self.now - self.now.min(self.plan.remembered))
                && !self.network.is_under_way(partition)
            {
                self.logs[partition].forget_producers();
            }
        }
    }

    fn heal(&mut self) {
        self.is_healed = true;
        self.plan.faults = Default::default();
        self.network.heal();
        self.logs.iter_mut().for_each(|log| log.held_until = 0);
        self.is_refreshing = false;
        self.refresh();
        // Leaders that are missing come back within this time, and every request that is under way ends.
        self.after(self.plan.request_timeout + 2500 * MS, What::Last);
    }

    fn stop(&mut self) {
        let now = self.instant();
        self.is_stopped = true;
        for node in 0..self.plan.nodes {
            self.network.open_everything(node).iter().for_each(|records| self.ledger.leave_open(records));
            self.tasks[node].accumulator.fail_all(now, &Reason::Closed);
            for id in self.tasks[node].accumulator.partitions().collect::<Vec<_>>() {
                for batch in self.take(id) {
                    self.tasks[node].accumulator.push(now, id, batch);
                }
            }
            self.tasks[node].accumulator.fail_all(now, &Reason::Closed);
            self.ledger.close();
            self.pump(node);
            for message in std::mem::take(&mut self.tasks[node].inbox) {
                if let Message::Adopt { id, partition } = message {
                    self.homes[id as usize] = Home::Router(partition);
                }
            }
        }
        while let Some(request) = self.requests.pop_front() {
            if let Request::Left { id, partition } = request {
                self.homes[id as usize] = Home::Router(partition);
            }
        }
        for id in 0..self.plan.partitions as PartitionId {
            let taken = self.take(id);
            if let Home::Router(moving) = &mut self.homes[id as usize] {
                taken.into_iter().for_each(|batch| moving.queue.push(batch));
                for settled in moving.queue.fail_all(&Reason::Closed) {
                    self.settle(settled);
                }
            }
        }
    }
}

impl What {
    /// It happens at brokers or between them, whatever the client does.
    fn is_elsewhere(&self) -> bool {
        match self {
            Self::Move
            | Self::NewLeader(..)
            | Self::Return(..)
            | Self::Stall
            | Self::Expire
            | Self::Hold
            | Self::Heal => true,
            Self::Wire(wire) => wire.is_elsewhere(),
            _ => false,
        }
    }
}
