//! The task that keeps the picture of the cluster, and the handle by which everybody looks at it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};

use super::brokers::{Brokers, Class, Endpoint};
use super::connector::Address;
use super::lane::Network;
use super::runtime::Timer;
use crate::error::{Error, ErrorKind};
use crate::machine::accumulator::Hint;
use crate::machine::connection::{Call, CallError};
use crate::machine::metadata::{Cluster, Config, Metadata, Query, Target, Topic};
use crate::wire::cluster::metadata::{MetadataRequest, MetadataResponse};
use crate::wire::error_code::ErrorCode;

enum Command {
    Want { topic: Arc<str>, auto_create: bool },
    LookFor { topic: Arc<str>, auto_create: bool, deadline: Option<Instant> },
    Hold { topic: Arc<str>, auto_create: bool },
    Release { topic: Arc<str> },
    Refresh,
    RefreshElsewhere(i32),
    Hint(Hint),
}

/// What watchers see.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    pub cluster: Arc<Cluster>,
    /// Set once every broker that could be asked has failed, until one answers.
    pub failure: Option<Error>,
    /// All of them failed for what no waiting mends, as another protocol's server on the port; or one denied us.
    pub is_hopeless: bool,
}

/// The picture of the cluster, and the ways to influence when it is renewed. The task ends with the last handle.
#[derive(Clone, Debug)]
pub struct MetadataHandle {
    commands: mpsc::UnboundedSender<Command>,
    picture: watch::Receiver<Picture>,
}

