//! The task of one leader: takes batches, sends them over its own connections, settles them.
//!
//! All that decides is in [`Accumulator`] and [`Lane`]; this loop only carries between them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::account::Watch;
use super::compression;
use super::delivery::{DeliveryError, Fate, Settle};
use super::mailbox::{Inbox, WeakMailbox};
use super::open_batch::{Limits, Partition};
use super::router::{Request, Table};
use crate::error::{Error, ErrorKind, TopicPartition};
use crate::machine::accumulator::{Accumulator, Event, LaneId, Moving, PartitionId, Send};
use crate::machine::connection::{Call, CallError, Cause, Token};
use crate::machine::sequence::{Attempt, Batch, Identity, Reason, Settled};
use crate::net::{Address, Brokers, Class, Endpoint, Lane, LaneEvent, Network, Timer};
use crate::record::SealedBatch;
use crate::wire::cluster::api_versions::ApiVersionsRequest;
use crate::wire::error_code::ErrorCode;
use crate::wire::frame;
use crate::wire::leader::produce::ProduceRequest;
use crate::wire::message::Uuid;

/// What a leader's task is told.
pub(super) enum Message {
    /// A batch was begun.
    First { id: PartitionId, since: Instant },
    /// An open batch is as large as it need be, and grows on because others are before it.
    Full { id: PartitionId },
    /// A batch was sealed by its caller.
    Sealed { id: PartitionId },
    /// This leader has a partition more.
    Adopt { id: PartitionId, partition: Box<Moving<Settle>> },
    /// It has moved to another leader.
    Release { id: PartitionId },
    /// It was created again under another id.
    Renamed { id: PartitionId, topic_id: Uuid },
    /// No open batch lingers any more: somebody waits for memory.
    Hurry,
    /// The leader was asked for something cheap.
    Probed { lane: LaneId, token: Token, is_answered: bool },
    /// A batch has been compressed.
    Packed { id: PartitionId, number: u64, sealed: Result<SealedBatch, Reason> },
    /// Give up every batch that is sealed.
    Purge,
    /// The broker has moved.
    Moved(Address),
    /// Give up everything, and end; dropped when that is done.
    Stop(oneshot::Sender<()>),
}

/// What producers and their tasks share for errors' sake.
#[derive(Clone)]
pub(super) struct Names {
    pub(super) delivery_timeout: Duration,
    pub(super) network: Arc<Network>,
    pub(super) max_request_size: usize,
}

/// The producer's identity, or why there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum IdentityState {
    #[default]
    Unknown,
    Known(Identity),
    Failed(Reason),
}

pub(super) struct Leader {
    pub(super) node: i32,
    pub(super) network: Arc<Network>,
    /// Where a leader that seems to hang is asked whether it does.
    pub(super) brokers: Arc<Brokers>,
    /// By [`LaneId`].
    pub(super) lanes: [Lane; LaneId::COUNT],
    pub(super) limits: Arc<Limits>,
    pub(super) table: Arc<Table>,
    pub(super) accumulator: Accumulator<Settle>,
    pub(super) inbox: Inbox<Message>,
    /// This task's own address, for the partitions it takes charge of.
    pub(super) address: WeakMailbox<Message>,
    pub(super) router: mpsc::UnboundedSender<Request>,
    pub(super) identity: watch::Receiver<IdentityState>,
    /// Why no batch can be sent at all.
    pub(super) failed: Option<Reason>,
    pub(super) names: Names,
    pub(super) watch: Arc<Watch>,
    /// Requests without an answer, and when they were sent.
    pub(super) asked: VecDeque<(LaneId, Token, Instant)>,
    pub(super) is_answered: bool,
    /// The number of the batch that was last lent to be compressed.
    pub(super) lent: u64,
    /// An open batch more, since messages were last taken.
    pub(super) has_opened: bool,
}

/// Messages taken at once.
const MESSAGES: usize = 64;
/// Events of a lane taken at once.
const EVENTS: usize = 64;

