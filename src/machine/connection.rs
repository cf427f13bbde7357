//! One connection to one broker: negotiates versions, then matches answers to requests, first in, first out.
//!
//! ```text
//!              ApiVersions answered
//!  Negotiating ────────────────────▶ Ready ──┐
//!       │  ▲ error 35: a lower version       │ deadline, wrong answer, end of stream, close
//!       └──┘                                 ▼
//!       └──────────────────────────────────▶ Dead(cause)
//!
//!  with SASL:  Negotiating ──▶ LoggingIn ──▶ Ready ──┐ 85 to 95 % of the session are over:
//!                                  ▲                 │ nothing new is sent, and when all
//!                                  └─────────────────┘ is answered, it logs in again
//! ```
//! Kafka answers a connection's requests in order, so an answer belongs to the head of the queue or the connection is
//! given up: nothing is matched by search. A connection dies once, for one cause, and every request hears of it with
//! whether its bytes may have reached the broker.

mod login;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::sasl::{self, Login};
use super::trust::TlsFailure;
use crate::wire::api::{ApiKey, BrokerVersions, UnsupportedApi};
use crate::wire::cluster::api_versions::ApiVersionsRequest;
use crate::wire::cursor::{DecodeError, EncodeError, Frame};
use crate::wire::error_code::ErrorCode;
use crate::wire::frame::{self, RequestHeader};
use crate::wire::message::{Request, Versions};

/// What a caller calls its request by.
pub type Token = u64;

/// A request of any type, to be encoded once the version is known.
pub trait Outgoing: Send {
    fn terms(&self) -> Terms;
    fn encode(&self, header: RequestHeader<'_>) -> Result<Frame, EncodeError>;
}

/// What a connection has to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub api: ApiKey,
    /// The versions in which this very request can be sent.
    pub versions: Versions,
    /// How long the broker may take from when it is written, if that is longer than whoever asked waits: a caller in a
    /// hurry must not condemn the connection, and its neighbours' answers with it (rule 72).
    pub answer_within: Option<Duration>,
    /// Whether the broker answers it at all: a produce request with acks=0 goes unanswered.
    pub is_answered: bool,
    /// Bytes that the answer may hold because they are asked for, on top of what any answer may.
    pub asked_bytes: usize,
}

/// A request with a floor and a ceiling on its version: what it asks for may be newer than its API, and topic ids that are
/// not known forbid the newest.
#[derive(Debug)]
pub struct Call<R> {
    pub request: R,
    pub min_version: i16,
    pub max_version: i16,
    pub is_answered: bool,
    pub asked_bytes: usize,
}

impl<R: Request> Call<R> {
    pub fn new(request: R) -> Self {
        Self {
            request,
            min_version: R::VERSIONS.first,
            max_version: R::VERSIONS.last,
            is_answered: true,
            asked_bytes: 0,
        }
    }

    pub fn up_to(request: R, max_version: i16) -> Self {
        Self { max_version: max_version.min(R::VERSIONS.last), ..Self::new(request) }
    }

    pub fn at_least(request: R, min_version: i16) -> Self {
        Self { min_version: min_version.max(R::VERSIONS.first), ..Self::new(request) }
    }
}

impl<R: Request> Outgoing for Call<R> {
    fn terms(&self) -> Terms {
        Terms {
            api: R::API,
            versions: Versions { first: self.min_version, last: self.max_version },
            answer_within: None,
            is_answered: self.is_answered,
            asked_bytes: self.asked_bytes,
        }
    }

    fn encode(&self, header: RequestHeader<'_>) -> Result<Frame, EncodeError> {
        frame::encode_request(&self.request, header)
    }
}

/// Who answered instead of a Kafka broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    Http,
    Tls,
}

