//! The connections that everybody shares: one per broker and traffic class, each served by a task of its own.
//!
//! A broker serves a connection one request at a time, so classes that may block each other are kept apart
//! (rule 71). Produce and fetch do not come here at all: their tasks own their lanes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::connector::Address;
use super::lane::{Lane, LaneEvent, Network};
use crate::machine::connection::{Call, CallError, Cause, Outgoing, Terms};
use crate::wire::cursor::{EncodeError, Frame};
use crate::wire::frame::{self, RequestHeader};
use crate::wire::message::Request;

/// Requests of one class may wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Metadata, list offsets: short.
    General,
    /// What a controller may take long to do.
    Admin,
    /// A group's offsets: committing and asking for them.
    Commit,
    /// What keeps a member in its group: heartbeats, and its leave. Joins wait at the broker, so each member has a lane of its
    /// own for them.
    Heartbeat,
}

/// A broker to talk to. Seeds have no id yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub node: Option<i32>,
    pub address: Address,
}

struct Job {
    request: Box<dyn Outgoing>,
    deadline: Instant,
    reply: oneshot::Sender<Result<(i16, Bytes), CallError>>,
}

pub struct Brokers {
    network: Arc<Network>,
    lanes: Mutex<HashMap<(Endpoint, Class), mpsc::UnboundedSender<Job>>>,
}

impl Brokers {
    pub fn new(network: Arc<Network>) -> Self {
        Self { network, lanes: Mutex::default() }
    }

    /// Sends one request and waits for its answer until `deadline`. The connection is given up only if the broker then
    /// leaves the request unanswered for the rest of `request_timeout`; for a heartbeat at once.
    ///
    /// Cancel-safe in this sense: dropping the future drops the answer alone. The request stays in its place on the
    /// connection, so its neighbours are not disturbed (rule 72).
    pub async fn call<R: Request>(
        &self,
        to: &Endpoint,
        class: Class,
        call: Call<R>,
        deadline: Instant,
    ) -> Result<R::Response, CallError> {
        let (reply, answer) = oneshot::channel();
        let within = match class {
            // One that is not answered in time keeps the next one from being sent, and with it a session from going on.
            Class::Heartbeat => deadline.saturating_duration_since(self.network.runtime.now()),
            _ => self.network.request_timeout,
        };
        let request = Box::new(Patient { call, within });
        self.enqueue(to, class, Job { request, deadline, reply });
        let answer = self.network.runtime.until(deadline, answer).await;
        let answer = answer.ok_or(CallError::NotAwaited { api: R::API })?;
        // The task is gone: with its runtime, or a user's connector panicked.
        let gone = || {
            let cause = Cause::Io { kind: std::io::ErrorKind::Other, message: "its task has ended".into() };
            CallError::Lost { cause, sent: true }
        };
        let (version, frame) = answer.unwrap_or_else(|_| Err(gone()))?;
        frame::decode_response::<R>(&frame, version)
            .map_err(|error| CallError::Lost { cause: Cause::Decode { api: R::API, error }, sent: true })
    }

    /// Forgets brokers that are no longer part of the cluster; their tasks end once they have answered.
    pub fn retain(&self, keep: impl Fn(&Endpoint) -> bool) {
        self.lock().retain(|(endpoint, _), _| keep(endpoint));
    }

    fn enqueue(&self, to: &Endpoint, class: Class, job: Job) {
        let mut lanes = self.lock();
        let lane = lanes.entry((to.clone(), class)).or_insert_with(|| self.start(to));
        // A task ends when its sender is dropped, and the map holds the only one; or when a user's connector panicked.
        if lane.is_closed() {
            *lane = self.start(to);
        }
        // Fails only if the runtime is gone, and the job's caller hears of that.
        let _ = lane.send(job);
    }

    fn start(&self, to: &Endpoint) -> mpsc::UnboundedSender<Job> {
        let (jobs, inbox) = mpsc::unbounded_channel();
        let lane = Lane::new(Arc::clone(&self.network), to.address.clone());
        self.network.runtime.spawn(serve(lane, inbox));
        jobs
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Endpoint, Class), mpsc::UnboundedSender<Job>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call whose connection outlives the patience of its caller.
struct Patient<R> {
    call: Call<R>,
    within: Duration,
}

impl<R: Request> Outgoing for Patient<R> {
    fn terms(&self) -> Terms {
        Terms { answer_within: Some(self.within), ..self.call.terms() }
    }

    fn encode(&self, header: RequestHeader<'_>) -> Result<Frame, EncodeError> {
        self.call.encode(header)
    }
}

/// Owns one lane: passes jobs in and answers out, until nobody can send jobs and none is open.
async fn serve(mut lane: Lane, mut inbox: mpsc::UnboundedReceiver<Job>) {
    let mut open: HashMap<_, oneshot::Sender<_>> = HashMap::new();
    let mut next_token = 0;
    let mut is_closing = false;
    loop {
        tokio::select! {
            biased;
            event = lane.next() => {
                let (token, outcome) = match event {
                    LaneEvent::Answer { token, version, frame } => (token, Ok((version, frame))),
                    LaneEvent::Failed { token, error } => (token, Err(error)),
                    LaneEvent::Ready | LaneEvent::Sent { .. } | LaneEvent::Down => continue,
                };
                if let Some(reply) = open.remove(&token) {
                    // Nobody waits any more if its future was dropped.
                    let _ = reply.send(outcome);
                }
            }
            job = inbox.recv(), if !is_closing => match job {
                Some(Job { request, deadline, reply }) => {
                    open.insert(next_token, reply);
                    lane.send(next_token, request, deadline);
                    next_token += 1;
                }
                None => is_closing = true,
            },
        }
        // Only answers that somebody still waits for are worth staying for.
        if is_closing && open.values().all(oneshot::Sender::is_closed) {
            return;
        }
    }
}
