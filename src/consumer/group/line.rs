//! How a member's requests reach its coordinator: joins and syncs, which wait there, on a connection of its own; heartbeats
//! and the leave on one that all members of this client share.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::coordinator::send;
use crate::machine::connection::{Call, CallError, Outgoing};
use crate::machine::group::{self, Answer};
use crate::net::{Class, Core, Endpoint, Lane, LaneEvent};
use crate::wire::coordinator::join_group::JoinGroupRequest;
use crate::wire::coordinator::sync_group::SyncGroupRequest;
use crate::wire::frame;

/// The answer to a request of the member, by its token; with what to tell the user of, if no waiting mends it.
#[derive(Debug)]
pub struct Answered {
    pub token: u64,
    pub answer: Answer,
    pub error: Option<CallError>,
}

pub struct Line {
    core: Arc<Core>,
    coordinator: Option<Endpoint>,
    /// For what waits at the broker.
    lane: Option<Lane>,
    /// What is under way there, and whether it is a join.
    waiting: BTreeMap<u64, bool>,
    answers: mpsc::UnboundedSender<Answered>,
}

impl Line {
    pub fn new(core: &Arc<Core>, answers: mpsc::UnboundedSender<Answered>) -> Self {
        Self { core: Arc::clone(core), coordinator: None, lane: None, waiting: BTreeMap::new(), answers }
    }

    pub fn coordinator(&self) -> Option<&Endpoint> {
        self.coordinator.as_ref()
    }

    /// What waits at another one is answered by nobody.
    pub fn set_coordinator(&mut self, coordinator: Option<Endpoint>) {
        if self.coordinator != coordinator {
            self.lane = None;
            self.coordinator = coordinator;
            for token in std::mem::take(&mut self.waiting).into_keys() {
                self.answer(token, Answer::Lost, None);
            }
        }
    }

    pub fn send(&mut self, request: group::Send) {
        let group::Send { token, call, timeout } = request;
        let Some(coordinator) = self.coordinator.clone() else { return self.answer(token, Answer::Lost, None) };
        let deadline = self.core.now() + timeout;
        let call = match call {
            group::Call::Join(request) => return self.wait(token, true, Box::new(Call::new(request)), deadline),
            group::Call::Sync(request) => return self.wait(token, false, Box::new(Call::new(request)), deadline),
            short => short,
        };
        let (core, answers) = (Arc::clone(&self.core), self.answers.clone());
        self.core.network.runtime.spawn(async move {
            let to = Some(&coordinator);
            let class = Class::Heartbeat;
            let answer = match call {
                group::Call::Heartbeat(request) => {
                    send(&core, to, class, vec![Call::new(request)], deadline).await.map(Answer::Heartbeat)
                }
                group::Call::Leave(new, old) => {
                    let forms = vec![Call::at_least(new, MANY_LEAVE), Call::up_to(old, MANY_LEAVE - 1)];
                    send(&core, to, class, forms, deadline).await.map(Answer::Leave)
                }
                group::Call::Group(request) => {
                    send(&core, to, class, vec![Call::new(request)], deadline).await.map(Answer::Group)
                }
                group::Call::Join(_) | group::Call::Sync(_) => return,
            };
            // Nobody is there any more: the consumer is gone.
            let _ = answers.send(told(token, answer));
        });
    }

    fn wait(&mut self, token: u64, is_join: bool, request: Box<dyn Outgoing>, deadline: std::time::Instant) {
        let Some(coordinator) = &self.coordinator else { return };
        let lane =
            self.lane.get_or_insert_with(|| Lane::new(Arc::clone(&self.core.network), coordinator.address.clone()));
        self.waiting.insert(token, is_join);
        lane.send(token, request, deadline);
    }

    /// Drives the lane; what it brings goes the way of all answers. Never returns.
    ///
    /// Cancel-safe: everything under way is kept.
    pub async fn drive(&mut self) -> std::convert::Infallible {
        loop {
            let Some(lane) = &mut self.lane else { std::future::pending().await };
            match lane.next().await {
                LaneEvent::Answer { token, version, frame } => {
                    let Some(is_join) = self.waiting.remove(&token) else { continue };
                    match decode(is_join, &frame, version) {
                        Ok(answer) => self.answer(token, answer, None),
                        Err(error) => {
                            // Whatever this connection says next is not to be trusted either.
                            self.lane = None;
                            self.waiting.clear();
                            self.answer(token, Answer::Lost, Some(error));
                        }
                    }
                }
                LaneEvent::Failed { token, error } => {
                    if self.waiting.remove(&token).is_some() {
                        let _ = self.answers.send(told(token, Err(error)));
                    }
                }
                LaneEvent::Ready | LaneEvent::Sent { .. } | LaneEvent::Down => {}
            }
        }
    }

    fn answer(&self, token: u64, answer: Answer, error: Option<CallError>) {
        let _ = self.answers.send(Answered { token, answer, error });
    }
}

/// From this version on several members can leave at once.
const MANY_LEAVE: i16 = 3;

fn decode(is_join: bool, frame: &Bytes, version: i16) -> Result<Answer, CallError> {
    use crate::machine::connection::Cause;
    use crate::wire::api::ApiKey;
    let lost = |api| move |error| CallError::Lost { cause: Cause::Decode { api, error }, sent: true };
    if is_join {
        let response = frame::decode_response::<JoinGroupRequest>(frame, version);
        response.map(Answer::Join).map_err(lost(ApiKey::JOIN_GROUP))
    } else {
        let response = frame::decode_response::<SyncGroupRequest>(frame, version);
        response.map(Answer::Sync).map_err(lost(ApiKey::SYNC_GROUP))
    }
}

fn told(token: u64, answer: Result<Answer, CallError>) -> Answered {
    match answer {
        Ok(answer) => Answered { token, answer, error: None },
        Err(CallError::Unsupported(_) | CallError::Encode { .. }) => {
            Answered { token, answer: Answer::Unsupported, error: None }
        }
        Err(error) => {
            Answered { token, answer: Answer::Lost, error: Some(error).filter(|error| !error.is_transient()) }
        }
    }
}