/// Why a connection ended, or could not be made. Cheap to clone: everybody who waits gets one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    #[error("could not connect: {message}")]
    Connect { kind: std::io::ErrorKind, message: Arc<str> },
    #[error("no connection within {after:?} (connection_setup_timeout)")]
    ConnectTimeout { after: Duration },
    #[error(
        "connected, but nobody answered within {after:?} (connection_setup_timeout): a broker that hangs, a listener \
         that expects TLS, or no Kafka broker"
    )]
    SetupTimeout { after: Duration },
    #[error("the connection broke: {message}")]
    Io { kind: std::io::ErrorKind, message: Arc<str> },
    #[error("the broker closed the connection")]
    Eof,
    /// Rule 76: the first read ends at once on ports that expect TLS or SASL.
    #[error("the peer closed the connection before it answered anything: a TLS or SASL listener, or no Kafka broker")]
    EofAtStart,
    /// The versions are told to everybody, what comes next only to who has authenticated.
    #[error("the broker closed the connection on its first request: does this listener want SASL?")]
    EofAtFirstRequest,
    #[error("{api} was not answered within {after:?} (request_timeout)")]
    RequestTimeout { api: ApiKey, after: Duration },
    #[error("an HTTP server answered, not a Kafka broker: is this the right port?")]
    Http,
    #[error("a TLS server answered: this listener expects TLS, and the client speaks plaintext")]
    Tls,
    /// Before the connection is ready, or of a length that no answer has: no setting makes that right.
    #[error("a frame of {size} bytes, where a broker's answer has 4 to {limit}: is this a Kafka broker?")]
    NoAnswer { size: i32, limit: usize },
    #[error(
        "{api} was answered with {size} bytes, and {limit} are the most that is accepted (max_response_size, and what a \
         fetch asks for): raise max_response_size"
    )]
    FrameSize { api: ApiKey, size: usize, limit: usize },
    #[error("an answer to request {got} where {expected} was due")]
    WrongCorrelation { expected: i32, got: i32 },
    #[error("an answer that nobody asked for")]
    Unasked,
    #[error("{api} answered with bytes that are not its format: {error}")]
    Decode { api: ApiKey, error: DecodeError },
    #[error("ApiVersions was refused: {0}")]
    Refused(ErrorCode),
    #[error("{0}")]
    Login(Arc<sasl::Failure>),
    /// TLS could not be agreed upon: what is wrong, and the whole message.
    #[error("{message}")]
    Untrusted { failure: TlsFailure, message: Arc<str> },
    #[error("unused for longer than connections_max_idle")]
    Idle,
    #[error("closed by the client")]
    Closed,
}

impl Cause {
    /// Whether trying again can help: a stranger on the port stays one, and an answer as large as it is, until somebody
    /// changes a setting; and a client whose tasks have ended stays closed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Login(failure) => failure.is_transient(),
            Self::Http | Self::Tls | Self::FrameSize { .. } | Self::Refused(_) | Self::Closed => false,
            Self::Untrusted { .. } => false,
            _ => true,
        }
    }

    /// Whether one side does not believe the other, which concerns the cluster and not this broker alone.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Login(_) | Self::Untrusted { .. }) && !self.is_transient()
    }
}

/// Why one request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The connection ended. `sent`: bytes of the request may have reached the broker.
    #[error("{cause}")]
    Lost { cause: Cause, sent: bool },
    /// Its deadline came before it could be sent.
    #[error("{api} could not be sent in time: no connection was ready")]
    NotSentInTime { api: ApiKey },
    /// Whoever asked stopped waiting. The request keeps its place on the connection, which may still be a good one.
    #[error("{api} was not answered in time")]
    NotAwaited { api: ApiKey },
    #[error("{0}")]
    Unsupported(UnsupportedApi),
    #[error("{api} cannot be written: {error}")]
    Encode { api: ApiKey, error: EncodeError },
}

impl CallError {
    /// Whether the broker may have seen the request.
    pub fn maybe_sent(&self) -> bool {
        matches!(self, Self::Lost { sent: true, .. } | Self::NotAwaited { .. })
    }