impl Leader {
    pub(super) async fn run(mut self) {
        let runtime = self.network.runtime.clone();
        let mut timer = Timer::new(&runtime);
        let mut messages = Vec::with_capacity(MESSAGES);
        self.adopt_identity();
        // One that goes on from turn to turn: to begin to wait costs more than to ask again.
        let mut identity = pin!(changed(self.identity.clone()));
        let mut timeout = None;
        loop {
            self.pump(timeout);
            timeout = self.accumulator.poll_timeout();
            tokio::select! {
                biased;
                (lane, event) = poll_fn(|cx| poll_lanes(&mut self.lanes, cx)) => {
                    self.handle_lane(lane, event);
                    self.handle_more().await;
                }
                received = poll_fn(|cx| self.inbox.poll_many(cx, &mut messages, MESSAGES)) => {
                    if received == 0 {
                        return self.stop();
                    }
                    let now = runtime.now();
                    for message in messages.drain(..) {
                        match message {
                            Message::Stop(_done) => return self.stop(),
                            message => self.handle(now, message),
                        }
                    }
                    // Whoever waits for memory said so when it began to, for what was open then (rule 17).
                    if std::mem::take(&mut self.has_opened) && self.limits.budget.is_short() {
                        self.accumulator.hurry(now);
                    }
                }
                watch = identity.as_mut() => match watch {
                    Some(watch) => {
                        self.adopt_identity();
                        identity.set(changed(watch));
                    }
                    // The router is gone, and with it whoever could route what is left.
                    None => return self.stop(),
                },
                () = poll_fn(|cx| timer.poll(cx, timeout)) => {
                    self.accumulator.handle_timeout(runtime.now());
                }
            }
        }
    }

    /// Everything that can be done without waiting.
    fn pump(&mut self, timeout: Option<Instant>) {
        let now = self.network.runtime.now();
        // Here as well as in the select: a flood of messages must not hold back lingers and deadlines.
        if timeout.is_some_and(|at| at <= now) {
            self.accumulator.handle_timeout(now);
        }
        while let Some(id) = self.accumulator.poll_take() {
            if let Some(partition) = self.table.get(id) {
                partition.take(&self.limits).for_each(|batch| self.push(now, id, batch));
            }
            self.accumulator.handle_taken(now, id);
        }
        if let Some(reason) = &self.failed {
            self.accumulator.fail_all(now, reason);
        }
        // Behind what is to be cut.
        self.drain_events(now);
        while let Some(Send { lane, token, request, has_ids, retries, oldest }) = self.accumulator.poll_request(now) {
            // A deadline is so long after the first record of its batch.
            let waited = oldest.map(|at| (now + self.names.delivery_timeout).saturating_duration_since(at));
            self.watch.counts.request(retries, waited);
            self.asked.push_back((lane, token, now));
            // v13 has ids instead of names.
            let mut call = if has_ids { Call::new(request) } else { Call::up_to(request, 12) };
            call.is_answered = self.is_answered;
            self.lanes[lane as usize].send(token, Box::new(call), now + self.network.request_timeout);
        }
        self.drain_events(now);
    }

    fn drain_events(&mut self, now: Instant) {
        while let Some(event) = self.accumulator.poll_event() {
            match event {
                Event::Settled { id, settled } => self.settle(id, settled),
                Event::Refresh => drop(self.router.send(Request::Refresh)),
                Event::Hint(hint) => drop(self.router.send(Request::Hint(hint))),
                Event::Overdue => drop(self.router.send(Request::Overdue(self.node))),
                Event::Probe { lane, token } => self.probe(now, lane, token),
                Event::Cut(lane) => self.cut(lane),
                Event::Open(lane) => self.lanes[lane as usize].open(),
                Event::NeedsNewerThan(identity) => drop(self.router.send(Request::NewEpoch(identity))),
                Event::Left { id, partition } => self.leave(id, partition),
            }
        }
    }

    fn cut(&mut self, lane: LaneId) {
        self.lanes[lane as usize].cut();
        let before = self.asked.len();
        self.asked.retain(|(asked, ..)| *asked != lane);
        (self.asked.len()..before).for_each(|_| self.watch.counts.unanswered());
    }

