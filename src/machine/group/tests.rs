//! Many members and a small coordinator, in virtual time, with faults drawn from a seed: answers and requests that are
//! lost, coordinators that move, members that stop for longer than their session, with or without their connections, or do
//! not poll, members that come and go, subscriptions that change and topics that grow.
//!
//! After every step: what a listener hears does not overlap. After the last fault every partition that is subscribed to has an
//! owner, and members that come and go deal with nothing twice. Then the judge of runs on real clusters looks at it all: no partition had two owners, nothing was dealt with by
//! others or out of order, no commit went back, or ahead of what was dealt with.
//!
//! ```text
//!   MILENA_GROUP_SEEDS=0..1000 cargo test --release --lib machine::group::tests      more of them
//!   MILENA_GROUP_SEEDS=30 cargo test --lib machine::group::tests                     one
//! ```
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ops::Range;
use std::panic;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::*;
use crate::error::TopicPartition;
use crate::machine::assignor::{self, Assignor, CooperativeSticky, Sticky, Topics};
use crate::machine::planted;
use crate::wire::error_code::ErrorCode;
use coordinator::{Coordinator, Reply};
use notes::Notes;

mod consumers;
mod consumers_coordinator;
mod coordinator;
#[path = "../../../tests/judge/groups.rs"]
#[allow(dead_code, reason = "runs on real clusters judge more")]
mod judge;
mod notes;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const SESSION: Duration = ms(6_000);
/// Of a request, and of an answer.
const SLOWEST: u64 = 40;
const FAULTS: u64 = 60_000;
const END: u64 = 160_000;
/// What a debug build does in six seconds, or twice that if it shares the machine.
const SEEDS: Range<u64> = 0..16;

struct Member {
    machine: Classic,
    ledger: Ledger,
    /// What is committed before the listener hears that it is given back, and how long that one takes then.
    returning: Option<(Vec<TopicPartition>, Duration)>,
    /// When the listener returns.
    listening: Option<Instant>,
    /// Stopped until then: nothing of it runs.
    paused: Option<Instant>,
    /// Its connections do not outlast that: what it is answered meanwhile is lost.
    is_cut_off: bool,
    /// The user works until then, and does not poll.
    working: Option<Instant>,
    topics: BTreeSet<Arc<str>>,
    closing: bool,
    /// Where it is in each of its partitions.
    positions: BTreeMap<TopicPartition, i64>,
    /// Where it began.
    began: BTreeMap<TopicPartition, i64>,
    commits: u64,
    /// What it may commit, as of which ownership.
    seen: Option<(u64, BTreeSet<TopicPartition>)>,
}

impl Member {
    /// As a driver does it whenever something has happened: before anything else does.
    fn settle(&mut self) {
        self.ledger.set_standing(self.machine.standing());
        let (ownership, committable) = (self.machine.ownership(), self.machine.committable());
        settle_ownership(&mut self.ledger, &mut self.seen, ownership, committable);
    }
}

/// What arrives somewhere, at some time.
enum Message {
    Found(usize, Result<i32, ErrorCode>),
    Asked(usize, Send),
    Answered(usize, u64, Answer),
    Committing(usize, CommitRequest),
    Committed(usize, u64, Result<BTreeMap<TopicPartition, ErrorCode>, ()>),
    /// What the topics are when it arrives.
    Described(usize),
}

struct World {
    now: Instant,
    start: Instant,
    rng: Rng,
    assignors: Vec<Arc<dyn Assignor>>,
    members: BTreeMap<usize, Member>,
    next_member: usize,
    coordinator: Coordinator,
    mail: Mailbox<Message>,
    topics: Topics,
    /// Until when there are faults.
    faulty: Instant,
    /// Of 1,000 messages, how many are lost until then.
    loss: u32,
    rebalances: u64,
    notes: Notes,
}