    /// See [`Cause::is_denied`].
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Lost { cause, .. } if cause.is_denied())
    }

    pub fn is_transient(&self) -> bool {
        match self {
            Self::Lost { cause, .. } => cause.is_transient(),
            Self::NotSentInTime { .. } | Self::NotAwaited { .. } => true,
            Self::Unsupported(_) | Self::Encode { .. } => false,
        }
    }
}

/// What came of it. One `Answer`, `Sent` or `Failed` for each token.
#[derive(Debug)]
pub enum Event {
    /// Versions are known; requests flow.
    Ready(Arc<BrokerVersions>),
    /// The frame that answers a request, its size prefix taken off, to be decoded in `version`.
    Answer {
        token: Token,
        version: i16,
        frame: Bytes,
    },
    /// A request without an answer was handed to the socket.
    Sent {
        token: Token,
    },
    Failed {
        token: Token,
        error: CallError,
    },
    /// Nothing goes on over this connection. The last event.
    Dead(Cause),
}

/// What a connection needs to know from its client.
#[derive(Clone, Debug)]
pub struct Config {
    pub client_id: Arc<str>,
    /// From the start of negotiation until versions are known.
    pub setup_timeout: Duration,
    pub max_idle: Duration,
    /// Beyond what a request asks for.
    pub max_response_size: usize,
}

/// Until a connection is ready, a broker has nothing large to say: ApiVersions lists 7 bytes for each of some 90 APIs.
const MAX_FRAME_BEFORE_READY: usize = 16 * 1024;

/// How many unanswered acks=0 requests are remembered, in case the broker answers them after all (rule 23).
const MAX_SILENT: usize = 64;

#[derive(Debug)]
enum State {
    Negotiating {
        version: i16,
        correlation: i32,
        deadline: Instant,
        /// When a peer that said nothing is asked in another way: see [`PROBE`].
        probe_at: Option<Instant>,
    },
    /// Nothing else is under way: see [`Login`].
    LoggingIn {
        versions: Arc<BrokerVersions>,
        deadline: Instant,
    },
    Ready(Arc<BrokerVersions>),
    Dead(Cause),
}

struct Waiting {
    token: Token,
    request: Box<dyn Outgoing>,
    deadline: Instant,
}

#[derive(Debug)]
struct InFlight {
    token: Token,
    correlation: i32,
    api: ApiKey,
    version: i16,
    asked: Instant,
    deadline: Instant,
    /// Bytes of its answer at most.
    limit: usize,
    /// Its first byte was handed to the socket.
    sent: bool,
}

/// See the module's documentation for the states, and [`crate::machine`] for the contract.
pub struct Connection {
    config: Config,
    state: State,
    /// Before readiness, and while muted.
    waiting: VecDeque<Waiting>,
    in_flight: VecDeque<InFlight>,
    /// Correlation ids of requests that should stay unanswered, oldest first.
    silent: VecDeque<i32>,
    transmits: VecDeque<(Frame, Written)>,
    events: VecDeque<Event>,
    next_correlation: i32,
    muted_until: Option<Instant>,
    last_used: Instant,
    heard: bool,
    /// A request of somebody's, at least.
    answered: bool,
    login: Option<Login>,
}

/// What to note when a frame's first byte goes out.
#[derive(Clone, Copy, Debug)]
enum Written {
    InFlight { correlation: i32 },
    Silent { token: Token, deadline: Instant },
    Negotiation,
    Probe,
}

impl Connection {
    /// A connection whose stream has just been opened.
    pub fn new(now: Instant, config: Config) -> Self {
        let mut connection = Self {
            // As `negotiate` makes it, at once.
            state: State::Negotiating { version: 0, correlation: 0, deadline: now, probe_at: None },
            config,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            silent: VecDeque::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            next_correlation: 0,
            muted_until: None,
            last_used: now,
            heard: false,
            answered: false,
            login: None,
        };
        connection.negotiate(FIRST_API_VERSIONS, now + connection.config.setup_timeout);
        connection
    }

