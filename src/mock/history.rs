//! What the brokers were asked, and what was wrong with it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::api::Api;

/// Requests that are kept for [`requests`](super::MockCluster::requests); older ones are dropped.
const KEPT: usize = 100_000;

/// A request that a broker has read, in the order of reading.
///
/// It is noted before it is handled, so requests that a [`Fault`](super::Fault) swallows are there too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenRequest {
    /// What was asked.
    pub api: Api,
    /// The version it was encoded in.
    pub version: i16,
    /// The broker that read it.
    pub broker: i32,
    /// The connection it came by. Connections are numbered through the whole cluster, from 1.
    pub connection: u64,
    /// Its correlation id.
    pub correlation_id: i32,
    /// The client id in its header.
    pub client_id: Option<String>,
    /// Bytes of its frame, without the four of the length.
    pub size: usize,
    /// Time since the cluster started, on tokio's clock.
    pub at: Duration,
}

/// Something a client sent that is wrong. Real brokers do not say so: they close the connection, as the mock does, or,
/// for bytes too many after a request, ignore it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The broker that read it.
    pub broker: i32,
    /// The connection it came by.
    pub connection: u64,
    /// What was wrong.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {}, connection {}: {}", self.broker, self.connection, self.message)
    }
}

/// The notes of the whole cluster.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    requests: VecDeque<SeenRequest>,
    violations: Vec<Violation>,
}

impl History {
    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, request: SeenRequest) {
        let mut notes = self.notes();
        if notes.requests.len() == KEPT {
            notes.requests.pop_front();
        }
        notes.requests.push_back(request);
    }

    pub(super) fn note_violation(&self, violation: Violation) {
        self.notes().violations.push(violation);
    }

    pub(super) fn requests(&self) -> Vec<SeenRequest> {
        self.notes().requests.iter().cloned().collect()
    }

    pub(super) fn clear_requests(&self) {
        self.notes().requests.clear();
    }

    pub(super) fn violations(&self) -> Vec<Violation> {
        self.notes().violations.clone()
    }
}
