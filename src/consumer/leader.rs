//! The task of one leader: owns two connections to it, keeps a fetch under way while there is credit.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use super::metrics::Frame;
use super::shared::{Inbox, Shared};
use super::turn::Turn;
use super::watch::Watch;
use crate::error::Error;
use crate::machine::connection::{Call, CallError, Cause, Token};
use crate::machine::credit::PartitionId;
use crate::machine::fetch::{self, Event, Fetch, LaneKind, Plan, Route, Seen, Why};
use crate::net::{self, Address, Class, Core, Lane, LaneEvent, Timer};
use crate::wire::api::ApiKey;
use crate::wire::frame;
use crate::wire::leader::fetch::{FetchRequest, FetchResponse};

/// What the manager tells a leader. The task ends when it can tell nothing any more.
#[derive(Debug)]
pub enum Command {
    Add(Route),
    Pause {
        id: PartitionId,
        is_paused: bool,
    },
    Recall {
        id: PartitionId,
        generation: u64,
    },
    /// The broker is elsewhere now.
    Move(Address),
}

/// A partition that comes home.
#[derive(Debug)]
pub struct Released {
    pub id: PartitionId,
    pub generation: u64,
    pub next: i64,
    pub seen: Seen,
    pub why: Why,
}

pub struct Task {
    core: Arc<Core>,
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    leader: i32,
    machine: Fetch,
    waiting: Lane,
    immediate: Lane,
    home: mpsc::UnboundedSender<Released>,
    /// Rings when credit was returned, and when the caller before whom the next fetch stands back asks for more.
    credit: Arc<Notify>,
    turn: Turn,
    failing: Option<Failing>,
}

/// Commands taken at once.
const COMMANDS: usize = 1024;

/// An answer of so many bytes of records is all that there was: its reader may come before the next fetch. Behind a larger
/// one there may be more, and its connection is not to be idle.
const SMALL: usize = 16 * 1024;

/// Since the last answer.
struct Failing {
    since: Instant,
    garbled: u32,
    is_reported: bool,
}

/// Answers in a row that could not be decoded, before that is reported: one may have been damaged on its way.
const MAX_GARBLED: u32 = 2;
/// Closing does not wait longer than that for a broker.
const FAREWELL: Duration = Duration::from_secs(1);
/// From this version on the broker leaves it to the client to keep quiet (KIP-219).
const THROTTLED_BY_CLIENT: i16 = 8;

