//! The task that keeps a consumer in its group, and commits for it: drives [`crate::machine::group`].
//!
//! ```text
//!   handles ── subscribe, commit, close ──▶ ┌────────┐ ──▶ line: JoinGroup, SyncGroup │ heartbeats, LeaveGroup
//!   caller ─── bell: back from its work ──▶ │ driver │ ──▶ commits: OffsetCommit
//!   metadata ─ picture ───────────────────▶ └────────┘ ──▶ the manager: assigned, unassigned
//!                                               └────────▶ the listener, in a task of its own
//! ```
//! What becomes of a change of the assignment: [`super::change`].

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::change::Step;
use super::commits::{self, Commits, Offsets, Reply};
use super::coordinator::NotFound;
use super::handle::Group;
use super::line::{self, Line};
use super::member::Member;
use super::problem::describe;
use super::settings::{GroupProtocol, member_id};
use super::topics::{self, Holds, Listed, Subscription};
use crate::consumer::handle::ConsumerHandle;
use crate::error::{Error, TopicPartition};
use crate::machine::credit::PartitionId;
use crate::machine::group::{Call, Output, Problem, Standing, Verdict};
use crate::net::{Core, Endpoint, Picture, Timer};
use crate::wire::api::ApiKey;
use crate::wire::error_code::ErrorCode;
use crate::wire::message::Uuid;

/// What handles ask for.
#[derive(Debug)]
pub enum Command {
    /// None: to nothing any more, with this dealt with.
    Subscribe(Option<Subscription>, Offsets),
    Commit {
        offsets: Offsets,
        reply: Reply,
    },
    /// Reading goes on elsewhere in these: what was committed before says nothing of what is committed from here on.
    Moved(BTreeSet<TopicPartition>),
    /// The coordinator does not know this member as it asked for offsets.
    Doubt(ErrorCode),
    /// Leaves, or stays for a while; the default is up to whether the member is static.
    Close {
        leaves: Option<bool>,
        done: oneshot::Sender<Result<(), Error>>,
    },
    /// The consumer was dropped, with this dealt with.
    Abandon(Offsets),
}

/// What tasks that work for the driver bring back.
pub(super) enum Answer {
    Found(Result<Endpoint, NotFound>),
    Listed(Option<Vec<Listed>>),
    /// The listener has returned.
    Listened,
}

/// On the way out.
pub(super) struct Closing {
    by: Instant,
    done: Option<oneshot::Sender<Result<(), Error>>>,
}

pub struct Driver {
    pub(super) core: Arc<Core>,
    pub(super) handle: ConsumerHandle,
    pub(super) group: Arc<Group>,
    pub(super) member: Option<Member>,
    /// It was told to leave, and has.
    is_out: bool,
    subscription: Option<Subscription>,
    /// What the pattern matches; `None`: the topics have not been listed yet.
    matched: Option<BTreeSet<Arc<str>>>,
    next_listing: Option<Instant>,
    is_listing: bool,
    holds: Holds,
    line: Line,
    pub(super) commits: Commits,
    pub(super) assigned: BTreeMap<TopicPartition, PartitionId>,
    /// Which [`Member::ownership`] that was held against last; `None`: it is to be.
    pub(super) settled: Option<u64>,
    /// The member has, or gives back, partitions.
    has_any: bool,
    pub(super) step: Step,
    /// Of the caller, as it was last looked at.
    calls: u64,
    was_waiting: bool,
    next_commit: Option<Instant>,
    restart: Option<Instant>,
    pub(super) reported: Option<Problem>,
    pub(super) closing: Option<Closing>,
    /// Since when a rebalance concerns this member.
    pub(super) rebalancing: Option<Instant>,
    /// To the classic protocol: the other one was not asked for by name, and never worked.
    pub(super) may_fall_back: bool,
    pub(super) answers: mpsc::UnboundedSender<Answer>,
}

/// What arrives.
struct Inbox {
    commands: mpsc::UnboundedReceiver<Command>,
    answers: mpsc::UnboundedReceiver<Answer>,
    requests: mpsc::UnboundedReceiver<line::Answered>,
    commits: mpsc::UnboundedReceiver<commits::Answered>,
}

/// After what ended a membership for good: an ACL may have been mended.
const RESTART: Duration = Duration::from_secs(5);
/// A consumer that was dropped does not try for longer to leave its group.
const FAREWELL: Duration = Duration::from_secs(1);