    /// Sends `request`, now or as soon as the connection is ready.
    pub fn send(&mut self, now: Instant, token: Token, request: Box<dyn Outgoing>, deadline: Instant) {
        self.last_used = now;
        // After a long sleep the timer may be late; a request behind the session's end costs the connection.
        self.log_in_again(now);
        match &self.state {
            State::Dead(cause) => {
                let failed = Event::Failed { token, error: CallError::Lost { cause: cause.clone(), sent: false } };
                // `Dead` stays the last event: whoever stops listening there must not miss this one.
                let before_dead = self.events.len() - usize::from(matches!(self.events.back(), Some(Event::Dead(_))));
                self.events.insert(before_dead, failed);
            }
            State::Ready(versions) if self.muted_until.is_none() && self.waiting.is_empty() && !self.is_due(now) => {
                let versions = Arc::clone(versions);
                self.transmit(now, &versions, Waiting { token, request, deadline });
            }
            _ => self.waiting.push_back(Waiting { token, request, deadline }),
        }
    }

    /// The broker asked for silence (KIP-219): what is sent from now on waits until then.
    pub fn mute(&mut self, until: Instant) {
        self.muted_until = Some(self.muted_until.map_or(until, |muted| muted.max(until)));
    }

    /// Ends the connection from our side.
    pub fn close(&mut self) {
        self.die(Cause::Closed);
    }

    /// The size prefix of the next frame: how many bytes to read, or why not. Refused before anything is reserved.
    ///
    /// Answers come in the order of their requests, so it is the oldest one's limit that counts.
    pub fn handle_size(&mut self, prefix: [u8; 4]) -> Option<usize> {
        let is_ready = matches!(self.state, State::Ready(_));
        let limit = match self.in_flight.front() {
            _ if !is_ready => MAX_FRAME_BEFORE_READY,
            Some(oldest) => oldest.limit,
            None => self.config.max_response_size,
        };
        let claimed = i32::from_be_bytes(prefix);
        let cause = match usize::try_from(claimed) {
            // A correlation id at least.
            Ok(size) if (4..=limit).contains(&size) => return Some(size),
            Ok(size) if is_ready && size > limit => Cause::FrameSize { api: self.head_api(), size, limit },
            _ => match stranger(prefix) {
                Some(Stranger::Http) => Cause::Http,
                Some(Stranger::Tls) => Cause::Tls,
                None => Cause::NoAnswer { size: claimed, limit },
            },
        };
        self.die(cause);
        None
    }

    /// One whole frame, without its size prefix.
    pub fn handle_frame(&mut self, now: Instant, frame: Bytes) {
        // A session that is kept alive for its own sake is idle all the same.
        if !matches!(self.state, State::LoggingIn { .. }) {
            self.last_used = now;
        }
        if !std::mem::replace(&mut self.heard, true) {
            self.transmits.retain(|(_, written)| !matches!(written, Written::Probe));
        }
        let correlation = match frame::peek_correlation(&frame) {
            Ok(correlation) => correlation,
            Err(error) => return self.die(Cause::Decode { api: self.head_api(), error }),
        };
        match self.state {
            State::Dead(_) => {}
            State::Negotiating { version, correlation: expected, deadline, .. } => {
                if correlation != expected {
                    return self.die(Cause::WrongCorrelation { expected, got: correlation });
                }
                self.handle_versions(now, &frame, version, deadline);
            }
            State::LoggingIn { .. } => self.handle_login(now, correlation, &frame),
            State::Ready(_) => {
                self.handle_answer(correlation, frame);
                self.log_in_again(now);
            }
        }
    }

    /// The stream cannot be trusted, or broke in a way that its driver knows better.
    pub fn handle_broken(&mut self, cause: Cause) {
        self.die(cause);
    }

