//! A broker: connections, one request at a time on each, and the way of a request from its frame to its answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterConfigsRequest, ApiVersionsRequest,
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, DescribeLogDirsRequest, DescribeProducersRequest, DescribeTopicPartitionsRequest,
    ElectLeadersRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, SaslAuthenticateRequest, SaslHandshakeRequest, SyncGroupRequest,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::api::{Api, KafkaRelease, Versions};
use super::fault::{Effects, Faults, Target};
use super::frame::{self, Body, Frame, Received};
use super::group::Timing;
use super::history::{History, SeenRequest};
use super::link::{self, Links};
use super::runtime::Runtime;
use super::sasl::{Gate, Users};
use super::state::State;
use super::tap::{Place, Tap};
use super::verify::{Event, Violation, ViolationKind};
use crate::{Address, Transport};

/// What all brokers of a cluster share.
pub(super) struct Shared {
    pub(super) runtime: Runtime,
    pub(super) cluster_id: String,
    pub(super) release: KafkaRelease,
    racks: Vec<String>,
    pub(super) versions: Versions,
    pub(super) auto_create_topics: bool,
    pub(super) default_partitions: usize,
    /// Of groups under KIP-848; `None`: there are none.
    pub(super) consumer_groups: Option<Timing>,
    brokers: RwLock<BTreeMap<i32, Arc<Broker>>>,
    pub(super) faults: Faults,
    pub(super) history: History,
    /// Who may come in; `None`: everybody.
    pub(super) users: Option<Users>,
    pub(super) links: Links,
    state: Mutex<State>,
    connections: AtomicU64,
    /// The message of the first panic in a task.
    panic: Mutex<Option<String>>,
}

/// One broker, running or not.
pub(super) struct Broker {
    pub(super) id: i32,
    /// As clients are told.
    pub(super) address: Address,
    /// Where its port is bound; `None` in memory.
    pub(super) bound: Option<Address>,
    /// A hung broker reads and accepts, and does nothing else.
    hung: watch::Sender<bool>,
    /// A draining broker finishes what it is handling, and reads nothing more.
    draining: watch::Sender<bool>,
    /// Requests that are being handled.
    busy: watch::Sender<usize>,
    tasks: Mutex<Tasks>,
}

/// What runs for a broker: its port and its connections.
#[derive(Debug, Default)]
struct Tasks {
    running: bool,
    handles: Vec<JoinHandle<()>>,
}

impl Broker {
    /// A broker that is not started yet.
    pub(super) fn new(id: i32, address: Address, bound: Option<Address>) -> Self {
        Self {
            id,
            address,
            bound,
            hung: watch::Sender::new(false),
            draining: watch::Sender::new(false),
            busy: watch::Sender::new(0),
            tasks: Mutex::default(),
        }
    }

    /// From now on it accepts connections.
    pub(super) fn start(&self) {
        self.draining.send_replace(false);
        self.tasks().running = true;
    }

    /// From now on it reads nothing more.
    pub(super) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Waits until no request is being handled.
    pub(super) async fn drained(&self) {
        // The sender is in `self`, so this cannot fail.
        let _ = self.busy.subscribe().wait_for(|busy| *busy == 0).await;
    }

    async fn draining(&self) {
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// A request is being handled until this is dropped.
    fn busy(&self) -> Busy<'_> {
        self.busy.send_modify(|busy| *busy += 1);
        Busy(self)
    }

    pub(super) fn set_hung(&self, hung: bool) {
        self.hung.send_replace(hung);
    }