impl Driver {
    pub fn start(handle: &ConsumerHandle, group: &Arc<Group>) -> mpsc::UnboundedSender<Command> {
        let (core, shared, watch) = (&handle.core, &handle.shared, &handle.watch);
        let (sender, commands) = mpsc::unbounded_channel();
        let (answers, answered) = mpsc::unbounded_channel();
        let (line, requests) = mpsc::unbounded_channel();
        let (committing, committed) = mpsc::unbounded_channel();
        let auto_commit = group.settings.auto_commit;
        let driver = Self {
            core: Arc::clone(core),
            handle: handle.clone(),
            group: Arc::clone(group),
            member: None,
            is_out: true,
            subscription: None,
            matched: None,
            next_listing: None,
            is_listing: false,
            holds: Holds::default(),
            line: Line::new(core, line),
            commits: Commits::new(core, &group.coordinated, shared, watch, committing),
            assigned: BTreeMap::new(),
            settled: None,
            has_any: false,
            step: Step::None,
            calls: 0,
            was_waiting: false,
            next_commit: auto_commit.map(|interval| core.now() + interval),
            restart: None,
            reported: None,
            closing: None,
            rebalancing: None,
            may_fall_back: false,
            answers,
        };
        let inbox = Inbox { commands, answers: answered, requests, commits: committed };
        core.network.runtime.spawn(driver.run(inbox));
        sender
    }

    async fn run(mut self, mut inbox: Inbox) {
        let mut timer = Timer::new(&self.core.network.runtime);
        let mut picture = self.core.metadata.watch();
        let bell = self.handle.shared.lock().hands.bell();
        loop {
            let now = self.core.now();
            self.handle_timeout(now);
            self.proceed(now);
            if self.is_over(now) {
                break;
            }
            let deadline = self.poll_timeout();
            tokio::select! {
                biased;
                Some(command) = inbox.commands.recv() => self.handle_command(command),
                Some(answer) = inbox.answers.recv() => self.handle_answer(answer),
                Some(answered) = inbox.requests.recv() => self.handle_request(answered),
                Some(answered) = inbox.commits.recv() => self.commits.handle_answer(self.core.now(), answered),
                never = self.line.drive() => match never {},
                Ok(()) = picture.changed() => self.handle_picture(&mut picture),
                () = bell.notified() => {}
                () = poll_fn(|cx| timer.poll(cx, deadline)) => {}
            }
        }
        self.holds.set(&self.core, BTreeSet::new(), &BTreeSet::new());
        self.group.audience.dismiss();
        let missed = self.commits.end();
        if let Some(Closing { done: Some(done), .. }) = self.closing {
            // Whoever closes may have given up.
            let _ = done.send(missed.map_or(Ok(()), Err));
        }
    }

    fn random(&self) -> u64 {
        self.core.network.runtime.random()
    }

    fn handle_command(&mut self, command: Command) {
        let now = self.core.now();
        match command {
            Command::Commit { offsets, reply } => self.commits.commit(offsets, reply),
            Command::Subscribe(subscription, settled) => {
                if self.group.settings.auto_commit.is_some() && subscription.is_none() {
                    self.commits.commit_settled(settled);
                }
                self.subscribe(now, subscription);
            }
            Command::Moved(partitions) => self.commits.moved(&partitions),
            Command::Doubt(code) => {
                let random = self.random();
                if let Some(member) = &mut self.member {
                    let identity = member.identity();
                    member.handle_refused_commit(now, &identity, code, random);
                }
            }
            Command::Close { leaves, done } => {
                let by = now + self.core.network.request_timeout;
                self.handle.shared.lock().settle();
                self.close(now, by, leaves, Some(done));
            }
            Command::Abandon(settled) => {
                if self.group.settings.auto_commit.is_some() {
                    self.commits.commit_settled(settled);
                }
                self.close(now, now + FAREWELL, None, None);
            }
        }
    }

    fn subscribe(&mut self, now: Instant, subscription: Option<Subscription>) {
        (self.subscription, self.settled) = (subscription, None);
        self.matched = None;
        self.next_listing = match self.subscription {
            Some(Subscription::Pattern(_)) => Some(now),
            _ => None,
        };
        if self.subscription.is_some() && self.member.is_none() {
            self.join_by(self.group.settings.protocol);
        }
        self.restart = None;
        if let Some(member) = &mut self.member {
            // Whoever asks for something else may have mended what had failed.
            member.restart(now);
        }
        self.tell_subscription(now);
    }

