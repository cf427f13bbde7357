//! The producer's one central task: which leader's task has which partition, and who the producer is.
//!
//! Nothing passes through here on a good day: callers and leaders' tasks talk directly. A partition comes by when its
//! leader moves, and stays here while it has none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::account::{Account, Watch};
use super::budget::{Budget, Share};
use super::delivery::Settle;
use super::leader::{self, IdentityState, Leader, Message, Names};
use super::load::Load;
use super::mailbox::{Mailbox, mailbox};
use super::open_batch::{Limits, Partition};
use super::topic::Topic;
use crate::error::Error;
use crate::machine::accumulator::{self, Accumulator, Hint, Moving, PartitionId, PartitionName};
use crate::machine::connection::{Call, CallError};
use crate::machine::metadata::Cluster;
use crate::machine::sequence::{self, Failure, Identity, PartitionQueue, Reason};
use crate::net::{Address, Class, Core, HEDGE_AFTER, Route, Runtime, Timer};
use crate::wire::api::ApiKey;
use crate::wire::coordinator::init_producer_id::InitProducerIdRequest;
use crate::wire::error_code::Action;
use crate::wire::message::Uuid;

/// What the router is asked.
pub(super) enum Request {
    /// A topic is used for the first time, or has more partitions than before.
    Register { topic: Arc<Topic>, partitions: Vec<Arc<Partition>> },
    /// A leader's task gave a partition back.
    Left { id: PartitionId, partition: Box<Moving<Settle>> },
    /// Leaders are not what the picture says.
    Refresh,
    /// This leader does not answer in time: somebody else is to say what it leads.
    Overdue(i32),
    /// A broker said who leads a partition now.
    Hint(Hint),
    /// The producer's epoch that must not be used any more.
    NewEpoch(Identity),
    /// Somebody waits for memory.
    Hurry,
    /// Give up every batch that is sealed.
    Purge,
    /// The last handle is gone: send what is left, then end.
    Drain,
    /// Give up what is left, tell, and end.
    Stop(oneshot::Sender<()>),
}

/// All partitions of a producer, by id.
pub(super) struct Table {
    partitions: RwLock<Vec<Arc<Partition>>>,
    runtime: Runtime,
    watch: Arc<Watch>,
    budget: Arc<Budget>,
}

impl Table {
    pub(super) fn new(runtime: &Runtime, watch: &Arc<Watch>, budget: &Arc<Budget>) -> Self {
        let (watch, budget) = (Arc::clone(watch), Arc::clone(budget));
        Self { partitions: RwLock::default(), runtime: runtime.clone(), watch, budget }
    }

    pub(super) fn get(&self, id: PartitionId) -> Option<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(id as usize).map(Arc::clone)
    }

    pub(super) fn all(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Partitions of `topic` from index `from` up to `to`, each with a fresh id.
    pub(super) fn add(&self, topic: &Arc<str>, from: usize, to: usize) -> Vec<Arc<Partition>> {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let added = (from..to).map(|index| {
            // Neither a topic nor a producer has 2³¹ partitions.
            let account = Account {
                topic: Arc::clone(topic),
                partition: index as i32,
                load: Load::new(&self.runtime),
                share: Share::new(&self.budget),
                is_strict: AtomicBool::new(false),
                watch: Arc::clone(&self.watch),
            };
            let partition = Arc::new(Partition::new(partitions.len() as PartitionId, account));
            partitions.push(Arc::clone(&partition));
            partition
        });
        added.collect()
    }
}

/// Where a partition is.
enum Home {
    /// Here: it has no leader.
    Router(Box<Moving<Settle>>),
    Leader(i32),
    /// On its way from a leader back to here.
    Leaving(i32),
}

struct Place {
    home: Home,
    topic_id: Uuid,
}

struct LeaderTask {
    messages: Arc<Mailbox<Message>>,
    address: Address,
}

/// Settings that only tasks need.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) is_idempotent: bool,
    pub(super) accumulator: accumulator::Config,
    pub(super) queue: sequence::Config,
    pub(super) names: Names,
}

type InitFuture = Pin<Box<dyn Future<Output = Result<Identity, Reason>> + Send>>;

pub(super) struct Router {
    core: Arc<Core>,
    settings: Settings,
    limits: Arc<Limits>,
    table: Arc<Table>,
    inbox: mpsc::UnboundedReceiver<Request>,
    /// For the leaders' tasks. It keeps the inbox open: the router ends by `Drain` or `Stop`, or with its runtime.
    own: mpsc::UnboundedSender<Request>,
    topics: Vec<Arc<Topic>>,
    places: BTreeMap<PartitionId, Place>,
    /// Those of them that are here.
    homeless: BTreeSet<PartitionId>,
    leaders: BTreeMap<i32, LeaderTask>,
    identity: watch::Sender<IdentityState>,
    init: Option<InitFuture>,
    /// Last, so that what the tasks hold is settled by now: fails what callers still have here, if the runtime ends.
    guard: Guard,
}

