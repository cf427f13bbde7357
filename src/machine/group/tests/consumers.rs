//! Members under KIP-848 and a small coordinator, in virtual time, with faults drawn from a seed: answers and requests that
//! are lost, coordinators that move, members that stop for longer than their session or do not poll, members that come, go,
//! are killed and come back under their instance ids, subscriptions that change and topics that grow.
//!
//! After every step: what a listener hears does not overlap, nothing is given back that the coordinator has not asked for, and
//! no member sends more than a few requests a second, or two heartbeats at once, or none in a session. Who does not poll for
//! too long has nothing, and a static member that will be back does not leave for good. After the last fault every partition
//! that is subscribed to has an owner. Then the judge of runs on real clusters looks at it all, as for the classic protocol;
//! no partition had two owners among those whom the coordinator counted as members (it alone knows how long a session is), a
//! listener that gives partitions back counting as one.
//!
//! ```text
//!   MILENA_GROUP_SEEDS=0..1000 cargo test --release --lib machine::group::tests      more of them
//!   MILENA_GROUP_SEEDS=30 cargo test --lib machine::group::tests                     one
//! ```

use super::consumers_coordinator::{Coordinator, Held};
use super::*;
use crate::wire::message::Uuid;

const INTERVAL: Duration = ms(1_000);
const SESSION_848: Duration = ms(6_000);
/// How many requests a member may send in a second: a rebalance takes some, and so does a coordinator that is sought.
const MOST_REQUESTS: usize = 12;

struct Consuming {
    machine: Consumer,
    ledger: Ledger,
    instance: Option<Arc<str>>,
    /// How long the listener takes once what is given back is committed.
    committing: Option<Duration>,
    /// When the listener returns.
    listening: Option<Instant>,
    /// What is given back meanwhile.
    returning: Vec<TopicPartition>,
    /// What the heartbeats are called that were not answered yet.
    beating: BTreeSet<u64>,
    last_request: Instant,
    /// Since when the user works.
    since: Instant,
    leaves_for_good: bool,
    /// Stopped until then: nothing of it runs.
    paused: Option<Instant>,
    /// The user works until then, and does not poll.
    working: Option<Instant>,
    topics: BTreeSet<Arc<str>>,
    /// It has asked to have nothing, and has something to give back. It may have asked for some of it again since.
    has_unsubscribed: bool,
    closing: bool,
    /// What it was told to have, the last time.
    told: Held,
    positions: BTreeMap<TopicPartition, i64>,
    commits: u64,
    /// What it may commit, as of which ownership.
    seen: Option<(u64, BTreeSet<TopicPartition>)>,
    /// When it has sent what.
    requests: Vec<Instant>,
}

enum Mail {
    Found(usize),
    Asked(usize, Send),
    Answered(usize, u64, Answer),
    Committing(usize, CommitRequest),
    Committed(usize, u64, Result<BTreeMap<TopicPartition, ErrorCode>, ()>),
    /// Metadata, as it is when it arrives.
    Named(usize),
}

struct World848 {
    now: Instant,
    start: Instant,
    rng: Rng,
    members: BTreeMap<usize, Consuming>,
    next_member: usize,
    coordinator: Coordinator,
    mail: Mailbox<Mail>,
    faulty: Instant,
    loss: u32,
    /// Static members that were killed, or closed for a while, and when they are back.
    absent: Vec<(Instant, Arc<str>)>,
    rebalances: u64,
    notes: Notes,
    busiest: usize,
}

fn uuid(byte: u8) -> Uuid {
    Uuid([byte; 16])
}

impl World848 {
    fn new(seed: u64) -> Self {
        let mut world = Self::calm(seed);
        world.faulty = world.start + ms(FAULTS);
        for _ in 0..world.rng.usize(2..6) {
            world.join(None);
        }
        for instance in ["i", "j"].iter().take(world.rng.usize(..3)) {
            world.join(Some((*instance).into()));
        }
        world
    }