impl MetadataHandle {
    pub fn start(network: &Arc<Network>, brokers: Arc<Brokers>, seeds: Vec<Address>, config: Config) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (watched, picture) = watch::channel(Picture::default());
        let runtime = &network.runtime;
        let rotation = usize::try_from(runtime.random() >> 1).unwrap_or(0);
        let machine = Metadata::new(runtime.now(), config, rotation);
        runtime.spawn(run(Arc::clone(network), brokers, seeds, machine, inbox, watched));
        Self { commands, picture }
    }

    pub fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.picture.borrow().cluster)
    }

    /// A receiver that wakes at each new picture.
    pub fn watch(&self) -> watch::Receiver<Picture> {
        self.picture.clone()
    }

    /// Asks for a new picture as soon as the retry back-off allows.
    pub fn refresh(&self) {
        let _ = self.commands.send(Command::Refresh);
    }

    /// The same at another broker than this one, which does not answer somebody: also if a question is open already.
    pub fn refresh_elsewhere(&self, than: i32) {
        let _ = self.commands.send(Command::RefreshElsewhere(than));
    }

    /// A broker that is not a partition's leader said who is (KIP-951).
    pub fn hint(&self, hint: Hint) {
        let _ = self.commands.send(Command::Hint(hint));
    }

    /// Keeps `topic` in the picture from now on.
    pub fn want(&self, topic: &Arc<str>, auto_create: bool) {
        let _ = self.commands.send(Command::Want { topic: Arc::clone(topic), auto_create });
    }

    /// Keeps `topic` in the picture until it is released as often.
    pub fn hold(&self, topic: &Arc<str>, auto_create: bool) {
        let _ = self.commands.send(Command::Hold { topic: Arc::clone(topic), auto_create });
    }

    pub fn release(&self, topic: &Arc<str>) {
        let _ = self.commands.send(Command::Release { topic: Arc::clone(topic) });
    }

    /// Whether its task has ended under this handle: with its runtime.
    pub fn is_over(&self) -> bool {
        self.commands.is_closed()
    }

    /// Looks whether there is such a topic. Who goes on to use it says so by [`Self::want`].
    pub fn look_for(&self, topic: &Arc<str>, auto_create: bool, deadline: Option<Instant>) {
        let _ = self.commands.send(Command::LookFor { topic: Arc::clone(topic), auto_create, deadline });
    }

    /// The next picture that a broker answers with, asked for now.
    pub async fn fresh(&self) -> Result<Arc<Cluster>, Error> {
        let mut picture = self.picture.clone();
        let answers = picture.borrow_and_update().cluster.answers;
        self.refresh();
        let newer = picture.wait_for(|picture| picture.cluster.answers > answers).await;
        newer.map(|picture| Arc::clone(&picture.cluster)).map_err(|_| Error::closed("client"))
    }

    /// Waits for the first answer of any broker, or for every seed to have failed.
    pub async fn first_answer(&self) -> Result<(), Error> {
        let mut picture = self.picture.clone();
        let seen = picture.wait_for(|picture| picture.cluster.answers > 0 || picture.failure.is_some()).await;
        match seen.map_err(|_| Error::closed("client"))?.failure.clone() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Waits until there is a picture at all, through failures that may pass. `limit` names the setting behind `deadline`.
    pub async fn known(&self, network: &Network, deadline: Instant, limit: &str) -> Result<(), Error> {
        let mut picture = self.picture.clone();
        let is_settled = |picture: &Picture| picture.cluster.answers > 0 || picture.is_hopeless;
        let settled = network.runtime.until(deadline, picture.wait_for(is_settled)).await;
        match settled {
            Some(Ok(picture)) if picture.cluster.answers > 0 => return Ok(()),
            Some(Ok(picture)) => return picture.failure.clone().map_or(Ok(()), Err),
            Some(Err(_)) => return Err(Error::closed("client")),
            None => {}
        }
        let failure = self.picture.borrow().failure.clone();
        Err(match failure {
            Some(failure) => {
                Error::new(ErrorKind::Timeout, format!("not within {limit}: {failure}")).with_source(failure)
            }
            None => Error::new(ErrorKind::Timeout, format!("no broker answered within {limit}")),
        })
    }

    /// A topic that exists and has partitions; waits for it until `deadline`. `limit` names the setting behind it.
    pub async fn topic(
        &self,
        network: &Network,
        name: &Arc<str>,
        auto_create: bool,
        deadline: Instant,
        limit: &str,
    ) -> Result<Arc<Topic>, Error> {
        let mut picture = self.picture.clone();
        let found = |picture: &Picture| -> Option<Result<Arc<Topic>, Error>> {
            let topic = picture.cluster.topics.get(name)?;
            if !topic.partitions.is_empty() {
                return Some(Ok(Arc::clone(topic)));
            }
            // What no waiting mends.
            let is_final =
                matches!(topic.error, ErrorCode::INVALID_TOPIC_EXCEPTION | ErrorCode::TOPIC_AUTHORIZATION_FAILED);
            let refusal = || network.security.explain(Error::broker(topic.error, format_args!("topic `{name}`")));
            is_final.then(|| Err(refusal()))
        };
        if let Some(known) = found(&picture.borrow_and_update()) {
            return known;
        }
        self.look_for(name, auto_create, Some(deadline));
        let waiting = async {
            loop {
                if picture.changed().await.is_err() {
                    return Err(Error::closed("client"));
                }
                let picture = picture.borrow_and_update();
                if let Some(known) = found(&picture) {
                    return known;
                }
                if let Some(failure) = picture.failure.as_ref().filter(|_| picture.is_hopeless) {
                    return Err(failure.clone());
                }
            }
        };
        match network.runtime.until(deadline, waiting).await {
            Some(outcome) => outcome,
            None => Err(self.missing(name, limit)),
        }
    }

    fn missing(&self, name: &str, limit: &str) -> Error {
        let picture = self.picture.borrow();
        match (&picture.failure, picture.cluster.topics.get(name)) {
            (Some(failure), _) => {
                let message = format!("topic `{name}` could not be looked up within {limit}: {failure}");
                Error::new(ErrorKind::Timeout, message).with_source(failure.clone())
            }
            (None, Some(topic)) if !topic.error.is_ok() => {
                let message =
                    format!("topic `{name}` was not there within {limit}: the broker answered {}", topic.error);
                Error::new(ErrorKind::UnknownTopic, message)
            }
            _ => Error::new(ErrorKind::Timeout, format!("no broker answered for topic `{name}` within {limit}")),
        }
    }
}