    async fn not_hung(&self) {
        if *self.hung.borrow() {
            // The sender is in `self`, so this cannot fail.
            let _ = self.hung.subscribe().wait_for(|hung| !*hung).await;
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Aborts what runs for this broker, without waiting for its end.
    pub(super) fn abort(&self) -> Vec<JoinHandle<()>> {
        let Tasks { handles, .. } = std::mem::take(&mut *self.tasks());
        handles.iter().for_each(JoinHandle::abort);
        handles
    }

    /// Closes the port and every connection. They are closed when this returns.
    pub(super) async fn stop(&self) {
        for task in self.abort() {
            let _ = task.await; // an error means aborted, which is the wish
        }
    }
}

struct Busy<'a>(&'a Broker);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.send_modify(|busy| *busy -= 1);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses: Vec<_> = self.brokers().iter().map(|broker| (broker.id, broker.address.to_string())).collect();
        f.debug_struct("Shared").field("brokers", &addresses).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        runtime: Runtime,
        settings: super::cluster::Settings,
        brokers: impl IntoIterator<Item = Broker>,
    ) -> Self {
        let users = settings.users();
        let super::cluster::Settings { brokers: count, fetch_sessions, seed, .. } = settings;
        Self {
            runtime,
            cluster_id: "milena-mock-cluster-00".to_owned(), // 22 characters, as Kafka's are
            release: settings.release,
            versions: settings.versions(),
            auto_create_topics: settings.auto_create_topics,
            default_partitions: settings.default_partitions,
            consumer_groups: settings.consumer_groups(),
            racks: settings.racks,
            brokers: RwLock::new(brokers.into_iter().map(|broker| (broker.id, Arc::new(broker))).collect()),
            faults: Faults::new(seed.wrapping_add(1)),
            history: History::default(),
            users,
            links: Links::default(),
            state: Mutex::new(State::new(count, settings.release, fetch_sessions, seed)),
            connections: AtomicU64::new(1),
            panic: Mutex::default(),
        }
    }

    /// Where a broker is.
    pub(super) fn rack(&self, broker: i32) -> Option<&str> {
        let place = usize::try_from(broker - 1).ok()?.checked_rem(self.racks.len())?;
        self.racks.get(place).map(String::as_str)
    }

    /// The state of the cluster. Never held across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every broker, running or not, by id.
    pub(super) fn brokers(&self) -> Vec<Arc<Broker>> {
        self.brokers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn broker(&self, id: i32) -> Option<Arc<Broker>> {
        self.brokers.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(super) fn add_broker(&self, broker: Broker) {
        let broker = Arc::new(broker);
        self.brokers.write().unwrap_or_else(PoisonError::into_inner).insert(broker.id, broker);
    }

    /// The message of the first panic in a broker's task, once.
    pub(super) fn take_panic(&self) -> Option<String> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The same, left where it is.
    pub(super) fn panic_message(&self) -> Option<String> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs `task` until the broker stops; not at all if it has.
    pub(super) fn spawn<F>(self: &Arc<Self>, broker: &Broker, task: F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = broker.tasks();
        if !tasks.running {
            return false;
        }
        let shared = self.clone();
        let task = self.runtime.spawn(task, move |message| {
            shared.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| message.to_owned());
        });
        tasks.handles.retain(|task| !task.is_finished());
        tasks.handles.push(task);
        true
    }

    /// Accepts connections to a broker until it is stopped.
    pub(super) fn listen(self: &Arc<Self>, broker: i32, listener: TcpListener) {
        let shared = self.clone();
        let accept = async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let _ = stream.set_nodelay(true); // fails only if the connection is gone already
                        shared.serve(broker, Box::new(stream));
                    }
                    // The peer left, or there are no descriptors: later connections may do better.
                    Err(_) => shared.runtime.sleep(Duration::from_millis(10)).await,
                }
            }
        };
        if let Some(broker) = self.broker(broker) {
            self.spawn(&broker, accept);
        }
    }

    /// Serves one connection until either side closes it. `false` if the broker does not run.
    pub(super) fn serve(self: &Arc<Self>, broker: i32, stream: Box<dyn Transport>) -> bool {
        let Some(entry) = self.broker(broker) else { return false };
        let id = self.connections.fetch_add(1, Ordering::Relaxed);
        let connection = Connection {
            shared: self.clone(),
            broker,
            entry: entry.clone(),
            id,
            buffer: BytesMut::new(),
            waker: Arc::default(),
            client: Arc::default(),
            carried: false,
            swallowing: false,
            gate: Arc::default(),
            too_many_noted: false,
        };
        // A lost connection is the client's to notice: nothing to report.
        self.spawn(&entry, async move { drop(connection.run(stream).await) })
    }
}

