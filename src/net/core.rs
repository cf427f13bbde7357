//! What producers, consumers and admin share of one client: the network, the brokers, the picture of the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::brokers::{Brokers, Class, Endpoint};
use super::connector::Address;
use super::lane::Network;
use super::metadata::{MetadataHandle, address_of};
use crate::machine::backoff::Backoff;
use crate::machine::connection::{Call, CallError, Cause};
use crate::machine::metadata;
use crate::wire::message::Request;

/// One client's connections and knowledge. Tasks hold it while they work for a handle; it ends with the last of them.
pub struct Core {
    pub network: Arc<Network>,
    pub brokers: Arc<Brokers>,
    pub metadata: MetadataHandle,
    pub seeds: Vec<Address>,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    pub api_timeout: Duration,
    pub metadata_max_age: Duration,
    /// Which broker [`Route::Any`] is: the next one after each failure. Begins anywhere.
    turn: AtomicUsize,
}

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Whichever broker is known, another one after a failure.
    Any,
    /// The controller, as far as brokers say who that is.
    Controller,
    Node(i32),
}

impl Core {
    pub fn new(
        network: Network,
        seeds: Vec<Address>,
        metadata_max_age: Duration,
        retry_backoff: Duration,
        retry_backoff_max: Duration,
        api_timeout: Duration,
    ) -> Self {
        let network = Arc::new(network);
        let brokers = Arc::new(Brokers::new(Arc::clone(&network)));
        let config = metadata::Config {
            max_age: metadata_max_age,
            retry_backoff,
            retry_backoff_max,
            hedge_after: HEDGE_AFTER,
            seeds: seeds.len(),
        };
        let metadata = MetadataHandle::start(&network, Arc::clone(&brokers), seeds.clone(), config);
        let turn = AtomicUsize::new(random_index(&network));
        Self {
            network,
            brokers,
            metadata,
            seeds,
            retry_backoff,
            retry_backoff_max,
            api_timeout,
            metadata_max_age,
            turn,
        }
    }

    pub fn now(&self) -> Instant {
        self.network.runtime.now()
    }

    pub fn backoff(&self) -> Backoff {
        Backoff::new(self.retry_backoff, self.retry_backoff_max)
    }

    pub async fn sleep(&self, duration: Duration) {
        self.network.runtime.sleep_until(self.now() + duration).await;
    }

    /// One attempt, at whom `route` means now. Waits until `deadline`, and no longer than `request_timeout`.
    pub async fn try_call<R: Request>(
        &self,
        route: Route,
        class: Class,
        call: Call<R>,
        deadline: Instant,
    ) -> Result<R::Response, CallError> {
        let turn = self.turn.load(Ordering::Relaxed);
        let endpoint = self.endpoint(route, turn);
        let deadline = deadline.min(self.now() + self.network.request_timeout);
        let answer = self.brokers.call(&endpoint, class, call, deadline).await;
        if answer.is_err() {
            // Only once for all who failed at this broker, or two of them would come back to the first of two brokers.
            let _ = self.turn.compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
        }
        // Nothing is awaited on a runtime that has ended: its timers panic.
        if answer.is_err() && self.metadata.is_over() {
            return Err(CallError::Lost { cause: Cause::Closed, sent: true });
        }
        answer
    }

    fn endpoint(&self, route: Route, turn: usize) -> Endpoint {
        let cluster = self.metadata.cluster();
        let known = |id: &i32| {
            let broker = cluster.brokers.get(id)?;
            Some(Endpoint { node: Some(*id), address: address_of(broker) })
        };
        let chosen = match route {
            Route::Any => None,
            Route::Controller => cluster.controller.as_ref().and_then(known),
            Route::Node(node) => known(&node),
        };
        chosen.unwrap_or_else(|| {
            match cluster.brokers.len() {
                // `seeds` is not empty: the builder refuses that.
                0 => Endpoint { node: None, address: self.seeds[turn % self.seeds.len()].clone() },
                n => cluster
                    .brokers
                    .keys()
                    .nth(turn % n)
                    .and_then(known)
                    .unwrap_or_else(|| Endpoint { node: None, address: self.seeds[0].clone() }),
            }
        })
    }
}

fn random_index(network: &Network) -> usize {
    usize::try_from(network.runtime.random() >> 33).unwrap_or(0)
}

/// A broker that has not answered a metadata request for so long gets competition.
pub const HEDGE_AFTER: Duration = Duration::from_millis(500);