    /// Without members and faults.
    fn calm(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let start = Instant::now();
        let loss = [0, 5, 30][rng.usize(..3)];
        let mut coordinator = Coordinator::new(SESSION_848, INTERVAL, seed.is_multiple_of(2));
        coordinator.topics = BTreeMap::from([("t".into(), (uuid(1), 7)), ("u".into(), (uuid(2), 4))]);
        Self {
            now: start,
            start,
            rng,
            members: BTreeMap::new(),
            next_member: 0,
            coordinator,
            mail: Mailbox::default(),
            faulty: start,
            loss,
            absent: Vec::new(),
            rebalances: 0,
            notes: Notes::default(),
            busiest: 0,
        }
    }

    fn is_faulty(&self) -> bool {
        self.now < self.faulty
    }

    fn new_id(&mut self) -> Arc<str> {
        format!("m{}-{:x}", self.next_member, self.rng.u64(..)).into()
    }

    fn join(&mut self, instance: Option<Arc<str>>) {
        let config = ConsumerConfig {
            group: "g".into(),
            instance_id: instance.clone(),
            rack: None,
            assignor: None,
            max_poll_interval: ms(20_000),
            request_timeout: ms(3_000),
            retry_backoff: ms(50),
            retry_backoff_max: ms(500),
        };
        let mut machine = Consumer::new(config, self.new_id());
        let topics: BTreeSet<_> = self.coordinator.topics.keys().cloned().collect();
        machine.subscribe(self.now, topics.clone(), None);
        machine.poll_begins();
        let member = Consuming {
            machine,
            ledger: Ledger::new(ms(50), ms(500)),
            instance,
            committing: None,
            listening: None,
            returning: Vec::new(),
            beating: BTreeSet::new(),
            last_request: self.now,
            since: self.now,
            leaves_for_good: false,
            paused: None,
            working: None,
            topics,
            has_unsubscribed: false,
            closing: false,
            told: Held::new(),
            positions: BTreeMap::new(),
            commits: 0,
            seen: None,
            requests: Vec::new(),
        };
        self.members.insert(self.next_member, member);
        self.next_member += 1;
    }

    /// On its way, unless it is lost.
    fn mail(&mut self, mail: Mail) {
        let delay = ms(self.rng.u64(1..SLOWEST));
        if !self.is_faulty() || self.rng.u32(..1_000) >= self.loss {
            self.mail.post(self.now + delay, mail);
        }
    }

    fn run(&mut self, until: u64) {
        while self.now - self.start < ms(until) {
            self.step();
            self.check();
        }
    }

    fn run_for(&mut self, millis: u64) {
        self.run((self.now - self.start).as_millis() as u64 + millis);
    }

    /// As for the classic protocol. A static member is back soon.
    fn come_and_go(&mut self) {
        let begin = self.notes.len();
        for _ in 0..12 {
            if self.rng.bool() && self.members.len() < 6 {
                self.join(None);
            } else if self.members.values().filter(|member| !member.closing).count() > 1
                && let Some(member) = self.any_member()
                && !member.closing
            {
                member.closing = true;
                let leaves = member.instance.is_none();
                member.leaves_for_good = leaves;
                member.machine.close(leaves);
            }
            let pause = a_while(&mut self.rng);
            self.run_for(pause);
        }
        self.run_for(30_000);
        self.check_all_are_owned();
        self.notes.assert_once_since(begin);
    }

    fn step(&mut self) {
        self.now += ms(self.rng.u64(1..20));
        if self.is_faulty() {
            self.disturb();
        }
        let now = self.now;
        let (back, absent) = std::mem::take(&mut self.absent).into_iter().partition(|(at, _)| *at <= now);
        self.absent = absent;
        let back: Vec<(Instant, Arc<str>)> = back;
        back.into_iter().for_each(|(_, instance)| self.join(Some(instance)));
        self.coordinator.handle_time(now);
        for mail in self.mail.take_due(now) {
            self.deliver(mail);
        }
        let ids: Vec<_> = self.members.keys().copied().collect();
        for id in ids {
            self.drive(id);
        }
    }