    /// The stream ended or broke.
    pub fn handle_lost(&mut self, error: Option<&std::io::Error>) {
        // A peer that closes with our bytes unread resets the stream, and whether we hear of it by read or write is chance.
        let is_end = |error: &std::io::Error| {
            use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
            matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
        };
        self.die(match error {
            Some(error) if !self.heard && is_end(error) => Cause::EofAtStart,
            Some(error) => Cause::Io { kind: error.kind(), message: error.to_string().into() },
            None if self.is_fresh() => Cause::EofAtFirstRequest,
            None if self.heard => Cause::Eof,
            None => Cause::EofAtStart,
        });
    }

    /// Nothing but versions has been answered yet, and something else is asked for.
    fn is_fresh(&self) -> bool {
        self.login.is_none() && !self.answered && matches!(self.state, State::Ready(_)) && !self.in_flight.is_empty()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        match &self.state {
            State::Dead(_) => return,
            State::Negotiating { deadline, .. } if *deadline <= now => {
                return self.die(Cause::SetupTimeout { after: self.config.setup_timeout });
            }
            State::LoggingIn { deadline, .. } if *deadline <= now => return self.login_timed_out(),
            _ => {}
        }
        if let State::Negotiating { probe_at, .. } = &mut self.state
            && probe_at.take_if(|at| *at <= now).is_some()
        {
            let probe = Frame { segments: vec![Bytes::from_static(PROBE)] };
            self.transmits.push_back((probe, Written::Probe));
        }
        // Deadlines need not ascend: a long poll may stand before a short request.
        if let Some(overdue) = self.in_flight.iter().find(|request| request.deadline <= now) {
            let cause = Cause::RequestTimeout { api: overdue.api, after: overdue.deadline - overdue.asked };
            return self.die(cause);
        }
        // A peer that reads nothing: acks=0 requests pile up before the socket.
        if let Some((_, Written::Silent { deadline, .. })) = self.transmits.front()
            && *deadline <= now
        {
            return self.die(Cause::RequestTimeout { api: ApiKey::PRODUCE, after: now - self.last_used });
        }
        let (late, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|w| w.deadline <= now);
        self.waiting = waiting;
        for Waiting { token, request, .. } in late {
            let error = CallError::NotSentInTime { api: request.terms().api };
            self.events.push_back(Event::Failed { token, error });
        }
        if self.muted_until.is_some_and(|until| until <= now) {
            self.muted_until = None;
            self.send_waiting(now);
        }
        self.log_in_again(now);
        if self.idle_at().is_some_and(|at| at <= now) {
            self.die(Cause::Idle);
        }
    }

    /// The next frame to write. Its request counts as sent from here on.
    pub fn poll_transmit(&mut self) -> Option<Frame> {
        let (frame, written) = self.transmits.pop_front()?;
        match written {
            Written::InFlight { correlation } => {
                if let Some(request) = self.in_flight.iter_mut().rev().find(|r| r.correlation == correlation) {
                    request.sent = true;
                }
            }
            Written::Silent { token, .. } => self.events.push_back(Event::Sent { token }),
            Written::Negotiation | Written::Probe => {}
        }
        Some(frame)
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is due: setup, the earliest deadline, the end of a mute, idleness.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let setup = match &self.state {
            State::Dead(_) => return None,
            State::Negotiating { deadline, probe_at, .. } => Some(probe_at.unwrap_or(*deadline)),
            State::LoggingIn { deadline, .. } => Some(*deadline),
            // Once it is due, what is under way has to end, which is an event of its own.
            State::Ready(_) => self.login_due().filter(|_| self.is_quiet()),
        };
        let in_flight = self.in_flight.iter().map(|request| request.deadline).min();
        let waiting = self.waiting.iter().map(|request| request.deadline).min();
        let silent = self.transmits.front().and_then(|(_, written)| match written {
            Written::Silent { deadline, .. } => Some(*deadline),
            _ => None,
        });
        [in_flight, waiting, silent, setup, self.muted_until, self.idle_at()].into_iter().flatten().min()
    }