    fn join_by(&mut self, protocol: GroupProtocol) {
        let now = self.core.now();
        self.rebalancing.get_or_insert(now);
        self.may_fall_back = protocol == GroupProtocol::Auto;
        self.member = Some(self.group.settings.member(&self.core, &self.group.coordinated.id, protocol));
        (self.is_out, self.was_waiting, self.settled) = (false, false, None);
    }

    /// What is subscribed to as it is now.
    fn tell_subscription(&mut self, now: Instant) {
        if let Some(member) = &mut self.member {
            match (&self.subscription, &self.matched) {
                (None, _) => member.subscribe(now, None, None),
                (Some(Subscription::Topics(topics)), _) => member.subscribe(now, Some(topics.clone()), None),
                (Some(Subscription::Pattern(pattern)), _) if matches!(member, Member::Consumer(_)) => {
                    member.subscribe(now, None, Some(Arc::clone(&pattern.text)));
                }
                // Until the topics are listed the member stays what it was.
                (Some(Subscription::Pattern(_)), None) => {}
                (Some(Subscription::Pattern(_)), Some(matched)) => member.subscribe(now, Some(matched.clone()), None),
            }
        }
        self.hold_topics();
    }

    /// Keeps the topics of the group in the picture.
    fn hold_topics(&mut self) {
        let named = match &self.subscription {
            Some(Subscription::Topics(topics)) => topics.clone(),
            _ => BTreeSet::new(),
        };
        let described = self.member.as_ref().and_then(Member::described).into_iter().flatten();
        let wanted = named.iter().chain(self.matched.iter().flatten()).chain(described).cloned().collect();
        let created = if self.handle.auto_create { named } else { BTreeSet::new() };
        self.holds.set(&self.core, wanted, &created);
    }

    fn close(
        &mut self,
        now: Instant,
        by: Instant,
        leaves: Option<bool>,
        done: Option<oneshot::Sender<Result<(), Error>>>,
    ) {
        // A consumer that was closed is dropped too.
        if self.closing.is_some() {
            return;
        }
        self.commits.begin_closing();
        self.closing = Some(Closing { by, done });
        (self.next_commit, self.next_listing, self.restart) = (None, None, None);
        match &mut self.member {
            Some(member) => {
                let is_static = self.group.settings.instance_id.is_some();
                member.close(leaves.unwrap_or(!is_static));
            }
            None => self.commit_settled(),
        }
        // Of nothing that others wait for does a caller have anything in hand any more.
        self.handle_timeout(now);
    }

    fn is_over(&self, now: Instant) -> bool {
        let Some(closing) = &self.closing else { return false };
        (self.is_out && self.commits.is_idle()) || closing.by <= now
    }