/// What is on its way, in the order in which it arrives, and of the same instant in that of sending.
struct Mailbox<M> {
    mail: BTreeMap<(Instant, u64), M>,
    sent: u64,
}

impl<M> Default for Mailbox<M> {
    fn default() -> Self {
        Self { mail: BTreeMap::new(), sent: 0 }
    }
}

impl<M> Mailbox<M> {
    fn post(&mut self, at: Instant, message: M) {
        self.sent += 1;
        self.mail.insert((at, self.sent), message);
    }

    fn take_due(&mut self, now: Instant) -> impl Iterator<Item = M> + use<M> {
        let rest = self.mail.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.mail, rest).into_values()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self::empty(seed);
        world.faulty = world.start + ms(FAULTS);
        for _ in 0..world.rng.usize(2..6) {
            world.join();
        }
        world
    }

    /// Without members and faults.
    fn empty(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let start = Instant::now();
        let assignors: Vec<Arc<dyn Assignor>> = match seed % 3 {
            0 => vec![Arc::new(CooperativeSticky)],
            1 => vec![Arc::new(Sticky)],
            _ => vec![Arc::new(assignor::Range), Arc::new(CooperativeSticky)],
        };
        let topics = Topics::from([("t".into(), vec![Vec::new(); 7]), ("u".into(), vec![Vec::new(); 4])]);
        let loss = [0, 5, 30][rng.usize(..3)];
        Self {
            now: start,
            start,
            rng,
            assignors,
            members: BTreeMap::new(),
            next_member: 0,
            // It hears of a heartbeat later than it was sent.
            coordinator: Coordinator::new(SESSION + ms(4 * SLOWEST)),
            mail: Mailbox::default(),
            topics,
            faulty: start,
            loss,
            rebalances: 0,
            notes: Notes::default(),
        }
    }

    fn is_faulty(&self) -> bool {
        self.now < self.faulty
    }

    fn join(&mut self) {
        let config = Config {
            group: "g".into(),
            instance_id: None,
            rack: None,
            session_timeout: SESSION,
            heartbeat_interval: ms(1_000),
            max_poll_interval: ms(20_000),
            request_timeout: ms(3_000),
            retry_backoff: ms(50),
            retry_backoff_max: ms(500),
        };
        let mut machine = Classic::new(config, self.assignors.clone());
        let topics: BTreeSet<_> = self.topics.keys().cloned().collect();
        machine.subscribe(self.now, Some(topics.clone()));
        machine.poll_begins();
        let member = Member {
            machine,
            ledger: Ledger::new(ms(50), ms(500)),
            returning: None,
            listening: None,
            paused: None,
            is_cut_off: false,
            working: None,
            topics,
            closing: false,
            positions: BTreeMap::new(),
            began: BTreeMap::new(),
            commits: 0,
            seen: None,
        };
        self.members.insert(self.next_member, member);
        self.next_member += 1;
    }

    /// On its way, unless it is lost.
    fn mail(&mut self, message: Message) {
        let delay = ms(self.rng.u64(1..SLOWEST));
        if !self.is_faulty() || self.rng.u32(..1_000) >= self.loss {
            self.mail.post(self.now + delay, message);
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

    fn check_all_are_owned(&self) {
        assert!(self.members.values().all(|member| !member.closing), "a member that was closed is still there");
        for (topic, partitions) in &self.topics {
            let wanted = usize::from(self.members.values().any(|member| member.topics.contains(topic)));
            for index in 0..partitions.len() {
                let partition = TopicPartition::new(Arc::clone(topic), index as i32);
                let owners = self.members.values().filter(|member| member.machine.owned().contains(&partition));
                assert_eq!(owners.count(), wanted, "{partition} after all faults");
            }
        }
    }

    /// Nothing goes wrong any more, and members join and quit in order, at once or one after the other: nothing is dealt with
    /// twice.
    fn come_and_go(&mut self) {
        let begin = self.notes.len();
        for _ in 0..12 {
            if self.rng.bool() && self.members.len() < 6 {
                self.join();
            } else if self.members.values().filter(|member| !member.closing).count() > 1
                && let Some(member) = self.any_member()
                && !member.closing
            {
                member.closing = true;
                member.machine.close(true);
            }
            let pause = a_while(&mut self.rng);
            self.run_for(pause);
        }
        self.run_for(10_000);
        self.check_all_are_owned();
        self.notes.assert_once_since(begin);
    }

    fn step(&mut self) {
        self.now += ms(self.rng.u64(1..20));
        if self.is_faulty() {
            self.disturb();
        }
        for (send, reply) in self.coordinator.handle_time(self.now) {
            self.reply(send, reply);
        }
        let now = self.now;
        for message in self.mail.take_due(now) {
            self.deliver(message);
        }
        let ids: Vec<_> = self.members.keys().copied().collect();
        for id in ids {
            self.drive(id);
        }
    }

    fn disturb(&mut self) {
        match self.rng.u32(..800) {
            0 => {
                let is_gone = self.rng.bool();
                for (send, reply) in self.coordinator.fail_over(self.now, is_gone) {
                    self.reply(send, reply);
                }
            }
            1 | 2 => {
                let until = self.now + ms([500, 4_000, 9_000, 30_000][self.rng.usize(..4)]);
                let is_cut_off = self.rng.bool();
                if let Some(member) = self.any_member() {
                    (member.paused, member.is_cut_off) = (Some(until), is_cut_off);
                }
            }
            3 if self.members.len() < 7 => self.join(),
            4 if self.members.len() > 1 => {
                if let Some(member) = self.any_member() {
                    member.closing = true;
                    member.machine.close(true);
                }
            }
            // Gone without a word.
            5 if self.members.len() > 1 => {
                let id = *self.members.keys().next().unwrap();
                self.members.remove(&id);
            }
            6 if self.topics["t"].len() < 12 => {
                self.topics.get_mut("t").unwrap().push(Vec::new());
                let watches = self.members.iter().filter(|(_, member)| member.machine.described().is_some());
                let watches: Vec<_> = watches.map(|(id, _)| *id).collect();
                for id in watches {
                    self.mail.post(self.now + ms(SLOWEST / 2), Message::Described(id));
                }
            }
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
                    member.machine.subscribe(now, Some(topics));
                }
            }
            9 => {
                let now = self.now;
                let until = now + ms([5_000, 25_000][self.rng.usize(..2)]);
                if let Some(member) = self.any_member() {
                    member.working = Some(until);
                    member.machine.poll_ends(now);
                }
            }
            _ => {}
        }
    }

    /// One that runs.
    fn any_member(&mut self) -> Option<&mut Member> {
        let ids: Vec<_> = self.members.keys().copied().collect();
        let id = ids[self.rng.usize(..ids.len())];
        self.awake(id)
    }

    fn reply(&mut self, (member, token): (usize, u64), reply: Reply) {
        match reply {
            Reply::Member(answer) => self.mail(Message::Answered(member, token, answer)),
            Reply::Commit(codes) => self.mail(Message::Committed(member, token, Ok(codes))),
        }
    }

    fn deliver(&mut self, message: Message) {
        let random = self.rng.u64(..);
        let now = self.now;
        match message {
            Message::Asked(member, send) => {
                for (to, reply) in self.coordinator.handle(now, (member, send.token), send.call, &mut self.rng) {
                    self.reply(to, reply);
                }
            }
            Message::Committing(member, request) => {
                let (token, entries) = (request.token, request.entries.clone());
                let reply = self.coordinator.commit(now, request);
                note_commit(&mut self.notes, now - self.start, &entries, &reply);
                self.reply((member, token), Reply::Commit(reply));
            }
            // Whom it is for may be stopped: it reads that later.
            Message::Found(id, ref found) => match self.awake(id) {
                Some(member) => member.machine.handle_coordinator(now, *found, random),
                None => self.later(id, message),
            },
            Message::Answered(id, token, ref answer) => match self.awake(id) {
                Some(member) => member.machine.handle_answer(now, token, answer.clone(), random),
                None => self.later(id, message),
            },
            Message::Committed(id, token, ref answer) => match self.awake(id) {
                Some(member) => member.ledger.handle_answer(now, token, answer.clone(), random),
                None => self.later(id, message),
            },
            Message::Described(id) => {
                let topics = self.topics.clone();
                match self.awake(id) {
                    Some(member) => member.machine.handle_topics(&topics),
                    None => self.later(id, message),
                }
            }
        }
    }

    /// Its time is up, and it knows what it has then, before anything else of it happens.
    fn awake(&mut self, id: usize) -> Option<&mut Member> {
        let now = self.now;
        let member = self.members.get_mut(&id).filter(|member| member.paused.is_none_or(|until| until <= now))?;
        member.paused = None;
        member.machine.handle_timeout(now);
        member.settle();
        Some(member)
    }

    fn later(&mut self, id: usize, message: Message) {
        let Some(Member { paused: Some(until), is_cut_off, .. }) = self.members.get(&id) else { return };
        // Its own clocks run on.
        let is_timer = matches!(message, Message::Answered(_, _, Answer::Lost) | Message::Committed(_, _, Err(())));
        let is_answer = matches!(message, Message::Answered(..) | Message::Committed(..)) && !is_timer;
        if !(is_answer && *is_cut_off) {
            self.mail.post(*until, message);
        }
    }

    /// As a driver does it; see the module's documentation.
    fn drive(&mut self, id: usize) {
        let now = self.now;
        let (work, commits) = (self.rng.u8(..16) == 0, self.rng.bool());
        // Some users commit what they have dealt with first last.
        let behind = [0, 0, 0, 2][self.rng.usize(..4)];
        let listens = ms(self.rng.u64(..300));
        // Short, and what a call may take by default: longer than a session.
        let patience = ms([10_000, 60_000][self.rng.usize(..2)]);
        let random = self.rng.u64(..);
        let Some(member) = self.awake(id) else { return };
        if member.working.is_some_and(|until| until <= now) {
            member.working = None;
            member.machine.poll_begins();
        }
        if member.listening.is_some_and(|until| until <= now) {
            member.listening = None;
            member.machine.acknowledge();
        }
        let mut outputs = Vec::new();
        while let Some(output) = member.machine.poll_output(now) {
            if let Output::Changed(change) = &output {
                let is_quiet = member.listening.is_none() && member.returning.is_none();
                assert!(is_quiet, "a listener that has not returned is called again");
                match change {
                    Change::Revoked(gone) => {
                        member.commits += 1;
                        member.ledger.commit(last_commit(member.commits, now, &member.positions, gone));
                        member.returning = Some((gone.clone(), listens));
                    }
                    Change::Assigned(_) | Change::Lost(_) => member.listening = Some(now + listens),
                }
            }
            outputs.push(output);
        }
        member.settle();
        let mut dealt_with = Vec::new();
        if work {
            let began = &member.began;
            let committable = |partition: &TopicPartition, position: i64| {
                (position - behind).max(began.get(partition).copied().unwrap_or_default())
            };
            member.commits += 1;
            let note = |partition: &TopicPartition, offset| dealt_with.push((partition.clone(), offset));
            let entries = work_on(&mut member.positions, member.machine.owned(), note, committable);
            if commits {
                let deadline = now + patience;
                member.ledger.commit(Commit { id: member.commits, entries, may_go_back: false, deadline });
            }
        }
        member.ledger.handle_timeout(now);
        while let Some(verdict) = member.ledger.poll_verdict() {
            if let Verdict::Membership(identity, code) = verdict {
                let before = member.machine.identity();
                member.machine.handle_refused_commit(now, &identity, code, random);
                // Rule 63: what is said to an older one says nothing of this.
                let is_same = member.machine.identity() == before;
                assert!(is_same || identity == before, "a late {code} for {identity:?} ends {before:?}");
            }
        }
        while member.ledger.poll_outcome().is_some() {}
        let request = member.ledger.poll_request(now);
        if let Some((_, listens)) = member.returning.take_if(|(gone, _)| !member.ledger.holds(gone)) {
            member.listening = Some(now + listens);
        }
        dealt_with.iter().for_each(|(partition, offset)| self.notes.dealt_with(id, partition, *offset));
        self.carry_out(id, outputs, request);
    }

    fn carry_out(&mut self, id: usize, outputs: Vec<Output>, commit: Option<CommitRequest>) {
        if let Some(request) = commit {
            self.mail.post(self.now + ms(3_000), Message::Committed(id, request.token, Err(())));
            self.mail(Message::Committing(id, request));
        }
        for output in outputs {
            match output {
                Output::FindCoordinator => self.mail.post(self.now + ms(SLOWEST / 2), Message::Found(id, Ok(1))),
                Output::Send(send) => {
                    // Its time runs out whatever becomes of it: a coordinator that moves takes along what waits there.
                    self.mail.post(self.now + send.timeout, Message::Answered(id, send.token, Answer::Lost));
                    self.mail(Message::Asked(id, send));
                }
                Output::Describe(_) => self.mail.post(self.now + ms(SLOWEST / 2), Message::Described(id)),
                Output::Changed(Change::Assigned(assigned)) => {
                    self.rebalances += 1;
                    let committed = &self.coordinator.committed;
                    let member = self.members.get_mut(&id).unwrap();
                    for partition in assigned {
                        let offset = committed.get(&partition).copied().unwrap_or(0);
                        self.notes.begin(id, &partition);
                        member.began.insert(partition.clone(), offset);
                        member.positions.insert(partition, offset);
                    }
                }
                Output::Changed(Change::Revoked(gone) | Change::Lost(gone)) => {
                    let member = self.members.get_mut(&id).unwrap();
                    member.positions.retain(|partition, _| !gone.contains(partition));
                }
                Output::Report(_) => {}
                output @ (Output::Resolve(_) | Output::NeedMemberId) => panic!("{output:?}"),
                Output::Failed(problem) => panic!("{problem:?}"),
                Output::Closed => {
                    assert!(self.members[&id].closing);
                    self.members.remove(&id);
                    if self.members.is_empty() {
                        self.join();
                    }
                }
            }
        }
    }

    /// Of those that run: who is stopped looks at the clock before it does anything.
    fn check(&mut self) {
        let members = self.members.iter();
        let members = members.map(|(id, member)| (*id, member.paused.is_none(), member.machine.committable()));
        self.notes.step(self.now - self.start, members);
    }
}

