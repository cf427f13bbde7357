//! One place at one broker: a connection that is made when it is needed, and made again when it is lost.
//!
//! ```text
//!            something to send         connected            versions known
//!   Idle ─────────────────▶ Connecting ─────────▶ Up (setup) ─────────────▶ Up
//!    ▲                         │ failed              │ lost                  │
//!    └──── Pausing (back-off) ◀┴─────────────────────┴───────────────────────┘
//! ```
//! What waits when an attempt fails, fails with it: whoever asked may know another broker. The back-off belongs to the
//! address: see [`Outages`].

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::connector::{Address, Connector, Transport};
use super::driver::Driver;
use super::gate::Gate;
use super::outage::{Outages, Over};
use super::runtime::{Runtime, Timer};
use super::security::Security;
use crate::machine::backoff::Backoff;
use crate::machine::connection::{self, CallError, Cause, Event, Outgoing, Token};

/// What every connection of a client shares.
pub struct Network {
    pub runtime: Runtime,
    pub connector: Box<dyn Connector>,
    pub address_map: Option<Box<AddressMap>>,
    pub security: Security,
    pub client_id: Arc<str>,
    pub setup_timeout: Duration,
    pub setup_timeout_max: Duration,
    pub max_idle: Duration,
    pub max_response_size: usize,
    pub request_timeout: Duration,
    pub outages: Outages,
}

/// Where to go instead of what a broker advertises.
pub type AddressMap = dyn Fn(&Address) -> Address + Send + Sync;

/// What happens on a lane.
#[derive(Debug)]
pub enum LaneEvent {
    /// A connection is ready.
    Ready,
    Answer {
        token: Token,
        version: i16,
        frame: bytes::Bytes,
    },
    /// An unanswered request (acks=0) was handed to the socket.
    Sent {
        token: Token,
    },
    Failed {
        token: Token,
        error: CallError,
    },
    /// The connection, or the attempt to make one, ended. The lane makes a new one when it has something to send.
    Down,
}

type Attempt = Pin<Box<dyn Future<Output = Result<Box<dyn Transport>, Cause>> + Send>>;

enum State {
    Idle,
    /// Until then, or until somebody else has reached the broker.
    Pausing {
        until: Instant,
        over: Over,
    },
    Connecting(Attempt),
    Up(Box<Driver>),
}

struct Queued {
    token: Token,
    request: Box<dyn Outgoing>,
    deadline: Instant,
}

pub struct Lane {
    network: Arc<Network>,
    address: Address,
    state: State,
    queue: VecDeque<Queued>,
    events: VecDeque<LaneEvent>,
    /// A connection is to be made though nothing waits for it.
    is_wanted: bool,
    /// Its attempt is the one that everybody waits for.
    is_scout: bool,
    /// The next attempt's limit; grows with failures (KIP-601).
    setup: Backoff,
    timer: Timer,
    /// Whoever has several lanes polls them all, and one has something to do.
    gate: Gate,
}