    fn disturb(&mut self) {
        match self.rng.u32(..800) {
            0 => self.coordinator.fail_over(self.now),
            1 | 2 => {
                let until = self.now + ms([500, 4_000, 9_000, 30_000][self.rng.usize(..4)]);
                if let Some(member) = self.any_member() {
                    member.paused = Some(until);
                }
            }
            3 if self.members.len() < 7 => self.join(None),
            4 if self.members.len() > 1 => {
                let leaves = self.rng.bool();
                if let Some(member) = self.any_member() {
                    // Who is not static, and does not leave, falls silent.
                    member.closing = true;
                    member.leaves_for_good = leaves;
                    member.machine.close(leaves);
                }
            }
            // Gone without a word.
            5 if self.members.len() > 1 => {
                let id = *self.members.keys().next().unwrap();
                self.gone(id);
            }
            6 if self.coordinator.topics["t"].1 < 12 => self.coordinator.grow("t"),
            7 | 8 => {
                let now = self.now;
                let topics: BTreeSet<Arc<str>> = match self.rng.usize(..4) {
                    0 => [].into(),
                    1 => ["t".into()].into(),
                    2 => ["u".into()].into(),
                    _ => ["t".into(), "u".into()].into(),
                };
                if let Some(member) = self.any_member() {
                    member.topics.clone_from(&topics);
                    member.has_unsubscribed |= topics.is_empty() && !member.positions.is_empty();
                    // A membership that begins has all its time.
                    member.since = now;
                    member.machine.subscribe(now, topics, None);
                }
            }
            9 => {
                let now = self.now;
                let until = now + ms([5_000, 25_000][self.rng.usize(..2)]);
                if let Some(member) = self.any_member() {
                    (member.working, member.since) = (Some(until), now);
                    member.machine.poll_ends(now);
                }
            }
            _ => {}
        }
    }

    fn gone(&mut self, id: usize) {
        let back = self.now + ms(self.rng.u64(100..10_000));
        let instance = self.members.remove(&id).and_then(|member| member.instance);
        self.absent.extend(instance.map(|instance| (back, instance)));
        if self.members.is_empty() && self.absent.is_empty() {
            self.join(None);
        }
    }

    /// One that runs.
    fn any_member(&mut self) -> Option<&mut Consuming> {
        let ids: Vec<_> = self.members.keys().copied().collect();
        if ids.is_empty() {
            return None;
        }
        let id = ids[self.rng.usize(..ids.len())];
        self.awake(id)
    }

    fn deliver(&mut self, mail: Mail) {
        let random = self.rng.u64(..);
        let now = self.now;
        match mail {
            Mail::Asked(id, Send { token, call: Call::Group(request), .. }) => {
                let response = self.coordinator.heartbeat(now, request);
                self.mail(Mail::Answered(id, token, Answer::Group(response)));
            }
            Mail::Asked(_, other) => panic!("{other:?}"),
            Mail::Committing(id, request) => {
                let (token, entries) = (request.token, request.entries.clone());
                let codes = self.coordinator.commit(now, request);
                note_commit(&mut self.notes, now - self.start, &entries, &codes);
                self.mail(Mail::Committed(id, token, Ok(codes)));
            }
            // Whom it is for may be stopped: it reads that later.
            Mail::Found(id) => match self.awake(id) {
                Some(member) => member.machine.handle_coordinator(now, Ok(1), random),
                None => self.later(id, mail),
            },
            Mail::Answered(id, token, ref answer) => match self.awake(id) {
                Some(member) => {
                    member.beating.remove(&token);
                    if let Answer::Group(response) = answer
                        && let Some(assignment) = &response.assignment
                    {
                        let of = |topic: &crate::wire::coordinator::consumer_group_heartbeat::TopicPartitions| {
                            let id = topic.topic_id;
                            topic.partitions.clone().into_iter().map(move |index| (id, index))
                        };
                        member.told = assignment.topic_partitions.iter().flat_map(of).collect();
                    }
                    member.machine.handle_answer(now, token, answer.clone(), random);
                }
                None => self.later(id, mail),
            },
            Mail::Committed(id, token, ref answer) => match self.awake(id) {
                Some(member) => member.ledger.handle_answer(now, token, answer.clone(), random),
                None => self.later(id, mail),
            },
            Mail::Named(id) => {
                let names = self.coordinator.topics.iter().map(|(name, (id, _))| (*id, Arc::clone(name))).collect();
                match self.awake(id) {
                    Some(member) => member.machine.handle_names(&names),
                    None => self.later(id, mail),
                }
            }
        }
    }