/// How often partitions without a leader are looked at: their batches expire here.
const SWEEP: Duration = Duration::from_millis(100);

impl Router {
    pub(super) fn start(
        core: &Arc<Core>,
        settings: Settings,
        limits: &Arc<Limits>,
        table: &Arc<Table>,
    ) -> mpsc::UnboundedSender<Request> {
        let (requests, inbox) = mpsc::unbounded_channel();
        let guard = Guard { table: Arc::clone(table), limits: Arc::clone(limits), names: settings.names.clone() };
        let router = Self {
            core: Arc::clone(core),
            settings,
            limits: Arc::clone(limits),
            table: Arc::clone(table),
            inbox,
            own: requests.clone(),
            topics: Vec::new(),
            places: BTreeMap::new(),
            homeless: BTreeSet::new(),
            leaders: BTreeMap::new(),
            identity: watch::channel(IdentityState::Unknown).0,
            init: None,
            guard,
        };
        core.network.runtime.spawn(router.run());
        requests
    }

    async fn run(mut self) {
        let runtime = self.core.network.runtime.clone();
        let mut pictures = self.core.metadata.watch();
        let mut timer = Timer::new(&runtime);
        let mut drain: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
        let mut swept = runtime.now();
        loop {
            let has_homeless = !self.homeless.is_empty();
            let now = runtime.now();
            // Here and not in the select alone: a flood of requests must not hold back deadlines.
            if has_homeless && swept + SWEEP <= now {
                self.sweep();
                swept = now;
            }
            let sweep = has_homeless.then_some(swept + SWEEP);
            tokio::select! {
                biased;
                request = self.inbox.recv() => match request {
                    Some(Request::Drain) => drain = Some(self.drained()),
                    Some(Request::Stop(done)) => {
                        self.stop().await;
                        let _ = done.send(());
                        return;
                    }
                    Some(request) => self.handle(request),
                    None => return,
                },
                changed = pictures.changed() => match changed {
                    Ok(()) => {
                        let cluster = Arc::clone(&pictures.borrow_and_update().cluster);
                        self.handle_picture(&cluster);
                    }
                    Err(_) => return self.stop().await,
                },
                outcome = async { self.init.as_mut()?.await.into() }, if self.init.is_some() => {
                    self.init = None;
                    let outcome: Option<Result<Identity, Reason>> = outcome;
                    match outcome {
                        Some(Ok(identity)) => drop(self.identity.send_replace(IdentityState::Known(identity))),
                        Some(Err(reason)) => drop(self.identity.send_replace(IdentityState::Failed(reason))),
                        None => {}
                    }
                    self.sweep();
                }
                () = async { match drain.as_mut() { Some(drain) => drain.await, None => std::future::pending().await } } => {
                    return self.stop().await;
                }
                () = std::future::poll_fn(|cx| timer.poll(cx, sweep)) => {}
            }
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Register { topic, partitions } => {
                if !self.topics.iter().any(|known| Arc::ptr_eq(known, &topic)) {
                    self.topics.push(Arc::clone(&topic));
                }
                self.register(partitions);
            }
            Request::Left { id, partition } => {
                if let Some(place) = self.places.get_mut(&id) {
                    place.home = Home::Router(partition);
                    self.homeless.insert(id);
                }
                let cluster = self.core.metadata.cluster();
                self.place(&cluster, id);
            }
            Request::Refresh => self.core.metadata.refresh(),
            Request::Overdue(node) => self.core.metadata.refresh_elsewhere(node),
            Request::Hint(hint) => self.core.metadata.hint(hint),
            Request::NewEpoch(spent) => self.new_epoch(spent),
            Request::Hurry => {
                for leader in self.leaders.values() {
                    leader.messages.send(Message::Hurry);
                }
            }
            Request::Purge => {
                for leader in self.leaders.values() {
                    leader.messages.send(Message::Purge);
                }
                self.sweep_for(Some(Reason::Purged));
            }
            Request::Drain | Request::Stop(_) => {}
        }
    }

    fn register(&mut self, partitions: Vec<Arc<Partition>>) {
        if self.settings.is_idempotent && self.init.is_none() && *self.identity.borrow() == IdentityState::Unknown {
            self.init = Some(Box::pin(init_producer_id(Arc::clone(&self.core), 0)));
        }
        let cluster = self.core.metadata.cluster();
        for partition in partitions {
            let topic_id = cluster.topics.get(&partition.topic).map(|topic| topic.id).unwrap_or_default();
            let name = PartitionName { topic: Arc::clone(&partition.topic), topic_id, index: partition.index };
            let queue = PartitionQueue::new(self.settings.queue);
            let home = Home::Router(Box::new(Moving { name, queue, had_leader: false }));
            self.places.insert(partition.id, Place { home, topic_id });
            self.homeless.insert(partition.id);
            self.place(&cluster, partition.id);
        }
    }