/// One connection: requests are read and answered one at a time, as a real broker does.
struct Connection {
    shared: Arc<Shared>,
    broker: i32,
    entry: Arc<Broker>,
    id: u64,
    /// What was read and not taken yet.
    buffer: BytesMut,
    /// Wakes the fetch that waits on this connection.
    waker: Arc<Notify>,
    /// The client id of its requests, once there was one.
    client: Arc<OnceLock<String>>,
    /// A link is between it and the client.
    carried: bool,
    /// A fault has silenced it.
    swallowing: bool,
    gate: Arc<Gate>,
    /// It was noted that the client has too much in flight: once is enough.
    too_many_noted: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.history.closed(self.id);
    }
}

/// What comes of a request.
pub(super) enum Handled {
    /// The usual.
    Answer(Body),
    /// Nothing is said, as for Produce with acks=0.
    Nothing,
    /// The connection is closed, because the client would not understand an answer.
    Close,
}

/// A request that cannot be served; the connection is closed.
pub(super) struct Refused(pub(super) ViolationKind, pub(super) String);

/// A request that the mock can handle. The message types of `kafka-protocol` implement it, a file for each concern.
pub(super) trait Handle: Request + Send {
    /// The topics and partitions it is about, for the conditions of faults.
    fn targets(&self, call: &Call<'_>) -> Vec<Target>;

    /// Does what it asks.
    fn handle(self, call: &Call<'_>) -> impl Future<Output = Handled> + Send;
}

/// What a handler knows besides the request itself.
pub(super) struct Call<'a> {
    pub(super) shared: &'a Shared,
    /// The broker that was asked.
    pub(super) broker: i32,
    pub(super) version: i16,
    pub(super) waker: &'a Arc<Notify>,
    pub(super) effects: Effects,
    /// Of the connection.
    pub(super) gate: &'a Gate,
    pub(super) client_id: Option<&'a str>,
    /// For how long a quota throttles the client, in milliseconds.
    quota_ms: AtomicU64,
}

impl Call<'_> {
    pub(super) fn answer<M: Encodable>(&self, message: &M) -> Handled {
        Handled::Answer(Body::encode(message, self.version))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// What this broker knows of the cluster: the present, or the past if a fault has made it stale.
    pub(super) fn known_state(&self) -> MutexGuard<'_, State> {
        self.effects.past().unwrap_or_else(|| self.state())
    }

    /// What answers say in `throttle_time_ms`.
    pub(super) fn throttle_ms(&self) -> i32 {
        i32::try_from(self.throttled().as_millis()).unwrap_or(i32::MAX)
    }

    /// Throttles the client for a quota.
    pub(super) fn mute(&self, time: Duration) {
        let millis = time.as_micros().div_ceil(1000);
        self.quota_ms.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// For how long the client is throttled, by a fault or a quota.
    fn throttled(&self) -> Duration {
        self.effects.throttle.max(Duration::from_millis(self.quota_ms.load(Ordering::Relaxed)))
    }

    pub(super) fn rack(&self, broker: i32) -> Option<kafka_protocol::protocol::StrBytes> {
        self.shared.rack(broker).map(|rack| rack.to_owned().into())
    }

    pub(super) fn address(&self, broker: i32) -> (kafka_protocol::protocol::StrBytes, i32) {
        self.shared.broker(broker).map_or_else(Default::default, |broker| {
            (broker.address.host().to_owned().into(), broker.address.port().into())
        })
    }
}

/// After so much time, more requests may have queued up.
const QUEUED: Duration = Duration::from_millis(5);
/// How far a broker looks for them.
const LOOK_AHEAD: usize = 1 << 20;

/// Whether a connection goes on after a request.
enum After {
    Next,
    Close,
}

impl Connection {
    async fn run(mut self, mut stream: Box<dyn Transport>) -> io::Result<()> {
        let (entry, mut links) = (self.entry.clone(), self.shared.links.changes());
        let draining = entry.draining();
        tokio::pin!(draining);
        loop {
            if !self.carried && !self.link().is_plain() {
                stream = link::carry(&self.shared, &entry, self.client.clone(), stream);
                self.carried = true;
            }
            let read = tokio::select! {
                biased;
                () = &mut draining => return Ok(()),
                read = frame::read(&mut stream, &mut self.buffer) => read,
                _ = links.changed(), if !self.carried => continue,
            };
            let frame = match read {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => {
                    if error.kind() == io::ErrorKind::InvalidData {
                        self.violation(ViolationKind::Undecodable, error.to_string());
                    }
                    return Err(error);
                }
            };
            let _busy = entry.busy();
            self.not_hung().await;
            let size = frame.len();
            let handled = match Received::parse(frame) {
                Ok(received) => {
                    if let Some(client) = &received.client_id
                        && self.client.set(client.clone()).is_ok()
                    {
                        self.arrive(size).await;
                    }
                    self.note(&received, size);
                    self.dispatch(received, &mut stream).await
                }
                Err(message) => Err(Refused(ViolationKind::Undecodable, message)),
            };
            match handled {
                Ok(After::Next) => {}
                Ok(After::Close) => return Ok(()),
                Err(Refused(kind, message)) => {
                    self.violation(kind, message);
                    return Ok(());
                }
            }
        }
    }