fn note_commit(
    notes: &mut Notes,
    at: Duration,
    entries: &BTreeMap<TopicPartition, Entry>,
    reply: &BTreeMap<TopicPartition, ErrorCode>,
) {
    for (partition, entry) in entries.iter().filter(|(partition, _)| reply[*partition].is_ok()) {
        notes.committed(at, partition, entry.offset);
    }
}

/// As a driver does, which looks again only when it is told to.
fn settle_ownership(
    ledger: &mut Ledger,
    seen: &mut Option<(u64, BTreeSet<TopicPartition>)>,
    ownership: u64,
    committable: BTreeSet<TopicPartition>,
) {
    match seen {
        Some((before, known)) if *before == ownership => assert_eq!(*known, committable, "it has changed in silence"),
        _ => {
            ledger.set_owned(Some(committable.clone()));
            *seen = Some((ownership, committable));
        }
    }
}

/// Between two who come or go: nothing, less than a rebalance takes, or more.
fn a_while(rng: &mut Rng) -> u64 {
    let most = [0, 300, 3_000][rng.usize(..3)];
    rng.u64(..=most)
}

/// Of what is given back: all that was dealt with.
fn last_commit(id: u64, now: Instant, positions: &BTreeMap<TopicPartition, i64>, gone: &[TopicPartition]) -> Commit {
    let entry = |offset: i64| Entry { offset, leader_epoch: -1, metadata: "".into() };
    let dealt_with = positions.iter().filter(|(partition, _)| gone.contains(partition));
    let entries = dealt_with.map(|(partition, position)| (partition.clone(), entry(*position))).collect();
    Commit { id, entries, may_go_back: false, deadline: now + ms(10_000) }
}