    fn handle_picture(&mut self, cluster: &Cluster) {
        for topic in self.topics.clone() {
            if let Some(told) = cluster.topics.get(&topic.name) {
                let added = topic.update(told);
                self.register(added);
            }
        }
        for (node, leader) in &mut self.leaders {
            let address = cluster.brokers.get(node).map(crate::net::address_of);
            if let Some(address) = address.filter(|address| *address != leader.address) {
                leader.address = address.clone();
                leader.messages.send(Message::Moved(address));
            }
        }
        for id in self.places.keys().copied().collect::<Vec<_>>() {
            self.place(cluster, id);
        }
        // A broker that has left the cluster, and has nothing any more.
        let places = &self.places;
        self.leaders.retain(|node, leader| {
            let is_used = places.values().any(|place| match place.home {
                Home::Leader(home) | Home::Leaving(home) => home == *node,
                Home::Router(_) => false,
            });
            if !is_used && !cluster.brokers.contains_key(node) {
                leader.messages.send(Message::Stop(oneshot::channel().0));
                return false;
            }
            true
        });
    }

    /// Brings one partition to where the picture says that it belongs.
    fn place(&mut self, cluster: &Cluster, id: PartitionId) {
        let (Some(partition), Some(place)) = (self.table.get(id), self.places.get_mut(&id)) else { return };
        let leader = cluster.leader(&partition.topic, partition.index).map(|(broker, _)| broker.id);
        let topic_id = cluster.topics.get(&partition.topic).map(|topic| topic.id).unwrap_or_default();
        if place.topic_id != topic_id {
            place.topic_id = topic_id;
            match &mut place.home {
                Home::Router(moving) => moving.name.topic_id = topic_id,
                Home::Leader(node) | Home::Leaving(node) => {
                    if let Some(leader) = self.leaders.get(node) {
                        leader.messages.send(Message::Renamed { id, topic_id });
                    }
                }
            }
        }
        match (&mut place.home, leader) {
            (Home::Router(_), Some(node)) => {
                let Some(messages) = self.leader(cluster, node) else { return };
                let Some(place) = self.places.get_mut(&id) else { return };
                if let Home::Router(mut partition) = std::mem::replace(&mut place.home, Home::Leader(node)) {
                    self.homeless.remove(&id);
                    partition.name.topic_id = topic_id;
                    messages.send(Message::Adopt { id, partition });
                }
            }
            // Without a leader it stays: the old one may be the next.
            (Home::Leader(home), Some(node)) if *home != node => {
                if let Some(leader) = self.leaders.get(home) {
                    leader.messages.send(Message::Release { id });
                }
                place.home = Home::Leaving(*home);
            }
            _ => {}
        }
    }

    /// The task of one leader, started if there is none.
    fn leader(&mut self, cluster: &Cluster, node: i32) -> Option<Arc<Mailbox<Message>>> {
        if let Some(leader) = self.leaders.get(&node) {
            return Some(Arc::clone(&leader.messages));
        }
        let address = crate::net::address_of(cluster.brokers.get(&node)?);
        let (messages, inbox) = mailbox();
        let leader = Leader {
            node,
            network: Arc::clone(&self.core.network),
            brokers: Arc::clone(&self.core.brokers),
            lanes: leader::lanes(&self.core.network, &address),
            limits: Arc::clone(&self.limits),
            table: Arc::clone(&self.table),
            accumulator: Accumulator::new(self.settings.accumulator.clone(), self.settings.is_idempotent),
            inbox,
            address: Arc::downgrade(&messages),
            router: self.own.clone(),
            identity: self.identity.subscribe(),
            failed: None,
            names: self.settings.names.clone(),
            watch: Arc::clone(&self.table.watch),
            asked: VecDeque::new(),
            is_answered: self.settings.accumulator.acks != 0,
            lent: 0,
            has_opened: false,
        };
        self.core.network.runtime.spawn(leader.run());
        self.leaders.insert(node, LeaderTask { messages: Arc::clone(&messages), address });
        Some(messages)
    }

    /// Bumps the epoch behind `spent`, unless that has happened already. An idempotent producer does so on its own:
    /// brokers take any higher epoch that starts at sequence 0. At the last epoch a new id is asked for (rule 9).
    fn new_epoch(&mut self, spent: Identity) {
        if *self.identity.borrow() != IdentityState::Known(spent) {
            return;
        }
        if spent.epoch < i16::MAX - 1 {
            let next = Identity { epoch: spent.epoch + 1, ..spent };
            self.identity.send_replace(IdentityState::Known(next));
        } else if self.init.is_none() {
            self.identity.send_replace(IdentityState::Unknown);
            self.init = Some(Box::pin(init_producer_id(Arc::clone(&self.core), spent.former_ids + 1)));
        }
    }