    /// Asks the leader for something cheap over the connection that everybody shares.
    fn probe(&self, now: Instant, lane: LaneId, token: Token) {
        let to = Endpoint { node: Some(self.node), address: self.lanes[lane as usize].address().clone() };
        let (brokers, home) = (Arc::clone(&self.brokers), self.address.clone());
        let deadline = now + self.network.request_timeout;
        self.network.runtime.spawn(async move {
            let answer = brokers.call(&to, Class::General, Call::new(ApiVersionsRequest::default()), deadline).await;
            if let Some(home) = home.upgrade() {
                home.send(Message::Probed { lane, token, is_answered: answer.is_ok() });
            }
        });
    }

    fn handle(&mut self, now: Instant, message: Message) {
        match message {
            Message::First { id, since } => {
                self.accumulator.handle_first(now, id, since);
                self.has_opened = true;
            }
            Message::Full { id } => self.accumulator.hurry_one(now, id),
            Message::Sealed { id } => self.fetch_sealed(now, id),
            Message::Adopt { id, mut partition } => {
                let Some(shared) = self.table.get(id) else { return };
                self.pack(&mut partition, id);
                let since = shared.set_owner(self.address.upgrade());
                self.accumulator.adopt(now, id, *partition, since);
                self.fetch_sealed(now, id);
                self.has_opened = true;
            }
            Message::Release { id } => self.accumulator.release(now, id),
            Message::Renamed { id, topic_id } => self.accumulator.rename(id, topic_id),
            Message::Hurry => self.accumulator.hurry(now),
            Message::Probed { lane, token, is_answered } => {
                self.accumulator.handle_probe(now, lane, token, is_answered);
            }
            Message::Purge => {
                for id in self.accumulator.partitions().collect::<Vec<_>>() {
                    self.fetch_sealed(now, id);
                }
                self.accumulator.fail_all(now, &Reason::Purged);
            }
            Message::Packed { id, number, sealed } => self.accumulator.give_back(now, id, number, sealed),
            Message::Moved(address) => {
                self.lanes = lanes(&self.network, &address);
                LaneId::ALL.into_iter().for_each(|lane| self.accumulator.handle_up(now, lane, false));
                self.asked.drain(..).for_each(|_| self.watch.counts.unanswered());
                let error = CallError::Lost { cause: Cause::Closed, sent: true };
                self.accumulator.handle_all_failed(now, &error, self.network.runtime.random());
            }
            Message::Stop(_) => {}
        }
    }

    /// What else has come on the lane, before anything is sent because of the first: a connection that is lost takes
    /// several requests with it.
    async fn handle_more(&mut self) {
        for _ in 1..EVENTS {
            let more = poll_fn(|cx| Poll::Ready(poll_lanes(&mut self.lanes, cx))).await;
            let Poll::Ready((lane, event)) = more else { return };
            self.handle_lane(lane, event);
        }
    }

    fn handle_lane(&mut self, lane: LaneId, event: LaneEvent) {
        let now = self.network.runtime.now();
        let random = self.network.runtime.random();
        if let LaneEvent::Answer { token, .. } | LaneEvent::Sent { token } | LaneEvent::Failed { token, .. } = &event
            && let Some(since) = self.take_asked(*token)
        {
            match &event {
                LaneEvent::Answer { .. } => self.watch.counts.answered(now.saturating_duration_since(since)),
                LaneEvent::Failed { .. } => self.watch.counts.unanswered(),
                _ => {}
            }
        }
        match event {
            LaneEvent::Answer { token, version, frame } => {
                match frame::decode_response::<ProduceRequest>(&frame, version) {
                    Ok(response) => {
                        // Before v6 the broker holds its answer back itself (KIP-219).
                        if let Ok(throttle @ 1..) = u64::try_from(response.throttle_time_ms)
                            && version >= 6
                        {
                            let until = now + Duration::from_millis(throttle);
                            self.lanes[lane as usize].mute(until);
                            self.accumulator.handle_muted(now, lane, until);
                        }
                        self.accumulator.handle_response(now, token, &response, random);
                    }
                    Err(error) => {
                        let api = crate::wire::api::ApiKey::PRODUCE;
                        let error = CallError::Lost { cause: Cause::Decode { api, error }, sent: true };
                        self.accumulator.handle_failed(now, token, &error, random);
                    }
                }
            }
            LaneEvent::Sent { token } => self.accumulator.handle_sent(now, token, random),
            LaneEvent::Failed { token, error } => self.accumulator.handle_failed(now, token, &error, random),
            LaneEvent::Ready => self.accumulator.handle_up(now, lane, true),
            LaneEvent::Down => self.accumulator.handle_up(now, lane, false),
        }
    }