impl Task {
    pub fn new(
        core: Arc<Core>,
        shared: Arc<Shared>,
        watch: Arc<Watch>,
        leader: i32,
        address: Address,
        config: fetch::Config,
        home: mpsc::UnboundedSender<Released>,
    ) -> Self {
        Self {
            waiting: Lane::new(Arc::clone(&core.network), address.clone()),
            immediate: Lane::new(Arc::clone(&core.network), address),
            core,
            shared,
            watch,
            leader,
            machine: Fetch::new(config),
            home,
            credit: Arc::new(Notify::new()),
            turn: Turn::default(),
            failing: None,
        }
    }

    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut timer = Timer::new(&self.core.network.runtime);
        let credit = Arc::clone(&self.credit);
        let mut told = Vec::new();
        // One that goes on from turn to turn: to begin to wait costs more than to ask again.
        let mut credited = pin!(credit.notified());
        loop {
            // Here as well as in the select: a flood of events must not hold back deadlines.
            self.machine.handle_timeout(self.core.now());
            self.drain();
            if !self.turn.stands_back() {
                self.fetch();
            }
            let deadline = self.machine.poll_timeout().into_iter().chain(self.turn.until()).min();
            tokio::select! {
                biased;
                // All of an assignment before the first request goes out: the others would be a round trip late.
                received = commands.recv_many(&mut told, COMMANDS) => match received {
                    0 => break,
                    _ => told.drain(..).for_each(|command| self.handle_command(command)),
                },
                event = self.waiting.next() => self.handle_event(event, LaneKind::Waiting),
                event = self.immediate.next() => self.handle_event(event, LaneKind::Immediate),
                () = credited.as_mut() => credited.set(credit.notified()),
                () = poll_fn(|cx| timer.poll(cx, deadline)) => self.machine.handle_timeout(self.core.now()),
            }
            if self.turn.stands_back() {
                let came_back = self.shared.lock().go_ahead(&self.credit);
                self.turn.go_on(self.core.now(), came_back);
            }
        }
        let sessions = self.machine.end_sessions();
        let Self { core, leader, home, waiting, immediate, .. } = self;
        // What waits at the broker is nobody's business any more.
        drop((waiting, immediate));
        for id in sessions {
            say_farewell(&core, leader, id).await;
        }
        // The consumer is closed when the last one is let go.
        drop(home);
    }

    /// Sends whatever can be asked for.
    fn fetch(&mut self) {
        let now = self.core.now();
        loop {
            let plan = {
                let mut inbox = self.shared.lock();
                let plan = self.machine.poll_fetch(now, inbox.credit());
                if self.machine.is_starved() {
                    inbox.starve(&self.credit);
                }
                plan
            };
            let Some(Plan { lane, token, request, max_version, max_wait }) = plan else { return };
            // The broker may take its time on top (rule 75).
            let deadline = now + max_wait + self.core.network.request_timeout;
            // A single batch that is larger comes all the same: that is what `max_response_size` is for.
            let asked_bytes = usize::try_from(request.max_bytes).unwrap_or(0);
            let call = Call { asked_bytes, ..Call::up_to(request, max_version) };
            self.watch.counts.asked();
            self.lane(lane).send(token, Box::new(call), deadline);
        }
    }

    fn lane(&mut self, kind: LaneKind) -> &mut Lane {
        match kind {
            LaneKind::Waiting => &mut self.waiting,
            LaneKind::Immediate => &mut self.immediate,
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Add(route) => self.machine.add(route),
            Command::Pause { id, is_paused } => self.machine.pause(id, is_paused),
            Command::Recall { id, generation } => self.machine.recall(id, generation),
            Command::Move(address) => {
                self.waiting = Lane::new(Arc::clone(&self.core.network), address.clone());
                self.immediate = Lane::new(Arc::clone(&self.core.network), address);
                self.machine.handle_lanes_lost();
            }
        }
    }

    fn handle_event(&mut self, event: LaneEvent, lane: LaneKind) {
        match event {
            LaneEvent::Answer { token, version, frame } => {
                let frame = Frame::hold(frame, &self.watch);
                match frame::decode_response::<FetchRequest>(&frame, version) {
                    Ok(response) => self.handle_answer(token, version, response, lane),
                    Err(error) => {
                        // Whatever this connection says next is not to be trusted either.
                        let address = self.lane(lane).address().clone();
                        *self.lane(lane) = Lane::new(Arc::clone(&self.core.network), address);
                        let cause = Cause::Decode { api: ApiKey::FETCH, error };
                        self.handle_failed(token, CallError::Lost { cause, sent: true });
                        // Those that stood behind it are not answered any more.
                        self.machine.under_way(lane).into_iter().for_each(|token| self.lose(token));
                    }
                }
            }
            LaneEvent::Failed { token, error } => self.handle_failed(token, error),
            LaneEvent::Ready | LaneEvent::Sent { .. } | LaneEvent::Down => {}
        }
    }

    fn handle_answer(&mut self, token: Token, version: i16, response: FetchResponse, lane: LaneKind) {
        let now = self.core.now();
        let throttle = u64::try_from(response.throttle_time_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        if let (Some(throttle), THROTTLED_BY_CLIENT..) = (throttle, version) {
            self.lane(lane).mute(now + throttle);
        }
        if let Some(sent) = self.machine.sent(token) {
            self.watch.counts.answered(now.saturating_duration_since(sent), throttle);
        }
        if response.error_code.is_ok() {
            self.failing = None;
        }
        let begun = self.lane(lane).begun().unwrap_or(now);
        self.machine.handle_answer(now, begun, token, response, self.core.network.runtime.random());
    }

    fn lose(&mut self, token: Token) {
        self.watch.counts.unanswered();
        self.machine.handle_failed(self.core.now(), token, self.core.network.runtime.random());
    }

    fn handle_failed(&mut self, token: Token, error: CallError) {
        let now = self.core.now();
        self.lose(token);
        let is_garbled = matches!(&error, CallError::Lost { cause: Cause::Decode { .. }, .. });
        let failing = self.failing.get_or_insert(Failing { since: now, garbled: 0, is_reported: false });
        failing.garbled += u32::from(is_garbled);
        let is_hopeless = !error.is_transient() || failing.garbled >= MAX_GARBLED;
        let is_long = now.saturating_duration_since(failing.since) >= self.core.api_timeout;
        if (is_hopeless || is_long) && !std::mem::replace(&mut failing.is_reported, true) {
            let (leader, address) = (self.leader, self.waiting.address());
            let error = Error::from(error);
            let limit = if is_hopeless { "" } else { " for default_api_timeout" };
            let message = format!("nothing could be fetched from broker {leader} at {address}{limit}: {error}");
            self.shared.fail_all(Error::new(error.kind(), message).with_source(error));
        }
    }

    /// Hands on what the machine has to say: fetched data to the caller, partitions to the manager.
    fn drain(&mut self) {
        let mut answered = Vec::new();
        let mut released = Vec::new();
        let mut is_stale = false;
        let mut bytes = 0;
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Answered { id, generation, reserved, received, fetched, marks } => {
                    self.watch.counts.received(received);
                    bytes += received;
                    answered.push((id, generation, reserved, fetched, marks));
                }
                Event::Released { id, generation, next, seen, why } => {
                    released.push(Released { id, generation, next, seen, why });
                }
                Event::Hint(hint) => self.core.metadata.hint(hint),
                Event::SessionOver(id) => {
                    let (core, leader) = (Arc::clone(&self.core), self.leader);
                    self.core.network.runtime.spawn(async move { say_farewell(&core, leader, id).await });
                }
                Event::Stale => is_stale = true,
                Event::Refused(code) => {
                    let failing = {
                        let since = self.core.now();
                        self.failing.get_or_insert(Failing { since, garbled: 0, is_reported: false })
                    };
                    if !std::mem::replace(&mut failing.is_reported, true) {
                        let error = Error::broker(code, format_args!("fetching from broker {}", self.leader));
                        self.shared.fail_all(self.core.network.security.explain(error));
                    }
                }
            }
        }
        if !answered.is_empty() {
            let deliver = |inbox: &mut Inbox| {
                for (id, generation, reserved, fetched, marks) in answered {
                    inbox.answer(id, generation, reserved, fetched, marks);
                }
            };
            let may_stand_back = (1..=SMALL).contains(&bytes) && self.turn.may_stand_back();
            let ((), stands_back) = self.shared.deliver_before(may_stand_back.then_some(&self.credit), deliver);
            if stands_back {
                self.turn.stand_back(self.core.now(), std::thread::current().id());
            }
        }
        // After their data: an error must stand behind it.
        for partition in released {
            // The manager ends first only when the consumer does.
            let _ = self.home.send(partition);
        }
        if is_stale {
            self.core.metadata.refresh();
        }
    }
}

/// Tells the broker that a fetch session is over, so that its place is free for others. On the connection that is for
/// everything else: those for fetches may be waiting at the broker.
async fn say_farewell(core: &Core, leader: i32, session: i32) {
    let call = Call::new(Fetch::farewell(session));
    // If it does not hear of it, it will find out by itself.
    let _ = core.try_call(net::Route::Node(leader), Class::General, call, core.now() + FAREWELL).await;
}