    /// Its time is up before anything else of it happens.
    fn awake(&mut self, id: usize) -> Option<&mut Consuming> {
        let now = self.now;
        let member = self.members.get_mut(&id).filter(|member| member.paused.is_none_or(|until| until <= now))?;
        member.paused = None;
        member.machine.handle_timeout(now);
        Some(member)
    }

    fn later(&mut self, id: usize, mail: Mail) {
        if let Some(until) = self.members.get(&id).and_then(|member| member.paused) {
            self.mail.post(until, mail);
        }
    }

    /// As a driver does it; see the module's documentation.
    fn drive(&mut self, id: usize) {
        let now = self.now;
        let (work, commits) = (self.rng.u8(..16) == 0, self.rng.bool());
        // Most listeners are quick, and some take longer than a heartbeat's interval.
        let slowest = if self.rng.u8(..8) == 0 { 4_000 } else { 300 };
        let listens = ms(self.rng.u64(..slowest));
        let new_id = self.new_id();
        let Some(member) = self.awake(id) else { return };
        if member.working.is_some_and(|until| until <= now) {
            member.working = None;
            member.machine.poll_begins();
        }
        if member.listening.is_some_and(|until| until <= now) {
            member.listening = None;
            member.returning.clear();
            member.machine.acknowledge();
        }
        let mut outputs = Vec::new();
        while let Some(output) = member.machine.poll_output(now) {
            match output {
                Output::Changed(ref change) => {
                    let is_quiet = member.listening.is_none() && member.committing.is_none();
                    assert!(is_quiet, "a listener that has not returned is called again");
                    match change {
                        Change::Revoked(gone) => {
                            member.commits += 1;
                            member.ledger.commit(last_commit(member.commits, now, &member.positions, gone));
                            (member.committing, member.returning) = (Some(listens), gone.clone());
                        }
                        Change::Assigned(_) | Change::Lost(_) => member.listening = Some(now + listens),
                    }
                }
                Output::NeedMemberId => member.machine.set_member_id(Arc::clone(&new_id)),
                _ => {}
            }
            outputs.push(output);
        }
        let due = member.machine.poll_timeout();
        assert!(due.is_none_or(|at| at > now), "due, and nothing comes of it: {outputs:?}");
        member.ledger.set_standing(member.machine.standing());
        let (ownership, committable) = (member.machine.ownership(), member.machine.committable());
        settle_ownership(&mut member.ledger, &mut member.seen, ownership, committable);
        let mut dealt_with = Vec::new();
        if work {
            member.commits += 1;
            let note = |partition: &TopicPartition, offset| dealt_with.push((partition.clone(), offset));
            let entries = work_on(&mut member.positions, member.machine.owned(), note, |_, position| position);
            if commits {
                let deadline = now + ms(10_000);
                member.ledger.commit(Commit { id: member.commits, entries, may_go_back: false, deadline });
            }
        }
        member.ledger.handle_timeout(now);
        while let Some(verdict) = member.ledger.poll_verdict() {
            if let Verdict::Membership(identity, code) = verdict {
                member.machine.handle_refused_commit(&identity, code);
            }
        }
        while member.ledger.poll_outcome().is_some() {}
        let request = member.ledger.poll_request(now);
        if let Some(listens) = member.committing.take_if(|_| !member.ledger.holds(&member.returning)) {
            member.listening = Some(now + listens);
        }
        dealt_with.iter().for_each(|(partition, offset)| self.notes.dealt_with(id, partition, *offset));
        self.carry_out(id, outputs, request);
    }