    async fn not_hung(&self) {
        self.entry.not_hung().await;
    }

    fn link(&self) -> link::Link {
        self.shared.links.of(self.broker, self.client.get().map(String::as_str))
    }

    /// A client's own link is known with its first request, which has yet to come by it.
    async fn arrive(&self, size: usize) {
        let link = self.link();
        if !self.carried && !link.is_plain() {
            self.shared.runtime.sleep(link.request_time(size)).await;
        }
    }

    fn note(&self, received: &Received, size: usize) {
        self.shared.history.note(SeenRequest {
            api: received.api,
            version: received.version,
            broker: self.broker,
            connection: self.id,
            correlation_id: received.correlation_id,
            client_id: received.client_id.clone(),
            size,
            at: self.shared.runtime.elapsed(),
        });
    }

    fn violation(&self, kind: ViolationKind, message: String) {
        let Place { at, broker, connection } = self.place();
        let events = vec![Event::Connection { at, broker, connection }];
        self.shared.history.note_violation(Violation { kind, message, events });
    }

    fn place(&self) -> Place {
        Place { at: self.shared.runtime.elapsed(), broker: self.broker, connection: self.id }
    }

    /// Whether the client has more in flight than it may. A broker cannot tell while it answers at once: it looks when
    /// requests have had time to queue up.
    async fn check_in_flight(&mut self, tap: &Tap, place: Place, stream: &mut impl Transport) {
        let waited = self.shared.runtime.elapsed().saturating_sub(place.at);
        if waited >= QUEUED && !self.too_many_noted {
            frame::read_what_is_there(stream, &mut self.buffer, LOOK_AHEAD).await;
            self.too_many_noted = tap.check_in_flight(&self.shared, place, &self.buffer);
        }
    }