    pub fn versions(&self) -> Option<&Arc<BrokerVersions>> {
        match &self.state {
            State::Ready(versions) | State::LoggingIn { versions, .. } => Some(versions),
            _ => None,
        }
    }

    pub fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead(_))
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn negotiate(&mut self, version: i16, deadline: Instant) {
        let correlation = self.correlation();
        let request = ApiVersionsRequest {
            client_software_name: Arc::from("milena"),
            client_software_version: Arc::from(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let client_id = Some(&*self.config.client_id);
        match frame::encode_request(&request, RequestHeader { version, correlation, client_id }) {
            Ok(frame) => {
                // A second round has heard a broker already.
                let probe_at = (!self.heard).then(|| deadline - self.config.setup_timeout / 10);
                self.state = State::Negotiating { version, correlation, deadline, probe_at };
                self.transmits.push_back((frame, Written::Negotiation));
            }
            // Only a client id of more than 32 KiB; the client's builder refuses it.
            Err(_) => self.die(Cause::Closed),
        }
    }

    fn handle_versions(&mut self, now: Instant, frame: &Bytes, version: i16, deadline: Instant) {
        let response = match frame::decode_api_versions(frame, version) {
            Ok(response) => response,
            Err(error) => return self.die(Cause::Decode { api: ApiKey::API_VERSIONS, error }),
        };
        let offered = response
            .api_keys
            .iter()
            .map(|api| (ApiKey(api.api_key), Versions { first: api.min_version, last: api.max_version }));
        let versions = BrokerVersions::new(offered);
        match response.error_code {
            ErrorCode::NONE => {
                let versions = Arc::new(versions);
                match &mut self.login {
                    Some(login) => {
                        login.begin(now);
                        self.state = State::LoggingIn { versions, deadline };
                    }
                    None => {
                        self.state = State::Ready(Arc::clone(&versions));
                        self.events.push_back(Event::Ready(versions));
                        self.send_waiting(now);
                    }
                }
            }
            // KIP-511: the answer lists what the broker knows of ApiVersions. Strictly lower, so that this ends.
            ErrorCode::UNSUPPORTED_VERSION if version > 0 => {
                let known = versions.pick(ApiKey::API_VERSIONS, ApiVersionsRequest::VERSIONS).unwrap_or(0);
                self.negotiate(known.min(version - 1), deadline);
            }
            code => self.die(Cause::Refused(code)),
        }
    }

    fn handle_answer(&mut self, correlation: i32, frame: Bytes) {
        // Azure Event Hubs answers acks=0 as well: such an answer is dropped.
        if let Some(at) = self.silent.iter().position(|&silent| silent == correlation) {
            self.silent.drain(..=at);
            return;
        }
        // The broker cannot answer what was not written yet.
        let Some(head) = self.in_flight.front().filter(|head| head.sent) else {
            return self.die(Cause::Unasked);
        };
        if head.correlation != correlation {
            return self.die(Cause::WrongCorrelation { expected: head.correlation, got: correlation });
        }
        self.answered = true;
        let InFlight { token, version, .. } = *head;
        self.in_flight.pop_front();
        self.events.push_back(Event::Answer { token, version, frame });
    }

    fn send_waiting(&mut self, now: Instant) {
        let State::Ready(versions) = &self.state else { return };
        if self.muted_until.is_some() || self.is_due(now) {
            return;
        }
        let versions = Arc::clone(versions);
        for waiting in std::mem::take(&mut self.waiting) {
            self.transmit(now, &versions, waiting);
        }
    }

    fn transmit(&mut self, now: Instant, versions: &BrokerVersions, waiting: Waiting) {
        let Waiting { token, request, deadline } = waiting;
        let Terms { api, versions: possible, answer_within, is_answered, asked_bytes } = request.terms();
        // In flight it would end the connection at once, for its neighbours too.
        if deadline <= now {
            return self.events.push_back(Event::Failed { token, error: CallError::NotSentInTime { api } });
        }
        let version = match versions.pick(api, possible) {
            Ok(version) => version,
            Err(error) => {
                let error = CallError::Unsupported(error);
                return self.events.push_back(Event::Failed { token, error });
            }
        };
        let correlation = self.correlation();
        let client_id = Some(&*self.config.client_id);
        let frame = match request.encode(RequestHeader { version, correlation, client_id }) {
            Ok(frame) => frame,
            Err(error) => {
                let error = CallError::Encode { api, error };
                return self.events.push_back(Event::Failed { token, error });
            }
        };
        if is_answered {
            self.transmits.push_back((frame, Written::InFlight { correlation }));
            let asked = now;
            let deadline = answer_within.map_or(deadline, |within| deadline.max(now + within));
            let limit = self.config.max_response_size.saturating_add(asked_bytes);
            self.in_flight.push_back(InFlight {
                token,
                correlation,
                api,
                version,
                asked,
                deadline,
                limit,
                sent: false,
            });
        } else {
            self.transmits.push_back((frame, Written::Silent { token, deadline }));
            self.silent.push_back(correlation);
            if self.silent.len() > MAX_SILENT {
                self.silent.pop_front();
            }
        }
    }

    fn die(&mut self, cause: Cause) {
        if self.is_dead() {
            return;
        }
        self.state = State::Dead(cause.clone());
        for (_, written) in std::mem::take(&mut self.transmits) {
            if let Written::Silent { token, .. } = written {
                let error = CallError::Lost { cause: cause.clone(), sent: false };
                self.events.push_back(Event::Failed { token, error });
            }
        }
        for InFlight { token, sent, .. } in std::mem::take(&mut self.in_flight) {
            let error = CallError::Lost { cause: cause.clone(), sent };
            self.events.push_back(Event::Failed { token, error });
        }
        for Waiting { token, .. } in std::mem::take(&mut self.waiting) {
            let error = CallError::Lost { cause: cause.clone(), sent: false };
            self.events.push_back(Event::Failed { token, error });
        }
        self.events.push_back(Event::Dead(cause));
    }

    fn idle_at(&self) -> Option<Instant> {
        let busy = !self.in_flight.is_empty() || !self.waiting.is_empty() || !self.transmits.is_empty();
        (!busy).then(|| self.last_used + self.config.max_idle)
    }

    fn correlation(&mut self) -> i32 {
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1) & i32::MAX;
        correlation
    }

    /// Whose answer is due. With nothing in flight: the first one, or one that a broker gives unasked.
    fn head_api(&self) -> ApiKey {
        let unasked = if self.silent.is_empty() { ApiKey::API_VERSIONS } else { ApiKey::PRODUCE };
        self.in_flight.front().map_or(unasked, |request| request.api)
    }
}

/// v3 names the client's software (KIP-511). v4 and v5 tell us nothing that we use, and Azure Event Hubs cuts the
/// connection on them, so a first contact does not ask for more.
const FIRST_API_VERSIONS: i16 = 3;

/// Two empty lines. An HTTP server that still waits for the end of its first line answers them with `400 Bad Request`, and
/// so says who it is. Sent when nine tenths of the set-up time-out have passed in silence; a broker that has been silent
/// for so long, and only then answers, takes them for an absurd size and closes a connection that was all but given up.
const PROBE: &[u8] = b"\r\n\r\n";

/// Recognises who answers in another protocol by its first four bytes, read as a frame's size.
fn stranger(prefix: [u8; 4]) -> Option<Stranger> {
    match prefix {
        // "HTTP/1.1 400 Bad Request"; some servers start with the page
        [b'H', b'T', b'T', b'P'] | [b'<', b'h' | b'H' | b'!', ..] => Some(Stranger::Http),
        // a TLS record: alert (21) or handshake (22), version 3.x
        [21 | 22, 3, 0..=4, _] => Some(Stranger::Tls),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