    fn carry_out(&mut self, id: usize, outputs: Vec<Output>, commit: Option<CommitRequest>) {
        if let Some(request) = commit {
            self.mail.post(self.now + ms(3_000), Mail::Committed(id, request.token, Err(())));
            self.mail(Mail::Committing(id, request));
        }
        let now = self.now;
        for output in outputs {
            match output {
                Output::FindCoordinator => {
                    self.members.get_mut(&id).unwrap().requests.push(now);
                    self.mail.post(self.now + ms(SLOWEST / 2), Mail::Found(id));
                }
                Output::Send(send) => {
                    self.check_heartbeat(id, &send);
                    self.mail.post(self.now + send.timeout, Mail::Answered(id, send.token, Answer::Lost));
                    self.mail(Mail::Asked(id, send));
                }
                Output::Resolve(_) => {
                    // Metadata may know of a topic later than the coordinator.
                    let slowest = if self.rng.u8(..8) == 0 { 3_000 } else { SLOWEST };
                    let at = self.now + ms(self.rng.u64(1..slowest));
                    self.mail.post(at, Mail::Named(id));
                }
                Output::Changed(Change::Assigned(assigned)) => {
                    self.rebalances += 1;
                    let committed = &self.coordinator.committed;
                    let member = self.members.get_mut(&id).unwrap();
                    for partition in assigned {
                        let offset = committed.get(&partition).copied().unwrap_or(0);
                        self.notes.begin(id, &partition);
                        member.positions.insert(partition, offset);
                    }
                }
                Output::Changed(Change::Revoked(gone)) => {
                    self.check_was_asked_for(id, &gone);
                    let member = self.members.get_mut(&id).unwrap();
                    member.positions.retain(|partition, _| !gone.contains(partition));
                    member.has_unsubscribed = false;
                }
                Output::Changed(Change::Lost(gone)) => {
                    assert!(self.is_faulty_or_was(), "{id} loses {gone:?} where nothing has gone wrong");
                    let member = self.members.get_mut(&id).unwrap();
                    member.positions.retain(|partition, _| !gone.contains(partition));
                }
                Output::Report(_) | Output::NeedMemberId => {}
                Output::Describe(topics) => panic!("{topics:?}"),
                Output::Failed(problem) => panic!("{problem:?}"),
                Output::Closed => {
                    assert!(self.members[&id].closing);
                    self.gone(id);
                }
            }
        }
    }

    /// One at a time, but for the last: who leaves does not wait.
    fn check_heartbeat(&mut self, id: usize, send: &Send) {
        let now = self.now;
        let Call::Group(request) = &send.call else { panic!("{send:?}") };
        let member = self.members.get_mut(&id).unwrap();
        let is_last = request.member_epoch < 0;
        assert!(is_last || member.beating.is_empty(), "{id} sends a heartbeat, and one is on its way");
        let is_for_good = request.member_epoch == -1 && request.instance_id.is_some();
        assert!(!is_for_good || member.leaves_for_good, "{id} will be back, and leaves for good");
        if is_last {
            member.beating.clear();
        } else {
            member.beating.insert(send.token);
        }
        member.last_request = now;
        member.requests.push(now);
    }

    fn is_faulty_or_was(&self) -> bool {
        self.faulty > self.start
    }

    /// Partitions that do not move keep flowing: only what the coordinator has taken away is given back, or all by who goes.
    fn check_was_asked_for(&self, id: usize, gone: &[TopicPartition]) {
        let member = &self.members[&id];
        if member.closing || member.has_unsubscribed {
            return;
        }
        for partition in gone {
            let (topic, _) = self.coordinator.topics[&partition.topic];
            let keeps = member.told.contains(&(topic, partition.partition));
            assert!(!keeps, "{id} gives back {partition}, and was not asked to");
            let member_id = member.machine.identity().member_id;
            let wants = self.coordinator.wants(&member_id, &partition.topic, partition.partition);
            assert!(!wants || self.is_faulty_or_was(), "{id} gives back {partition}, which did not move");
        }
    }