/// A record more of each partition that it has: what is to be committed then.
fn work_on(
    positions: &mut BTreeMap<TopicPartition, i64>,
    owned: &BTreeSet<TopicPartition>,
    mut note: impl FnMut(&TopicPartition, i64),
    dealt_with: impl Fn(&TopicPartition, i64) -> i64,
) -> BTreeMap<TopicPartition, Entry> {
    let own = positions.iter_mut().filter(|(partition, _)| owned.contains(*partition));
    let entries = own.map(|(partition, position)| {
        note(partition, *position);
        *position += 1;
        let offset = dealt_with(partition, *position);
        (partition.clone(), Entry { offset, leader_epoch: -1, metadata: "".into() })
    });
    entries.collect()
}

fn seeds() -> Range<u64> {
    let Ok(text) = env::var("MILENA_GROUP_SEEDS") else { return SEEDS };
    let number =
        |text: &str| text.parse().unwrap_or_else(|_| panic!("MILENA_GROUP_SEEDS is {text:?}: N or N..M is wanted"));
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&text)..number(&text) + 1,
    }
}

/// How many rebalances there were, and what the judge says.
fn history(seed: u64) -> (u64, judge::Verdict) {
    let mut world = World::new(seed);
    world.run(END);
    world.check_all_are_owned();
    world.come_and_go();
    (world.rebalances, world.notes.clean_verdict())
}