    /// Partitions without a leader: what callers sealed comes here, and expires here.
    fn sweep(&mut self) {
        let failed = match &*self.identity.borrow() {
            IdentityState::Failed(reason) => Some(reason.clone()),
            _ => None,
        };
        self.sweep_for(failed);
    }

    /// Gives up all that is here, if there is a reason.
    fn sweep_for(&mut self, failed: Option<Reason>) {
        let now = self.core.now();
        for id in &self.homeless {
            let (Some(place), Some(partition)) = (self.places.get_mut(id), self.table.get(*id)) else { continue };
            let Home::Router(moving) = &mut place.home else { continue };
            for batch in partition.take(&self.limits) {
                moving.queue.push(batch);
            }
            let ended = match &failed {
                Some(reason) => moving.queue.fail_all(reason),
                None => std::iter::from_fn(|| moving.queue.poll_settled(now)).collect(),
            };
            for settled in ended {
                leader::settle(&partition, settled, &self.settings.names, &self.limits);
            }
        }
    }

    /// Resolves once everything that is in the producer now is settled.
    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let receipts: Vec<_> = self.table.all().iter().filter_map(|partition| partition.flush(&self.limits)).collect();
        Box::pin(async move {
            for receipts in receipts {
                let _ = receipts.receipt(0).await;
            }
        })
    }

    /// Ends the leaders' tasks, and waits for what they settle.
    async fn stop(mut self) {
        for leader in std::mem::take(&mut self.leaders).into_values() {
            let (done, stopped) = oneshot::channel();
            leader.messages.send(Message::Stop(done));
            // An error if the task was gone already.
            let _ = stopped.await;
        }
        for (id, place) in std::mem::take(&mut self.places) {
            if let (Home::Router(mut moving), Some(partition)) = (place.home, self.table.get(id)) {
                for settled in moving.queue.fail_all(&Reason::Closed) {
                    leader::settle(&partition, settled, &self.settings.names, &self.limits);
                }
            }
        }
        // What leaders gave back while they were stopped.
        self.inbox.close();
        while let Ok(request) = self.inbox.try_recv() {
            if let Request::Left { id, partition: mut moving } = request
                && let Some(partition) = self.table.get(id)
            {
                for settled in moving.queue.fail_all(&Reason::Closed) {
                    leader::settle(&partition, settled, &self.settings.names, &self.limits);
                }
            }
        }
        self.guard.close();
    }
}

/// Closes every partition when the router ends, whatever ended it: no receipt waits for a task that is gone.
struct Guard {
    table: Arc<Table>,
    limits: Arc<Limits>,
    names: Names,
}

impl Guard {
    fn close(&self) {
        for partition in self.table.all() {
            for batch in partition.close(&self.limits, Error::closed("producer")) {
                let failure = Failure { reason: Reason::Closed, maybe_written: false };
                leader::settle(&partition, batch.fail(failure), &self.names, &self.limits);
            }
        }
        self.limits.budget.close();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.close();
    }
}

/// Asks any broker for a producer id, until one gives it or says that it never will.
async fn init_producer_id(core: Arc<Core>, former_ids: u32) -> Result<Identity, Reason> {
    let mut backoff = core.backoff();
    let mut patience = HEDGE_AFTER;
    loop {
        // The time-out is a transaction's; brokers refuse zero even without one.
        let request =
            InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: i32::MAX, ..Default::default() };
        // A hung broker must not keep the first record waiting: the next one is asked soon. An id that is answered too
        // late is never used, which costs nothing.
        let deadline: Instant = core.now() + patience.min(core.network.request_timeout);
        patience = patience.saturating_mul(2);
        match core.try_call(Route::Any, Class::General, Call::new(request), deadline).await {
            Ok(response) => match response.error_code.action(ApiKey::INIT_PRODUCER_ID) {
                Action::Done => {
                    return Ok(Identity { id: response.producer_id, epoch: response.producer_epoch, former_ids });
                }
                Action::Retry | Action::Refresh | Action::FindCoordinator => {}
                _ => return Err(Reason::IdentityRefused(response.error_code)),
            },
            // But who we are is the same to all.
            Err(error) if error.is_denied() => return Err(Reason::NoIdentity(error)),
            // One broker that cannot be talked to says nothing of the others.
            Err(CallError::Lost { .. } | CallError::NotSentInTime { .. } | CallError::NotAwaited { .. }) => {}
            Err(error @ (CallError::Unsupported(_) | CallError::Encode { .. })) => {
                return Err(Reason::NoIdentity(error));
            }
        }
        core.sleep(backoff.next_delay(core.network.runtime.random())).await;
    }
}