    async fn dispatch(&mut self, received: Received, stream: &mut impl Transport) -> Result<After, Refused> {
        let Received { api, version, .. } = received;
        if let Some(message) = self.gate.refusal(&self.shared, api) {
            return Err(Refused(ViolationKind::Unauthenticated, message));
        }
        if !self.shared.versions.contains(api, version) {
            // An ApiVersions that is too new is the one request that is answered all the same.
            return match self.shared.versions.range(api) {
                Some(_) if api == Api::ApiVersions => {
                    let body = super::versions::unsupported(&self.shared.versions);
                    let frame = Frame::new(0, received.correlation_id, body);
                    Ok(self.send(frame, stream).await)
                }
                Some(range) => {
                    let message = format!("{api} v{version} is not offered, but {}-{}", range.min, range.max);
                    Err(Refused(ViolationKind::NotOffered, message))
                }
                None => Err(Refused(ViolationKind::NotOffered, format!("{api} is not offered"))),
            };
        }
        // Boxed: each of these is a state machine of its own size.
        let answered: Pin<Box<dyn Future<Output = Result<After, Refused>> + Send + '_>> = match api {
            Api::Produce => Box::pin(self.run_one::<ProduceRequest>(received, stream)),
            Api::Fetch => Box::pin(self.run_one::<FetchRequest>(received, stream)),
            Api::ListOffsets => Box::pin(self.run_one::<ListOffsetsRequest>(received, stream)),
            Api::Metadata => Box::pin(self.run_one::<MetadataRequest>(received, stream)),
            Api::OffsetCommit => Box::pin(self.run_one::<OffsetCommitRequest>(received, stream)),
            Api::OffsetFetch => Box::pin(self.run_one::<OffsetFetchRequest>(received, stream)),
            Api::FindCoordinator => Box::pin(self.run_one::<FindCoordinatorRequest>(received, stream)),
            Api::ApiVersions => Box::pin(self.run_one::<ApiVersionsRequest>(received, stream)),
            Api::CreateTopics => Box::pin(self.run_one::<CreateTopicsRequest>(received, stream)),
            Api::DeleteTopics => Box::pin(self.run_one::<DeleteTopicsRequest>(received, stream)),
            Api::InitProducerId => Box::pin(self.run_one::<InitProducerIdRequest>(received, stream)),
            Api::OffsetForLeaderEpoch => Box::pin(self.run_one::<OffsetForLeaderEpochRequest>(received, stream)),
            Api::AddPartitionsToTxn => Box::pin(self.run_one::<AddPartitionsToTxnRequest>(received, stream)),
            Api::AddOffsetsToTxn => Box::pin(self.run_one::<AddOffsetsToTxnRequest>(received, stream)),
            Api::EndTxn => Box::pin(self.run_one::<EndTxnRequest>(received, stream)),
            Api::TxnOffsetCommit => Box::pin(self.run_one::<TxnOffsetCommitRequest>(received, stream)),
            Api::AlterConfigs => Box::pin(self.run_one::<AlterConfigsRequest>(received, stream)),
            Api::DeleteRecords => Box::pin(self.run_one::<DeleteRecordsRequest>(received, stream)),
            Api::DescribeConfigs => Box::pin(self.run_one::<DescribeConfigsRequest>(received, stream)),
            Api::DescribeProducers => Box::pin(self.run_one::<DescribeProducersRequest>(received, stream)),
            Api::IncrementalAlterConfigs => Box::pin(self.run_one::<IncrementalAlterConfigsRequest>(received, stream)),
            Api::CreatePartitions => Box::pin(self.run_one::<CreatePartitionsRequest>(received, stream)),
            Api::ConsumerGroupDescribe => Box::pin(self.run_one::<ConsumerGroupDescribeRequest>(received, stream)),
            Api::ConsumerGroupHeartbeat => Box::pin(self.run_one::<ConsumerGroupHeartbeatRequest>(received, stream)),
            Api::DeleteGroups => Box::pin(self.run_one::<DeleteGroupsRequest>(received, stream)),
            Api::OffsetDelete => Box::pin(self.run_one::<OffsetDeleteRequest>(received, stream)),
            Api::DescribeGroups => Box::pin(self.run_one::<DescribeGroupsRequest>(received, stream)),
            Api::DescribeLogDirs => Box::pin(self.run_one::<DescribeLogDirsRequest>(received, stream)),
            Api::DescribeTopicPartitions => Box::pin(self.run_one::<DescribeTopicPartitionsRequest>(received, stream)),
            Api::ElectLeaders => Box::pin(self.run_one::<ElectLeadersRequest>(received, stream)),
            Api::Heartbeat => Box::pin(self.run_one::<HeartbeatRequest>(received, stream)),
            Api::JoinGroup => Box::pin(self.run_one::<JoinGroupRequest>(received, stream)),
            Api::LeaveGroup => Box::pin(self.run_one::<LeaveGroupRequest>(received, stream)),
            Api::SyncGroup => Box::pin(self.run_one::<SyncGroupRequest>(received, stream)),
            Api::ListGroups => Box::pin(self.run_one::<ListGroupsRequest>(received, stream)),
            Api::SaslHandshake => Box::pin(self.run_one::<SaslHandshakeRequest>(received, stream)),
            Api::SaslAuthenticate => Box::pin(self.run_one::<SaslAuthenticateRequest>(received, stream)),
            Api::DescribeCluster => Box::pin(self.run_one::<DescribeClusterRequest>(received, stream)),
        };
        let after = answered.await?;
        Ok(if self.gate.has_failed() { After::Close } else { after })
    }