#[test]
#[expect(clippy::print_stderr, reason = "the seed is needed to run it again")]
fn no_partition_has_two_owners_and_no_commit_goes_back() {
    if let Some(seeds) = planted::seeds() {
        return planted::hunt(seeds, |seed| {
            history(seed);
            Ok(())
        });
    }
    let seeds = seeds();
    let (mut rebalances, mut commits, mut records) = (0, 0, 0);
    for seed in seeds.clone() {
        let (changes, verdict) = panic::catch_unwind(|| history(seed)).unwrap_or_else(|panic| {
            eprintln!("MILENA_GROUP_SEEDS={seed}");
            panic::resume_unwind(panic);
        });
        rebalances += changes;
        commits += verdict.commits as u64;
        records += verdict.records as u64;
    }
    // It must have been about something.
    let count = seeds.end - seeds.start;
    let has_enough = rebalances > 5 * count && commits > 1_000 * count && records > 1_000 * count;
    assert!(has_enough, "{rebalances} rebalances, {commits} commits, {records} records");
}

/// A join waits for a member that is gone when another broker takes over, which has never heard of the join. Nobody
/// answers it: the member must not wait for longer than a rebalance may take.
#[test]
fn a_join_that_waited_at_the_old_coordinator_is_sent_again() {
    for seed in 0..3 {
        let mut world = World::empty(seed);
        world.join();
        world.run(2_000);
        world.check_all_are_owned();
        world.members.remove(&0);
        world.join();
        world.run(3_000);
        world.coordinator.fail_over(world.now, true);
        world.run(20_000);
        assert_eq!(world.members[&1].machine.owned().len(), 0);
        world.run(32_000);
        world.check_all_are_owned();
        world.notes.clean_verdict();
    }
}