    /// When the request was sent, if it had no answer yet.
    fn take_asked(&mut self, token: Token) -> Option<Instant> {
        let (_, _, since) = match self.asked.front() {
            Some((_, oldest, _)) if *oldest == token => self.asked.pop_front()?,
            _ => self.asked.remove(self.asked.iter().position(|(_, asked, _)| *asked == token)?)?,
        };
        Some(since)
    }

    /// Unless the partition has left: then its batches are for its next leader, whoever has told this one of them.
    fn fetch_sealed(&mut self, now: Instant, id: PartitionId) {
        if !self.accumulator.has(id) {
            return;
        }
        for batch in self.table.get(id).map(|partition| partition.take_sealed()).unwrap_or_default() {
            self.push(now, id, batch);
        }
    }

    /// Into the partition's queue, compressed if it is to be; a large batch only takes its place there for now.
    fn push(&mut self, now: Instant, id: PartitionId, mut batch: Batch<Settle>) {
        let Some(compression) = &self.limits.compression else { return self.accumulator.push(now, id, batch) };
        self.lent += 1;
        let (number, is_large) = (self.lent, batch.size() >= compression::LARGE);
        let lent = batch.lend(number);
        self.accumulator.push(now, id, batch);
        let Some(mut sealed) = lent else { return };
        match self.address.upgrade().filter(|_| is_large) {
            Some(home) => compression.lend(id, number, sealed, home),
            None => {
                let packed = compression.compress(&mut sealed).map(|()| sealed);
                self.accumulator.give_back(now, id, number, packed);
            }
        }
    }

    /// What came with a partition and never was at a leader's.
    fn pack(&mut self, partition: &mut Moving<Settle>, id: PartitionId) {
        let Some((compression, home)) = self.limits.compression.as_ref().zip(self.address.upgrade()) else { return };
        for (number, sealed) in partition.queue.lend_all(&mut self.lent) {
            compression.lend(id, number, sealed, Arc::clone(&home));
        }
    }

    fn adopt_identity(&mut self) {
        let now = self.network.runtime.now();
        let state = self.identity.borrow_and_update().clone();
        match state {
            IdentityState::Unknown => self.accumulator.set_identity(now, None),
            IdentityState::Known(identity) => self.accumulator.set_identity(now, Some(identity)),
            IdentityState::Failed(reason) => self.failed = Some(reason),
        }
    }

    /// The partition goes back to the router, with what callers have sealed: its next task takes it all from there.
    fn leave(&mut self, id: PartitionId, mut partition: Box<Moving<Settle>>) {
        if let Some(shared) = self.table.get(id) {
            shared.set_owner(None);
            for batch in shared.take_sealed() {
                partition.queue.push(batch);
            }
        }
        let _ = self.router.send(Request::Left { id, partition });
    }

    fn settle(&self, id: PartitionId, settled: Settled<Settle>) {
        let Some(partition) = self.table.get(id) else { return };
        settle(&partition, settled, &self.names, &self.limits);
    }

    fn stop(mut self) {
        let now = self.network.runtime.now();
        self.accumulator.fail_all(now, &Reason::Closed);
        for id in self.accumulator.partitions().collect::<Vec<_>>() {
            let Some(partition) = self.table.get(id) else { continue };
            for batch in partition.close(&self.limits, Error::closed("producer")) {
                self.accumulator.push(now, id, batch);
            }
        }
        self.accumulator.fail_all(now, &Reason::Closed);
        while let Some(event) = self.accumulator.poll_event() {
            match event {
                Event::Settled { id, settled } => self.settle(id, settled),
                // The router waits for this task's end, and settles what came back.
                Event::Left { id, partition } => self.leave(id, partition),
                Event::Refresh
                | Event::Overdue
                | Event::Probe { .. }
                | Event::Cut(_)
                | Event::Open(_)
                | Event::Hint(_)
                | Event::NeedsNewerThan(_) => {}
            }
        }
    }
}

/// The watch, as soon as there is something new in it; `None` if there never will be.
async fn changed<T>(mut watch: watch::Receiver<T>) -> Option<watch::Receiver<T>> {
    watch.changed().await.ok()?;
    Some(watch)
}