    fn check(&mut self) {
        // Whom the coordinator has given up hears of it with the next heartbeat; its commits are refused until then.
        let members = self.members.iter().map(|(id, member)| {
            let is_member = self.coordinator.knows(&member.machine.identity().member_id);
            let mut has = member.machine.committable();
            has.extend(member.returning.iter().cloned());
            (*id, is_member && member.paused.is_none(), has)
        });
        self.notes.step(self.now - self.start, members);
        // Some time after the last fault everybody has heard of it.
        let is_quiet = self.now > self.faulty + ms(40_000);
        for (id, member) in &mut self.members {
            if is_quiet && !member.machine.owned().is_empty() {
                let identity = member.machine.identity();
                assert!(self.coordinator.knows(&identity.member_id), "{id} has something, and is no member");
            }
            // It is given up after 20 s, and looked at no later than the next step.
            let is_idle = member.working.is_some() && !member.closing && self.now > member.since + ms(20_100);
            let has_something = !member.machine.owned().is_empty();
            assert!(!is_idle || member.paused.is_some() || !has_something, "{id} does not poll, and has something");
            member.requests.retain(|at| *at + ms(1_000) > self.now);
            let count = member.requests.len();
            self.busiest = self.busiest.max(count);
            assert!(
                count <= MOST_REQUESTS,
                "{id} sends {count} requests in a second, after {:?}",
                self.now - self.start
            );
        }
    }

    fn check_all_are_owned(&self) {
        assert!(self.members.values().all(|member| !member.closing), "a member that was closed is still there");
        for (topic, (_, count)) in &self.coordinator.topics {
            let wanted = usize::from(self.members.values().any(|member| member.topics.contains(topic)));
            for index in 0..*count {
                let partition = TopicPartition::new(Arc::clone(topic), index);
                let owners = self.members.values().filter(|member| member.machine.owned().contains(&partition));
                assert_eq!(owners.count(), wanted, "{partition} after all faults");
            }
        }
    }
}

/// How many rebalances there were, how many requests at most in a second, and what the judge says.
fn history(seed: u64) -> (u64, usize, judge::Verdict) {
    let mut world = World848::new(seed);
    world.run(END);
    world.check_all_are_owned();
    // A heartbeat in its interval, and no more.
    let idle: Vec<_> = world.members.values().map(|member| member.requests.len()).collect();
    assert!(idle.iter().all(|count| *count <= 2), "{idle:?} requests in the last second");
    let silent = |member: &Consuming| world.now - member.last_request > INTERVAL + ms(10 * SLOWEST);
    let mut members = world.members.values().filter(|member| !member.machine.owned().is_empty());
    assert!(!members.any(silent), "no heartbeat in its interval");
    world.come_and_go();
    (world.rebalances, world.busiest, world.notes.clean_verdict())
}

#[test]
#[expect(clippy::print_stderr, reason = "the seed is needed to run it again")]
fn no_partition_has_two_owners_and_no_commit_goes_back_under_kip_848() {
    if let Some(seeds) = planted::seeds() {
        return planted::hunt(seeds, |seed| {
            history(seed);
            Ok(())
        });
    }
    let seeds = seeds();
    let (mut rebalances, mut commits, mut records, mut busiest) = (0, 0, 0, 0);
    for seed in seeds.clone() {
        let (changes, most, verdict) = panic::catch_unwind(|| history(seed)).unwrap_or_else(|panic| {
            eprintln!("MILENA_GROUP_SEEDS={seed}");
            panic::resume_unwind(panic);
        });
        rebalances += changes;
        commits += verdict.commits as u64;
        records += verdict.records as u64;
        busiest = busiest.max(most);
    }
    // It must have been about something.
    let count = seeds.end - seeds.start;
    let has_enough = rebalances > 5 * count && commits > 1_000 * count && records > 1_000 * count;
    assert!(has_enough, "{rebalances} rebalances, {commits} commits, {records} records");
    assert!(count < 10 || busiest > 4, "{busiest} requests in a second at most");
}

/// Members come and go, and nothing goes wrong: nobody gives back, or loses, what does not move.
#[test]
fn what_does_not_move_keeps_flowing() {
    for seed in 0..2 {
        let mut world = World848::calm(seed);
        for _ in 0..3 {
            world.join(None);
        }
        world.join(Some("i".into()));
        world.run(10_000);
        world.check_all_are_owned();
        for round in 1..=6 {
            if round % 2 == 0 {
                world.join(None);
            } else {
                let id = *world.members.keys().next().unwrap();
                let member = world.members.get_mut(&id).unwrap();
                member.closing = true;
                // The static one comes back, under another id.
                member.machine.close(member.instance.is_none());
            }
            world.run(10_000 + round * 15_000);
            world.check_all_are_owned();
        }
        world.notes.clean_verdict();
    }
}
