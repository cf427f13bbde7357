//! The task of one consumer: finds positions, and sends partitions to the leaders that have them.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::commit::OffsetAndMetadata;
use super::group::Group;
use super::leader::{self, Released};
use super::lookup;
use super::problem::{data_loss, describe, recreated};
use super::shared::Shared;
use super::watch::Watch;
use crate::error::{Error, TopicPartition};
use crate::machine::connection::{Call, CallError};
use crate::machine::credit::PartitionId;
use crate::machine::fetch;
use crate::machine::offsets::{self, AskedEpoch, AskedOffset, At, Offsets, Output, Start};
use crate::net::{Address, Class, Core, Picture, Route, Timer, address_of, wall_clock_ms};
use crate::wire::error_code::ErrorCode;
use crate::wire::leader::list_offsets::ListOffsetsResponse;
use crate::wire::leader::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

/// What the handle asks for.
#[derive(Debug)]
pub enum Command {
    Assign {
        added: Vec<Assigned>,
        removed: Vec<PartitionId>,
    },
    Seek {
        id: PartitionId,
        generation: u64,
        start: Start,
    },
    Pause {
        id: PartitionId,
        is_paused: bool,
    },
    /// Reading went back: by itself, since the log had to be read from elsewhere.
    WentBack(PartitionId),
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
pub struct Assigned {
    pub id: PartitionId,
    pub topic_partition: TopicPartition,
    pub generation: u64,
    pub start: Start,
}

struct Leader {
    commands: mpsc::UnboundedSender<leader::Command>,
    address: Address,
}

/// What a task that asked on the manager's behalf brings back.
enum Answer {
    Committed {
        asked: Vec<(PartitionId, u64)>,
        answer: Result<BTreeMap<TopicPartition, (i64, i32)>, Error>,
    },
    Offsets {
        asked: Vec<AskedOffset>,
        answer: Result<ListOffsetsResponse, Option<Error>>,
    },
    /// `None`: the broker does not know the request.
    Epochs {
        asked: Vec<AskedEpoch>,
        answer: Result<Option<OffsetForLeaderEpochResponse>, Option<Error>>,
    },
}

pub struct Manager {
    core: Arc<Core>,
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    group: Option<Arc<Group>>,
    fetch: fetch::Config,
    machine: Offsets,
    assigned: BTreeMap<PartitionId, TopicPartition>,
    leaders: BTreeMap<i32, Leader>,
    home: mpsc::UnboundedSender<Released>,
    answered: mpsc::UnboundedSender<Answer>,
    /// The lookup of commits has failed since the last one that did not; said once.
    is_lookup_reported: bool,
    outage: Outage,
    /// Also when the runtime drops this task, even before it ran: the caller must not wait for ever.
    _closing: Closing,
}

/// No broker answers metadata requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outage {
    No,
    Since(std::time::Instant),
    Reported,
}