    fn commit_settled(&mut self) {
        if self.group.settings.auto_commit.is_some() {
            let settled = self.handle.shared.lock().settled();
            self.commits.commit_settled(settled);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let member = self.member.as_ref().and_then(Member::poll_timeout);
        let listing = self.next_listing.filter(|_| !self.is_listing);
        let closing = self.closing.as_ref().map(|closing| closing.by);
        [member, self.commits.poll_timeout(), self.next_commit, listing, self.restart, closing]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.look_at_caller(now);
        if let Some(member) = &mut self.member {
            member.handle_timeout(now);
        }
        self.commits.handle_timeout(now);
        if self.next_commit.is_some_and(|at| at <= now) {
            self.next_commit = self.group.settings.auto_commit.map(|interval| now + interval);
            self.commit_settled();
        }
        if self.restart.is_some_and(|at| at <= now) {
            self.restart = None;
            if let Some(member) = &mut self.member {
                member.restart(now);
            }
        }
        if !self.is_listing && self.next_listing.is_some_and(|at| at <= now) {
            self.is_listing = true;
            self.list();
        }
    }

    /// Whether the caller polls. It is looked at when the task wakes anyway, at each heartbeat at the latest, so that a call
    /// costs nothing but a counter; a caller that has stopped is found out by that much later.
    fn look_at_caller(&mut self, now: Instant) {
        let Some(member) = &mut self.member else { return };
        let calls = self.handle.shared.calls().count();
        let is_waiting = self.handle.shared.lock().is_caller_waiting();
        if calls != self.calls || is_waiting != self.was_waiting {
            if calls != self.calls || is_waiting {
                member.poll_begins();
            }
            if !is_waiting {
                member.poll_ends(now);
            }
            (self.calls, self.was_waiting) = (calls, is_waiting);
        }
    }

    fn list(&self) {
        let (core, answers) = (Arc::clone(&self.core), self.answers.clone());
        self.core.network.runtime.spawn(async move {
            let listed = topics::list(&core).await;
            let _ = answers.send(Answer::Listed(listed));
        });
    }

    fn handle_answer(&mut self, answer: Answer) {
        let (now, random) = (self.core.now(), self.random());
        match answer {
            Answer::Found(found) => {
                let code = match found {
                    Ok(endpoint) => {
                        let node = endpoint.node.unwrap_or(-1);
                        self.line.set_coordinator(Some(endpoint));
                        Ok(node)
                    }
                    Err(NotFound::Again(_)) => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
                    Err(NotFound::Never(error)) => {
                        let code = error.code();
                        if code.is_none() {
                            self.handle.shared.fail_all(error);
                        }
                        Err(code.unwrap_or(ErrorCode::COORDINATOR_NOT_AVAILABLE))
                    }
                };
                if let Some(member) = &mut self.member {
                    member.handle_coordinator(now, code, random);
                }
            }
            Answer::Listed(listed) => self.listed(now, listed),
            Answer::Listened => self.listened(),
        }
    }

    fn handle_request(&mut self, answered: line::Answered) {
        let (now, random) = (self.core.now(), self.random());
        let line::Answered { token, answer, error } = answered;
        if let Some(error) = error {
            self.handle.shared.fail_all(error.into());
        }
        if let Some(member) = &mut self.member {
            member.handle_answer(now, token, answer, random);
        }
    }

    fn listed(&mut self, now: Instant, listed: Option<Vec<Listed>>) {
        self.is_listing = false;
        let Some(listed) = listed else {
            self.next_listing = self.next_listing.map(|_| now + self.core.retry_backoff_max);
            return;
        };
        if let Some(member) = &mut self.member {
            member.handle_names(&topics::names(listed.iter().map(|topic| (&topic.name, topic.id))));
        }
        if let Some(Subscription::Pattern(pattern)) = &self.subscription {
            self.next_listing = Some(now + self.core.metadata_max_age);
            let matched = Some(pattern.matching(&listed));
            if matched != self.matched {
                self.matched = matched;
                self.tell_subscription(now);
            }
        } else {
            self.next_listing = None;
        }
    }

    fn handle_picture(&mut self, picture: &mut watch::Receiver<Picture>) {
        let cluster = Arc::clone(&picture.borrow_and_update().cluster);
        let now = self.core.now();
        if self.matched.iter().flatten().any(|topic| {
            let error = cluster.topics.get(topic).map(|topic| topic.error);
            error == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }) {
            // It is gone, and perhaps others came.
            self.next_listing = Some(self.next_listing.map_or(now, |at| at.min(now + self.core.retry_backoff_max)));
        }
        if let Some(member) = &mut self.member {
            let known = cluster.topics.values().map(|topic| (&topic.name, topic.id));
            member.handle_names(&topics::names(known));
        }
        self.describe();
    }

    /// Tells the leader of the group what its topics are like, as soon as that is known.
    fn describe(&mut self) {
        let Some(described) = self.member.as_ref().and_then(Member::described).cloned() else { return };
        let cluster = self.core.metadata.cluster();
        if let (Some(topics), Some(member)) = (topics::describe(&cluster, &described), &mut self.member) {
            member.handle_topics(&topics);
        }
    }

    /// Does what nothing stands in the way of.
    fn proceed(&mut self, now: Instant) {
        loop {
            self.settle_ownership();
            while let Some(verdict) = self.commits.poll_verdict() {
                let random = self.random();
                if let (Verdict::Membership(identity, code), Some(member)) = (verdict, &mut self.member) {
                    member.handle_refused_commit(now, &identity, code, random);
                }
            }
            let output = self.member.as_mut().and_then(|member| member.poll_output(now));
            let is_done = output.is_none();
            if let Some(output) = output {
                self.carry_out(now, output);
            }
            // Before anything is committed or handed out: what is another's now.
            self.settle_ownership();
            if !self.step() && is_done {
                break;
            }
        }
        self.commits.drive(now);
    }

    fn carry_out(&mut self, now: Instant, output: Output) {
        match output {
            Output::FindCoordinator => self.find_coordinator(),
            Output::Send(request) => {
                if matches!(request.call, Call::Join(_)) {
                    self.rebalancing.get_or_insert(now);
                }
                self.line.send(request);
            }
            Output::Describe(_) => {
                self.hold_topics();
                self.describe();
            }
            Output::Changed(change) => self.change(change),
            Output::Resolve(ids) => self.resolve(now, &ids),
            Output::NeedMemberId => {
                let id = member_id(&self.core);
                if let Some(member) = &mut self.member {
                    member.set_member_id(id);
                }
            }
            Output::Report(problem) => {
                if problem == Problem::PollInterval {
                    // The next poll is what brings it back.
                    self.handle.shared.calls().call();
                }
                self.report(problem);
            }
            Output::Failed(problem) if self.closing.is_some() => {
                self.report(problem);
                if let Some(member) = &mut self.member {
                    member.close(false);
                }
            }
            Output::Failed(problem) if self.may_fall_back && is_too_new(&problem) => {
                self.join_by(GroupProtocol::Classic);
                self.tell_subscription(now);
            }
            Output::Failed(problem) => {
                let is_fenced = matches!(&problem, Problem::Refused { code: ErrorCode::FENCED_INSTANCE_ID, .. });
                // Whoever has fenced this one has the name now: two that fence each other would get nowhere.
                self.restart = (!is_fenced).then(|| now + RESTART);
                self.report(problem);
            }
            Output::Closed => self.is_out = true,
        }
    }

    /// Once, until it is another one or the membership was good again.
    fn report(&mut self, problem: Problem) {
        if self.reported.as_ref() != Some(&problem) {
            let error = describe(&problem, &self.group.coordinated.id, &self.group.settings);
            self.handle.shared.fail_all(self.core.network.security.explain(error));
            self.reported = Some(problem);
        }
    }

    fn find_coordinator(&mut self) {
        if let Some(known) = self.line.coordinator() {
            self.group.coordinated.forget(known);
        }
        // A join that waits there must not stand before the next one, should it be the same broker again.
        self.line.set_coordinator(None);
        let (core, group, answers) = (Arc::clone(&self.core), Arc::clone(&self.group), self.answers.clone());
        self.core.network.runtime.spawn(async move {
            let deadline = core.now() + core.network.request_timeout;
            let found = group.coordinated.coordinator(&core, deadline).await;
            let _ = answers.send(Answer::Found(found));
        });
    }

    fn resolve(&mut self, now: Instant, ids: &BTreeSet<Uuid>) {
        let cluster = self.core.metadata.cluster();
        let known = cluster.topics.values().map(|topic| (&topic.name, topic.id));
        let names = topics::names(known);
        let is_whole = ids.iter().all(|id| names.contains_key(id));
        if let Some(member) = &mut self.member {
            member.handle_names(&names);
        }
        if !is_whole {
            self.next_listing = Some(self.next_listing.map_or(now, |at| at.min(now)));
        }
    }

    /// What the member does not have any more is handed out no more, whatever else is going on (rule 57).
    fn settle_ownership(&mut self) {
        let Some(member) = &self.member else { return };
        let standing = member.standing();
        self.group.set_identity(member.identity(), matches!(member, Member::Consumer(_)));
        // At every wake-up, and there may be thousands: they are gone through only when that has changed.
        let ownership = Some(member.ownership());
        if self.settled != ownership {
            let committable = member.committable();
            let gone: Vec<_> = self.assigned.keys().filter(|tp| !committable.contains(*tp)).cloned().collect();
            self.take_away(&gone);
            (self.settled, self.has_any) = (ownership, !committable.is_empty());
            self.commits.set_owned(Some(committable));
        }
        // Who has unsubscribed, and has left, may assign by hand.
        let is_over = self.subscription.is_none() && standing == Standing::Out && !self.has_any;
        if is_over {
            self.commits.set_owned(None);
        }
        self.commits.set_standing((!is_over).then_some(standing));
    }

    pub(super) fn take_away(&mut self, gone: &[TopicPartition]) {
        if gone.is_empty() {
            return;
        }
        let ids: Vec<_> = gone.iter().filter_map(|tp| self.assigned.remove(tp)).collect();
        self.handle.take_away(&ids);
    }
}

/// The broker does not have the protocol of KIP-848, or does not let this group use it.
fn is_too_new(problem: &Problem) -> bool {
    let codes = [ErrorCode::UNSUPPORTED_VERSION, ErrorCode::INCONSISTENT_GROUP_PROTOCOL, ErrorCode::GROUP_ID_NOT_FOUND];
    match problem {
        Problem::Unsupported { api } => *api == ApiKey::CONSUMER_GROUP_HEARTBEAT,
        Problem::Refused { api, code } => *api == ApiKey::CONSUMER_GROUP_HEARTBEAT && codes.contains(code),
        _ => false,
    }
}
