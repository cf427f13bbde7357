//! What producers, consumers and admin share of one client: the network, the brokers, the picture of the cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::brokers::{Brokers, Class, Endpoint};
use super::connector::Address;
use super::lane::{Lane, Network};
use super::metadata::{MetadataHandle, address_of};
use crate::error::{Error, ErrorKind};
use crate::machine::backoff::Backoff;
use crate::machine::connection::{Call, CallError};
use crate::machine::metadata;
use crate::wire::error_code::{Action, ErrorCode};
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
        Self { network, brokers, metadata, seeds, retry_backoff, retry_backoff_max, api_timeout }
    }

    pub fn now(&self) -> Instant {
        self.network.runtime.now()
    }

    pub fn backoff(&self) -> Backoff {
        Backoff::new(self.retry_backoff, self.retry_backoff_max)
    }

    /// A connection of its own to a broker that the picture knows.
    pub fn lane(&self, node: i32) -> Option<Lane> {
        let cluster = self.metadata.cluster();
        let broker = cluster.brokers.get(&node)?;
        Some(Lane::new(Arc::clone(&self.network), address_of(broker)))
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
        let endpoint = self.endpoint(route);
        let deadline = deadline.min(self.now() + self.network.request_timeout);
        self.brokers.call(&endpoint, class, call, deadline).await
    }

    /// Attempts with back-off until one is answered without an error that asks for another, or `deadline` comes.
    ///
    /// `refused` finds the first error code of an answer that [`ErrorCode::action`] might retry; all others are the
    /// caller's to read. `what` and `limit` go into the error: what was tried, and the setting that bounds it.
    pub async fn call<R: Request + Clone>(
        &self,
        route: Route,
        class: Class,
        request: R,
        deadline: Instant,
        refused: impl Fn(&R::Response) -> ErrorCode,
        what: &str,
    ) -> Result<R::Response, Error> {
        let mut backoff = self.backoff();
        self.metadata.known(&self.network, deadline, "default_api_timeout").await?;
        loop {
            let outcome = self.try_call(route, class, Call::new(request.clone()), deadline).await;
            let last = match outcome {
                Ok(response) => {
                    let code = refused(&response);
                    match code.action(R::API) {
                        Action::Retry | Action::Refresh => Error::broker(code, what),
                        _ => return Ok(response),
                    }
                }
                Err(error) if error.is_transient() => error.into(),
                Err(error) => return Err(error.into()),
            };
            self.metadata.refresh();
            let delay = backoff.next_delay(self.network.runtime.random());
            if self.now() + delay >= deadline {
                let message = format!("{what}: not done within default_api_timeout: {last}");
                return Err(Error::new(ErrorKind::Timeout, message).with_source(last));
            }
            self.sleep(delay).await;
        }
    }

    fn endpoint(&self, route: Route) -> Endpoint {
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
            let random = usize::try_from(self.network.runtime.random() >> 1).unwrap_or(0);
            match cluster.brokers.len() {
                // `seeds` is not empty: the builder refuses that.
                0 => Endpoint { node: None, address: self.seeds[random % self.seeds.len()].clone() },
                n => cluster
                    .brokers
                    .keys()
                    .nth(random % n)
                    .and_then(known)
                    .unwrap_or_else(|| Endpoint { node: None, address: self.seeds[0].clone() }),
            }
        })
    }
}

/// A broker that has not answered a metadata request for so long gets competition.
const HEDGE_AFTER: Duration = Duration::from_millis(500);