    /// Decodes a request, handles it and sends the answer, with what faults make of it.
    async fn run_one<R: Handle>(
        &mut self,
        mut received: Received,
        stream: &mut impl Transport,
    ) -> Result<After, Refused>
    where
        R::Response: HeaderVersion,
    {
        let place = self.place();
        let tap = Tap::of(&self.shared, place, &received);
        let request = received.decode::<R>().map_err(|message| Refused(ViolationKind::Undecodable, message))?;
        let Received { api, version, correlation_id, body, client_id } = received;
        if !body.is_empty() {
            // Real brokers do not mind, and librdkafka does it, so it is served.
            let message = format!("a {api} v{version} request has {} bytes too many", body.len());
            self.violation(ViolationKind::TrailingBytes, message);
        }
        let (shared, waker, gate) = (self.shared.clone(), self.waker.clone(), self.gate.clone());
        let mut call = Call {
            shared: &shared,
            broker: self.broker,
            version,
            waker: &waker,
            effects: Effects::default(),
            gate: &gate,
            client_id: client_id.as_deref(),
            quota_ms: AtomicU64::new(0),
        };
        call.effects = shared.faults.strike(api, self.broker, || request.targets(&call));

        call.effects.stalled().await;
        if call.effects.close {
            return Ok(After::Close);
        }
        if !call.effects.delay.is_zero() {
            shared.runtime.sleep(call.effects.delay).await;
        }
        let handled = request.handle(&call).await;
        let throttle = call.throttled();
        let effects = call.effects;
        if let Some(tap) = &tap {
            self.check_in_flight(tap, place, stream).await;
        }
        if !effects.delay_answer.is_zero() {
            shared.runtime.sleep(effects.delay_answer).await;
        }
        self.not_hung().await;
        self.swallowing |= effects.swallow;
        if let Some(tap) = tap {
            // What the client will not read, or not understand, it was not told.
            let told = !effects.keeps_answer() && !self.swallowing;
            let answer = match &handled {
                Handled::Answer(body) if told => Some(body.0.concat().into()),
                _ => None,
            };
            tap.done(&shared, version, answer);
        }
        let body = match handled {
            Handled::Close => return Ok(After::Close),
            _ if effects.lose_answer => return Ok(After::Close),
            Handled::Nothing => return Ok(After::Next),
            Handled::Answer(_) if self.swallowing => return Ok(After::Next),
            Handled::Answer(body) => body,
        };
        let correlation_id = if effects.wrong_correlation_id { correlation_id.wrapping_add(1) } else { correlation_id };
        let mut frame = Frame::new(R::Response::header_version(version), correlation_id, body);
        if effects.corrupt {
            let mut bytes = frame.flatten();
            shared.faults.flip(&mut bytes[Frame::PREFIX..]);
            frame = bytes.into();
        }
        if let Some(length) = effects.cut {
            let mut bytes = frame.flatten();
            bytes.truncate(length);
            self.send(bytes.into(), stream).await;
            return Ok(After::Close);
        }
        if !effects.wrong_correlation_id {
            shared.history.answered(self.broker, self.id, correlation_id, shared.runtime.elapsed());
        }
        let after = self.send(frame, stream).await;
        if !throttle.is_zero() {
            shared.runtime.sleep(throttle).await; // muted: the broker does not read (KIP-219)
        }
        Ok(after)
    }

    async fn send(&self, frame: Frame, stream: &mut impl Transport) -> After {
        // The answer to the request that told whose link this is goes by it, too.
        let link = self.link();
        if !self.carried && !link.is_plain() {
            self.shared.runtime.sleep(link.answer_time(frame.remaining())).await;
        }
        match frame.write(stream).await {
            Ok(()) => After::Next,
            Err(_) => After::Close, // the client is gone
        }
    }
}