async fn run(
    network: Arc<Network>,
    brokers: Arc<Brokers>,
    seeds: Vec<Address>,
    mut machine: Metadata,
    mut inbox: mpsc::UnboundedReceiver<Command>,
    watched: watch::Sender<Picture>,
) {
    let runtime = &network.runtime;
    let mut timer = Timer::new(runtime);
    let (answered, mut answers) = mpsc::unbounded_channel();
    // Since the last answer, what each address said.
    let mut failures: Vec<(Address, CallError)> = Vec::new();
    loop {
        while let Some(query) = machine.poll_query(runtime.now()) {
            let endpoint = endpoint(&machine, &seeds, query.target);
            let Some(endpoint) = endpoint else {
                machine.handle_failure(runtime.now(), query.id, runtime.random());
                continue;
            };
            runtime.spawn(ask(Arc::clone(&network), Arc::clone(&brokers), endpoint, query, answered.clone()));
        }
        tokio::select! {
            biased;
            command = inbox.recv() => {
                // The last handle is gone.
                let Some(command) = command else { return };
                // All that have come: many topics wanted at once are one question.
                let mut next = Some(command);
                while let Some(command) = next {
                    match command {
                        Command::Want { topic, auto_create } => machine.want(runtime.now(), &topic, auto_create),
                        Command::LookFor { topic, auto_create, deadline } => {
                            machine.look_for(runtime.now(), &topic, auto_create, deadline);
                        }
                        Command::Hold { topic, auto_create } => machine.hold(runtime.now(), &topic, auto_create),
                        Command::Release { topic } => machine.release(&topic),
                        Command::Refresh => machine.refresh(runtime.now()),
                        Command::RefreshElsewhere(than) => machine.refresh_elsewhere(runtime.now(), than),
                        Command::Hint(hint) => {
                            if machine.handle_hint(&hint) {
                                let cluster = Arc::clone(machine.cluster());
                                watched.send_modify(|picture| picture.cluster = cluster);
                            }
                        }
                    }
                    next = inbox.try_recv().ok();
                }
            }
            answer = answers.recv() => {
                let Some((id, endpoint, answer)): Option<Answer> = answer else { return };
                let (now, random) = (runtime.now(), runtime.random());
                match answer {
                    Ok(response) => {
                        let before = machine.cluster().answers;
                        machine.handle_answer(now, id, &response, random);
                        if machine.cluster().answers == before {
                            continue;
                        }
                        failures.clear();
                        let cluster = Arc::clone(machine.cluster());
                        brokers.retain(|endpoint| match endpoint.node {
                            Some(node) => cluster.brokers.get(&node).map(address_of).as_ref() == Some(&endpoint.address),
                            None => true,
                        });
                        watched.send_replace(Picture { cluster, ..Picture::default() });
                    }
                    Err(error) => {
                        machine.handle_failure(now, id, random);
                        failures.retain(|(address, _)| *address != endpoint.address);
                        failures.push((endpoint.address, error));
                        if machine.is_lost() {
                            let failure = Some(unreachable(&failures));
                            watched.send_modify(|picture| {
                                picture.failure = failure;
                                picture.is_hopeless = failures.iter().all(|(_, error)| !error.is_transient())
                                    || failures.iter().any(|(_, error)| error.is_denied());
                            });
                        }
                    }
                }
            }
            () = std::future::poll_fn(|cx| timer.poll(cx, machine.poll_timeout())) => {}
        }
    }
}

type Answer = (u64, Endpoint, Result<MetadataResponse, CallError>);

async fn ask(
    network: Arc<Network>,
    brokers: Arc<Brokers>,
    endpoint: Endpoint,
    query: Query,
    answered: mpsc::UnboundedSender<Answer>,
) {
    let deadline = network.runtime.now() + network.request_timeout;
    let call: Call<MetadataRequest> = Call::new(query.request);
    tokio::select! {
        biased;
        answer = brokers.call(&endpoint, Class::General, call, deadline) => {
            let _ = answered.send((query.id, endpoint, answer));
        }
        // The client is gone.
        () = answered.closed() => {}
    }
}

fn endpoint(machine: &Metadata, seeds: &[Address], target: Target) -> Option<Endpoint> {
    match target {
        Target::Seed(index) => {
            let address = seeds.get(index)?.clone();
            // A seed that is a known broker is asked over that one's connection: in an outage its back-off is one.
            let known = machine.cluster().brokers.values().find(|broker| address_of(broker) == address);
            Some(Endpoint { node: known.map(|broker| broker.id), address })
        }
        Target::Broker(id) => {
            let broker = machine.cluster().brokers.get(&id)?;
            Some(Endpoint { node: Some(id), address: address_of(broker) })
        }
    }
}

pub fn address_of(broker: &crate::machine::metadata::Broker) -> Address {
    Address::new(Arc::clone(&broker.host), broker.port)
}

/// One error from what every address said. It is of the kind of the first, or of the first denial: what no other broker
/// mends.
fn unreachable(failures: &[(Address, CallError)]) -> Error {
    let all: Vec<_> = failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    let text = format!("no broker could be reached: {}", all.join("; "));
    match failures.iter().find(|(_, error)| error.is_denied()).or_else(|| failures.first()) {
        Some((_, worst)) => Error::from(worst.clone()).reworded(text),
        None => Error::new(ErrorKind::Connection, text),
    }
}