impl Lane {
    pub fn new(network: Arc<Network>, address: Address) -> Self {
        Self {
            is_wanted: false,
            is_scout: false,
            setup: Backoff::new(network.setup_timeout, network.setup_timeout_max),
            timer: Timer::new(&network.runtime),
            network,
            address,
            state: State::Idle,
            queue: VecDeque::new(),
            events: VecDeque::new(),
            gate: Gate::new(),
        }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Queues a request; the connection is made if there is none.
    #[inline]
    pub fn send(&mut self, token: Token, request: Box<dyn Outgoing>, deadline: Instant) {
        self.gate.open();
        match &mut self.state {
            State::Up(driver) => driver.send(token, request, deadline),
            _ => self.queue.push_back(Queued { token, request, deadline }),
        }
    }

    /// Makes the connection if there is none, for what will be sent; [`LaneEvent::Down`] tells of a failure.
    pub fn open(&mut self) {
        self.gate.open();
        self.is_wanted = true;
    }

    /// When the first byte of the last answer came.
    pub fn begun(&self) -> Option<Instant> {
        match &self.state {
            State::Up(driver) => driver.begun(),
            _ => None,
        }
    }

    /// Sends nothing more on the present connection until then (KIP-219).
    pub fn mute(&mut self, until: Instant) {
        self.gate.open();
        if let State::Up(driver) = &mut self.state {
            driver.mute(until);
        }
    }

    /// Drops the connection, and whatever was sent or waits to be, without a word: its owner has taken it all back.
    /// The next request makes another connection at once.
    pub fn cut(&mut self) {
        self.gate.open();
        if matches!(self.state, State::Up(_)) {
            self.state = State::Idle;
        }
        self.is_wanted = false;
        self.queue.clear();
        self.events.clear();
    }

    /// The next event. Pending while there is nothing to do; the lane lives as long as it is polled.
    ///
    /// Cancel-safe: everything under way is kept in the lane.
    pub async fn next(&mut self) -> LaneEvent {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<LaneEvent> {
        let Some(waker) = self.gate.enter(cx) else { return Poll::Pending };
        let event = self.poll_inside(&mut Context::from_waker(&waker));
        if event.is_ready() {
            // There may be more.
            self.gate.open();
        }
        event
    }

    fn poll_inside(&mut self, cx: &mut Context<'_>) -> Poll<LaneEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            match &mut self.state {
                State::Idle if self.queue.is_empty() && !self.is_wanted => return Poll::Pending,
                State::Idle => {
                    let network = &self.network;
                    self.state = match network.outages.try_connect(&self.address, network.runtime.now()) {
                        Ok(is_scout) => {
                            self.is_scout = is_scout;
                            State::Connecting(self.attempt())
                        }
                        Err((until, over)) => State::Pausing { until, over },
                    };
                }
                State::Pausing { until, over } => {
                    let until = *until;
                    if self.network.runtime.now() >= until || over.as_mut().poll(cx).is_ready() {
                        self.state = State::Idle;
                        continue;
                    }
                    let deadline = self.queue.iter().map(|queued| queued.deadline).chain([until]).min();
                    if self.timer.poll(cx, deadline).is_pending() {
                        return Poll::Pending;
                    }
                    self.expire();
                }
                State::Connecting(attempt) => match attempt.as_mut().poll(cx) {
                    Poll::Pending => {
                        let deadline = self.queue.iter().map(|queued| queued.deadline).min();
                        if self.timer.poll(cx, deadline).is_pending() {
                            return Poll::Pending;
                        }
                        self.expire();
                    }
                    Poll::Ready(Ok(io)) => self.up(io),
                    Poll::Ready(Err(cause)) => {
                        self.setup.next_delay(0);
                        self.down(cause);
                    }
                },
                State::Up(driver) => {
                    let Poll::Ready(event) = driver.poll_event(cx) else {
                        return Poll::Pending;
                    };
                    match event {
                        Event::Ready(_) => {
                            self.network.outages.end(&self.address);
                            self.is_scout = false;
                            self.setup.reset();
                            return Poll::Ready(LaneEvent::Ready);
                        }
                        Event::Answer { token, version, frame } => {
                            return Poll::Ready(LaneEvent::Answer { token, version, frame });
                        }
                        Event::Sent { token } => return Poll::Ready(LaneEvent::Sent { token }),
                        Event::Failed { token, error } => return Poll::Ready(LaneEvent::Failed { token, error }),
                        Event::Dead(cause) => self.down(cause),
                    }
                }
            }
        }
    }

    fn attempt(&mut self) -> Attempt {
        let network = Arc::clone(&self.network);
        // A certificate is for the name that the broker goes by, whatever way leads to it.
        let broker = self.address.clone();
        let address = match &network.address_map {
            Some(map) => map(&broker),
            None => broker.clone(),
        };
        let limit = self.setup.clone().next_delay(network.runtime.random());
        Box::pin(async move {
            let deadline = network.runtime.now() + limit;
            let opening = async {
                let stream = network.connector.connect(&address).await;
                let failed =
                    |error: std::io::Error| Cause::Connect { kind: error.kind(), message: error.to_string().into() };
                network.security.secure(&network.runtime, stream.map_err(failed)?, &broker).await
            };
            match network.runtime.until(deadline, opening).await {
                None => Err(Cause::ConnectTimeout { after: limit }),
                Some(outcome) => outcome,
            }
        })
    }

    fn up(&mut self, io: Box<dyn Transport>) {
        let network = &self.network;
        let config = connection::Config {
            client_id: Arc::clone(&network.client_id),
            setup_timeout: network.setup_timeout,
            max_idle: network.max_idle,
            max_response_size: network.max_response_size,
        };
        let mut driver = Box::new(Driver::new(network, io, config));
        for Queued { token, request, deadline } in self.queue.drain(..) {
            driver.send(token, request, deadline);
        }
        self.is_wanted = false;
        self.state = State::Up(driver);
    }

    fn down(&mut self, cause: Cause) {
        let is_idle = matches!(cause, Cause::Idle);
        self.is_wanted = false;
        for Queued { token, .. } in self.queue.drain(..) {
            let error = CallError::Lost { cause: cause.clone(), sent: false };
            self.events.push_back(LaneEvent::Failed { token, error });
        }
        self.events.push_back(LaneEvent::Down);
        if !is_idle {
            let runtime = &self.network.runtime;
            self.network.outages.fail(
                &self.address,
                runtime.now(),
                std::mem::take(&mut self.is_scout),
                runtime.random(),
            );
        }
        // The back-off is found there.
        self.state = State::Idle;
    }

    /// Fails what has waited past its deadline for a connection.
    fn expire(&mut self) {
        let now = self.network.runtime.now();
        let (late, queue) = std::mem::take(&mut self.queue).into_iter().partition(|queued| queued.deadline <= now);
        self.queue = queue;
        let late: VecDeque<Queued> = late;
        for Queued { token, request, .. } in late {
            let error = CallError::NotSentInTime { api: request.terms().api };
            self.events.push_back(LaneEvent::Failed { token, error });
        }
    }
}