/// The connections to one leader.
pub(super) fn lanes(network: &Arc<Network>, address: &Address) -> [Lane; LaneId::COUNT] {
    LaneId::ALL.map(|_| Lane::new(Arc::clone(network), address.clone()))
}

fn poll_lanes(lanes: &mut [Lane], cx: &mut Context<'_>) -> Poll<(LaneId, LaneEvent)> {
    for lane in LaneId::ALL {
        if let Poll::Ready(event) = lanes[lane as usize].poll_next(cx) {
            return Poll::Ready((lane, event));
        }
    }
    Poll::Pending
}

/// Tells a batch's receipts what became of it.
pub(super) fn settle(partition: &Partition, settled: Settled<Settle>, names: &Names, limits: &Limits) {
    let Settled { sealed, receipts, result } = settled;
    let result = result.map_err(|failure| {
        let fate = if failure.maybe_written { Fate::Unknown } else { Fate::NotWritten };
        DeliveryError { error: error_of(failure.reason, partition, names), fate }
    });
    // Before anybody hears that there is memory, and asks for a buffer.
    if let Some(buffer) = sealed.and_then(SealedBatch::recycle) {
        limits.pool.put(buffer);
    }
    receipts.settle(result);
}

fn error_of(reason: Reason, partition: &Partition, names: &Names) -> Error {
    let topic_partition = TopicPartition::new(Arc::clone(&partition.topic), partition.index);
    let error = match reason {
        Reason::Rejected(Attempt::Refused {
            code: code @ (ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE),
            ..
        }) => Error::broker(
            code,
            format_args!(
                "a record for {topic_partition} is within max_request_size (max.request.size, {}), and not within the \
                 topic's max.message.bytes or the broker's message.max.bytes",
                names.max_request_size
            ),
        ),
        Reason::Rejected(attempt) => attempt_error(attempt, &topic_partition),
        Reason::BehindGap { last } => {
            let what = format!("{topic_partition}: a batch before this one is not in the log, and nobody can tell");
            let last = last.map(|attempt| format!("; the last attempt: {}", attempt_error(attempt, &topic_partition)));
            Error::new(ErrorKind::Broker, format!("{what} whether this one is{}", last.unwrap_or_default()))
        }
        Reason::Compression(message) => Error::new(ErrorKind::Protocol, format!("{topic_partition}: {message}")),
        Reason::Expired { last } => {
            let limit = names.delivery_timeout;
            let what = format!("{topic_partition} was not acknowledged within delivery_timeout ({limit:?})");
            match last.map(|attempt| attempt_error(attempt, &topic_partition)) {
                Some(last) => {
                    Error::new(ErrorKind::Timeout, format!("{what}; the last attempt: {last}")).with_source(last)
                }
                None => {
                    let why = "it was never sent, since no leader could be reached, or none took what was before it";
                    Error::new(ErrorKind::Timeout, format!("{what}: {why}"))
                }
            }
        }
        Reason::NoIdentity(CallError::Unsupported(api)) => Error::new(
            ErrorKind::Unsupported,
            format!(
                "idempotence needs a producer id, and {api}: use a newer broker, or turn it off with \
                 idempotence(false) and accept that a retry may write a record twice"
            ),
        ),
        Reason::NoIdentity(error) => error.into(),
        Reason::IdentityRefused(code) => Error::broker(code, "a producer id, which idempotence needs"),
        Reason::Purged => Error::new(ErrorKind::Purged, format!("{topic_partition}: given up by purge")),
        Reason::Closed => Error::closed("producer"),
    };
    names.network.security.explain(error.with_partition(topic_partition))
}

fn attempt_error(attempt: Attempt, topic_partition: &TopicPartition) -> Error {
    match attempt {
        Attempt::Refused { code, message, .. } => match message {
            Some(message) => Error::broker(code, format_args!("a batch for {topic_partition} ({message})")),
            None => Error::broker(code, format_args!("a batch for {topic_partition}")),
        },
        Attempt::Failed(error) => error.into(),
        Attempt::Unmentioned => {
            Error::new(ErrorKind::Protocol, format!("the broker's answer does not mention {topic_partition}"))
        }
    }
}