impl Manager {
    pub fn start(
        core: &Arc<Core>,
        shared: &Arc<Shared>,
        watch: &Arc<Watch>,
        group: Option<Arc<Group>>,
        fetch: fetch::Config,
        offsets: offsets::Config,
    ) -> mpsc::UnboundedSender<Command> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (home, released) = mpsc::unbounded_channel();
        let (answered, answers) = mpsc::unbounded_channel();
        let manager = Self {
            core: Arc::clone(core),
            shared: Arc::clone(shared),
            watch: Arc::clone(watch),
            group,
            fetch,
            machine: Offsets::new(offsets),
            assigned: BTreeMap::new(),
            leaders: BTreeMap::new(),
            home,
            answered,
            is_lookup_reported: false,
            outage: Outage::No,
            _closing: Closing(Arc::clone(shared)),
        };
        core.network.runtime.spawn(manager.run(inbox, released, answers));
        commands
    }

    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut released: mpsc::UnboundedReceiver<Released>,
        mut answers: mpsc::UnboundedReceiver<Answer>,
    ) {
        let mut timer = Timer::new(&self.core.network.runtime);
        let mut picture = self.core.metadata.watch();
        picture.mark_changed();
        loop {
            // Here as well as in the select: a flood of commands must not hold back deadlines.
            self.machine.handle_timeout(self.core.now());
            self.drain();
            let outage = match self.outage {
                Outage::Since(at) => Some(at + self.core.api_timeout),
                _ => None,
            };
            let deadline = self.machine.poll_timeout().into_iter().chain(outage).min();
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Close(done)) => {
                        self.close(released).await;
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.handle_command(command),
                    // The consumer is gone, and its leaders' tasks go with their senders.
                    None => return,
                },
                Some(partition) = released.recv() => self.handle_released(partition),
                Some(answer) = answers.recv() => self.handle_answer(answer),
                Ok(()) = picture.changed() => self.handle_picture(&mut picture),
                () = poll_fn(|cx| timer.poll(cx, deadline)) => {
                    self.machine.handle_timeout(self.core.now());
                    self.check_outage(&picture.borrow());
                }
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Assign { added, removed } => {
                for id in removed {
                    self.assigned.remove(&id);
                    self.machine.unassign(id);
                }
                for Assigned { id, topic_partition: tp, generation, start } in added {
                    self.machine.assign(id, Arc::clone(&tp.topic), tp.partition, generation, start);
                    self.assigned.insert(id, tp);
                }
            }
            Command::Seek { id, generation, start } => self.machine.seek(id, generation, start),
            Command::Pause { id, is_paused } => self.machine.pause(id, is_paused),
            Command::WentBack(id) => self.went_back(id),
            Command::Close(_) => {}
        }
    }

    fn handle_released(&mut self, partition: Released) {
        let Released { id, generation, next, seen, why } = partition;
        let (now, random) = (self.core.now(), self.core.network.runtime.random());
        self.machine.handle_released(now, id, generation, (next, seen), why, random);
    }

    fn handle_picture(&mut self, picture: &mut watch::Receiver<Picture>) {
        let picture = picture.borrow_and_update();
        self.machine.handle_cluster(Arc::clone(&picture.cluster));
        for (node, leader) in &mut self.leaders {
            let Some(address) = picture.cluster.brokers.get(node).map(address_of) else { continue };
            if address != leader.address {
                leader.address = address.clone();
                let _ = leader.commands.send(leader::Command::Move(address));
            }
        }
        // A broker that is gone is let go once everything that it had has come home.
        let machine = &self.machine;
        self.leaders.retain(|node, _| picture.cluster.brokers.contains_key(node) || machine.is_used(*node));
        self.check_outage(&picture);
    }

    /// An outage is reported at once if there was never anything else, and otherwise if it lasts.
    fn check_outage(&mut self, picture: &Picture) {
        let now = self.core.now();
        self.outage = match (&picture.failure, self.outage) {
            (None, _) => Outage::No,
            (Some(_), Outage::No) if picture.cluster.answers > 0 => Outage::Since(now),
            (Some(_), Outage::Since(at)) if now.saturating_duration_since(at) < self.core.api_timeout => {
                Outage::Since(at)
            }
            (Some(failure), Outage::No | Outage::Since(_)) => {
                self.shared.fail_all(failure.clone());
                Outage::Reported
            }
            (Some(_), Outage::Reported) => Outage::Reported,
        };
    }

    /// Does what the machine asks for.
    fn drain(&mut self) {
        let now = self.core.now();
        while let Some(output) = self.machine.poll_output(now) {
            match output {
                Output::Route { leader, route } => self.route(leader, route),
                Output::Pause { leader, id, is_paused } => {
                    self.tell(leader, leader::Command::Pause { id, is_paused });
                }
                Output::Recall { leader, id, generation } => {
                    self.tell(leader, leader::Command::Recall { id, generation });
                }
                Output::AskCommitted(asked) => self.ask_committed(asked),
                Output::AskOffsets { leader, asked } => self.ask_offsets(leader, asked),
                Output::AskEpochs { leader, asked } => self.ask_epochs(leader, asked),
                Output::Diverged { id, generation, end } => self.diverged(id, generation, end),
                Output::Recreated { id, generation } => self.recreated(id, generation),
                Output::Position { id, generation, offset } => self.shared.found(id, generation, offset),
                Output::Report { id, generation, problem } => {
                    if let Some(tp) = self.assigned.get(&id) {
                        let error = self.core.network.security.explain(describe(problem, tp));
                        self.shared.fail(id, generation, error);
                    }
                }
                Output::Stale => self.core.metadata.refresh(),
            }
        }
    }

    fn tell(&self, leader: i32, command: leader::Command) {
        if let Some(leader) = self.leaders.get(&leader) {
            // A leader's task ends after its sender, so it hears of everything.
            let _ = leader.commands.send(command);
        }
    }

    fn route(&mut self, node: i32, route: fetch::Route) {
        if !self.leaders.contains_key(&node) {
            let cluster = self.core.metadata.cluster();
            let Some(address) = cluster.brokers.get(&node).map(address_of) else {
                // The picture has changed since: the next one is on its way.
                let (now, random) = (self.core.now(), self.core.network.runtime.random());
                let why = fetch::Why::Moved(ErrorCode::LEADER_NOT_AVAILABLE);
                let (id, generation, seen) = (route.id, route.generation, fetch::Seen::NOTHING);
                return self.machine.handle_released(now, id, generation, (route.offset, seen), why, random);
            };
            let (commands, inbox) = mpsc::unbounded_channel();
            let (core, shared, watch) = (Arc::clone(&self.core), Arc::clone(&self.shared), Arc::clone(&self.watch));
            let (config, home) = (self.fetch.clone(), self.home.clone());
            let task = leader::Task::new(core, shared, watch, node, address.clone(), config, home);
            self.core.network.runtime.spawn(task.run(inbox));
            self.leaders.insert(node, Leader { commands, address });
        }
        self.tell(node, leader::Command::Add(route));
    }

    fn ask_committed(&mut self, asked: Vec<(PartitionId, u64)>) {
        let tps = asked.iter().filter_map(|(id, _)| self.assigned.get(id).cloned()).collect();
        let (core, group, answered) = (Arc::clone(&self.core), self.group.clone(), self.answered.clone());
        self.core.network.runtime.spawn(async move {
            let answer = match group {
                Some(group) => group.beginnings(&core, tps).await,
                None => Ok(BTreeMap::new()),
            };
            let position = |found: OffsetAndMetadata| (found.offset, found.leader_epoch.unwrap_or(-1));
            let answer = answer.map(|committed| committed.into_iter().map(|(tp, at)| (tp, position(at))).collect());
            let _ = answered.send(Answer::Committed { asked, answer });
        });
    }

    fn ask_offsets(&mut self, leader: i32, asked: Vec<AskedOffset>) {
        let wanted = asked.iter().filter_map(|ask| {
            let time = match ask.at {
                At::Time(time) => time,
                At::Ago(ms) => wall_clock_ms().saturating_sub(ms).max(0),
            };
            Some((self.assigned.get(&ask.id)?.clone(), (time, ask.leader_epoch)))
        });
        let request = lookup::request(&self.core, &wanted.collect(), self.fetch.read_committed);
        let (core, answered) = (Arc::clone(&self.core), self.answered.clone());
        self.core.network.runtime.spawn(async move {
            let deadline = core.now() + core.network.request_timeout;
            let answer = core.try_call(Route::Node(leader), Class::General, Call::new(request), deadline).await;
            // What another attempt may mend is nobody's business yet.
            let answer = answer.map_err(|error| (!error.is_transient()).then(|| error.into()));
            let _ = answered.send(Answer::Offsets { asked, answer });
        });
    }

    fn handle_answer(&mut self, answer: Answer) {
        let (now, random) = (self.core.now(), self.core.network.runtime.random());
        match answer {
            Answer::Committed { asked, answer } => {
                self.report_lookup(answer.as_ref().err());
                for (id, generation) in asked {
                    let offset = match (&answer, self.assigned.get(&id)) {
                        (Ok(committed), Some(tp)) => Ok(committed.get(tp).copied()),
                        _ => Err(()),
                    };
                    self.machine.handle_committed(now, id, generation, offset, random);
                }
            }
            Answer::Offsets { asked, answer } => {
                self.report_lookup(answer.as_ref().err().and_then(Option::as_ref));
                let response = answer.unwrap_or_default();
                let found = lookup::answers(&response);
                for AskedOffset { id, generation, .. } in asked {
                    let offset = match self.assigned.get(&id).and_then(|tp| found.get(tp)) {
                        Some(partition) => partition.error_code.check().map(|()| partition.offset),
                        None => Err(ErrorCode::NONE),
                    };
                    self.machine.handle_offset(now, id, generation, offset, random);
                }
            }
            Answer::Epochs { asked, answer } => {
                self.report_lookup(answer.as_ref().err().and_then(Option::as_ref));
                let is_known = !matches!(answer, Ok(None));
                let response = answer.ok().flatten().unwrap_or_default();
                for AskedEpoch { id, generation, .. } in asked {
                    let tp = self.assigned.get(&id);
                    let found = response.topics.iter().find(|topic| tp.is_some_and(|tp| tp.topic == topic.topic));
                    let mut found = found.iter().flat_map(|topic| &topic.partitions);
                    let end = match found.find(|end| tp.is_some_and(|tp| tp.partition == end.partition)) {
                        // Without the request there is no telling, and so no loss (rule 44).
                        None if !is_known => Ok((-1, -1)),
                        None => Err(ErrorCode::NONE),
                        Some(end) => end.error_code.check().map(|()| (end.leader_epoch, end.end_offset)),
                    };
                    self.machine.handle_epoch_end(now, id, generation, end, random);
                }
            }
        }
    }

    fn ask_epochs(&mut self, leader: i32, asked: Vec<AskedEpoch>) {
        let mut topics: BTreeMap<Arc<str>, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
        for ask in &asked {
            let Some(tp) = self.assigned.get(&ask.id) else { continue };
            topics.entry(Arc::clone(&tp.topic)).or_default().push(OffsetForLeaderPartition {
                partition: tp.partition,
                current_leader_epoch: ask.leader_epoch,
                leader_epoch: ask.epoch,
                ..Default::default()
            });
        }
        let topics = topics.into_iter();
        let topics = topics.map(|(topic, partitions)| OffsetForLeaderTopic { topic, partitions, ..Default::default() });
        let request = OffsetForLeaderEpochRequest { replica_id: -1, topics: topics.collect(), ..Default::default() };
        let (core, answered) = (Arc::clone(&self.core), self.answered.clone());
        self.core.network.runtime.spawn(async move {
            let deadline = core.now() + core.network.request_timeout;
            let answer = core.try_call(Route::Node(leader), Class::General, Call::new(request), deadline).await;
            let answer = match answer {
                Ok(response) => Ok(Some(response)),
                Err(CallError::Unsupported(_)) => Ok(None),
                Err(error) => Err((!error.is_transient()).then(|| error.into())),
            };
            let _ = answered.send(Answer::Epochs { asked, answer });
        });
    }

    /// What was committed before is not held against what is committed from here on.
    fn went_back(&self, id: PartitionId) {
        if let (Some(group), Some(tp)) = (&self.group, self.assigned.get(&id)) {
            group.moved([tp.clone()].into());
        }
    }

    /// The log was cut: what lies behind that is void, and where the caller is decides whether it has read any of it.
    fn diverged(&mut self, id: PartitionId, generation: u64, end: i64) {
        let Some(tp) = self.assigned.get(&id) else { return };
        let renewed = self.shared.deliver(|inbox| {
            let cursor = inbox.cursor(tp).filter(|cursor| (cursor.id, cursor.generation) == (id, generation))?;
            let position = cursor.position().unwrap_or(end);
            let new = inbox.resume(id, position.min(end))?;
            Some((position, new.generation))
        });
        // Sought or unassigned meanwhile: a command says so.
        let Some((position, generation)) = renewed else { return };
        if position > end {
            self.shared.fail(id, generation, data_loss(tp, position, end));
            self.went_back(id);
        }
        self.machine.seek(id, generation, Start::At(position.min(end)));
    }

    fn recreated(&mut self, id: PartitionId, generation: u64) {
        let Some(tp) = self.assigned.get(&id) else { return };
        let renewed = self.shared.deliver(|inbox| {
            inbox.cursor(tp).filter(|cursor| (cursor.id, cursor.generation) == (id, generation))?;
            Some(inbox.renew(id, None)?.generation)
        });
        let Some(generation) = renewed else { return };
        self.went_back(id);
        let start = if self.machine.may_reset() { Start::Earliest } else { Start::Halted };
        self.shared.fail(id, generation, recreated(tp, start == Start::Earliest));
        self.machine.seek(id, generation, start);
    }

    fn report_lookup(&mut self, error: Option<&Error>) {
        match error {
            Some(error) if !self.is_lookup_reported => {
                self.is_lookup_reported = true;
                self.shared.fail_all(error.clone());
            }
            Some(_) => {}
            None => self.is_lookup_reported = false,
        }
    }

    /// Ends the leaders' tasks, and with them their connections.
    async fn close(mut self, mut released: mpsc::UnboundedReceiver<Released>) {
        self.leaders.clear();
        drop(self.home);
        while released.recv().await.is_some() {}
    }
}

struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}
