//! Faults: what goes wrong, and when.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::api::Api;
use super::state::State;

/// Which requests a [`Fault`] strikes. Conditions add up; without any, all requests match.
///
/// Requests are counted per rule, over all brokers and connections, in the order in which brokers read them.
///
/// ```
/// use milena::mock::{Api, When};
///
/// let the_third_produce = When::api(Api::Produce).nth(3);
/// let two_fetches_of_a_partition = When::api(Api::Fetch).partition("orders", 0).times(2);
/// let one_in_ten_on_broker_2 = When::any().broker(2).probability(0.1);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a condition does nothing until it is given to `MockCluster::inject`"]
pub struct When {
    api: Option<Api>,
    broker: Option<i32>,
    topic: Option<(String, Option<i32>)>,
    skip: u64,
    every: u64,
    times: Option<u64>,
    probability: Option<f64>,
}

impl When {
    /// Every request.
    pub fn any() -> Self {
        Self { api: None, broker: None, topic: None, skip: 0, every: 1, times: None, probability: None }
    }

    /// Every request of this kind.
    pub fn api(api: Api) -> Self {
        Self { api: Some(api), ..Self::any() }
    }

    /// Only at this broker.
    pub fn broker(self, broker: i32) -> Self {
        Self { broker: Some(broker), ..self }
    }

    /// Only requests that name this topic. [`Fault::error`] then strikes this topic alone within the request.
    pub fn topic(self, topic: impl Into<String>) -> Self {
        Self { topic: Some((topic.into(), None)), ..self }
    }

    /// Only requests that name this partition. [`Fault::error`] then strikes this partition alone within the request.
    ///
    /// Requests for whole topics (Metadata, CreateTopics) match when they name the topic.
    pub fn partition(self, topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: Some((topic.into(), Some(partition))), ..self }
    }

    /// The `nth` request that matches, from 1, and no other, unless [`times`](Self::times) asks for those after it too.
    pub fn nth(self, nth: u64) -> Self {
        Self { skip: nth.saturating_sub(1), times: self.times.or(Some(1)), ..self }
    }

    /// Every `k`th request that matches: the `k`th, the `2k`th, and so on.
    pub fn every(self, k: u64) -> Self {
        Self { every: k.max(1), ..self }
    }

    /// At most this many requests. The default is no limit, or one after [`nth`](Self::nth).
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Each request that matches with this probability, from 0 to 1, drawn from the cluster's
    /// [seed](super::MockClusterBuilder::seed).
    pub fn probability(self, probability: f64) -> Self {
        Self { probability: Some(probability), ..self }
    }

    fn matches(&self, api: Api, broker: i32, targets: &[Target]) -> bool {
        self.api.is_none_or(|wanted| wanted == api)
            && self.broker.is_none_or(|wanted| wanted == broker)
            && self.topic.as_ref().is_none_or(|wanted| targets.iter().any(|target| target.is_in(wanted)))
    }
}

/// What goes wrong with a request. Several faults may strike one request.
#[derive(Clone, Debug)]
#[must_use = "a fault does nothing until it is given to `MockCluster::inject`"]
pub struct Fault(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Error(i16),
    Delay(Duration),
    DelayAnswer(Duration),
    Close,
    LoseAnswer,
    Swallow,
    Stall,
    Cut(usize),
    WrongCorrelationId,
    Corrupt,
    Throttle(Duration),
    Stale,
}

impl Fault {
    /// Nothing is done, and the answer says this error code: for each partition or topic that the condition names, or
    /// all of them, or for the request as a whole where it has no parts.
    ///
    /// Some errors have their place in the answer: those of fetch sessions (70, 71, 106) concern the whole Fetch,
    /// REBOOTSTRAP_REQUIRED (129) the whole Metadata, and any error of an OffsetFetch the whole group, unless the
    /// condition names a topic.
    ///
    /// ```
    /// use milena::mock::{Api, Fault, MockCluster, When};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let cluster = MockCluster::start().await;
    /// // NOT_LEADER_OR_FOLLOWER
    /// cluster.inject(When::api(Api::Produce).partition("orders", 0).times(2), Fault::error(6));
    /// # cluster.close().await;
    /// # }
    /// ```
    pub fn error(code: i16) -> Self {
        Self(Kind::Error(code))
    }

    /// The request is handled this much later. Whatever comes after it on the connection waits too, as at a real
    /// broker.
    pub fn delay(delay: Duration) -> Self {
        Self(Kind::Delay(delay))
    }

    /// The request is handled at once, and the answer sent this much later.
    pub fn delay_answer(delay: Duration) -> Self {
        Self(Kind::DelayAnswer(delay))
    }

    /// The connection is closed, and nothing is done.
    pub fn close() -> Self {
        Self(Kind::Close)
    }

    /// The request is handled, and the connection closed instead of answering: the acknowledgement is lost.
    pub fn lose_answer() -> Self {
        Self(Kind::LoseAnswer)
    }

    /// The request is handled, and not answered; nor is anything after it on this connection, which stays open. Later
    /// requests on it are still handled, as behind a network that only loses what the broker sends.
    pub fn swallow_answer() -> Self {
        Self(Kind::Swallow)
    }

    /// The request is neither handled nor answered while the fault is in place. After [`FaultHandle::remove`] it is
    /// both.
    pub fn stall() -> Self {
        Self(Kind::Stall)
    }

    /// The request is handled, and the connection closed after so many bytes of the answer, the four of the length
    /// included.
    pub fn cut(bytes: usize) -> Self {
        Self(Kind::Cut(bytes))
    }

    /// The answer has another correlation id than the request.
    pub fn wrong_correlation_id() -> Self {
        Self(Kind::WrongCorrelationId)
    }

    /// One bit of the answer is flipped, drawn from the cluster's seed: anywhere after its length and its correlation
    /// id.
    pub fn corrupt() -> Self {
        Self(Kind::Corrupt)
    }

    /// Metadata and DescribeCluster are answered as they would have been when the fault was put in place: leaders,
    /// epochs, topics, their ids and who lives. So answers a broker that the controller does not reach any more. Other
    /// requests are handled as usual.
    ///
    /// ```
    /// use milena::mock::{Fault, MockCluster, When};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let cluster = MockCluster::builder().brokers(2).start().await;
    /// cluster.create_topic("orders", 1);
    /// cluster.inject(When::any().broker(1), Fault::stale_metadata());
    /// cluster.move_leader("orders", 0, 2); // which broker 1 does not tell
    /// # cluster.close().await;
    /// # }
    /// ```
    pub fn stale_metadata() -> Self {
        Self(Kind::Stale)
    }

    /// The answer says that the client was throttled for this long, and the broker reads nothing more from the
    /// connection in that time (KIP-219). In whole milliseconds.
    pub fn throttle(time: Duration) -> Self {
        Self(Kind::Throttle(time))
    }
}

/// An injected fault. It stays in place when the handle is dropped.
#[derive(Clone)]
pub struct FaultHandle(Arc<Rule>);

/// Condition, fault, and how often it has struck.
impl std::fmt::Debug for FaultHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Rule { when, fault, .. } = &*self.0;
        f.debug_struct("FaultHandle").field("when", when).field("fault", fault).field("struck", &self.struck()).finish()
    }
}

impl FaultHandle {
    /// Takes the fault away. Requests that it stalls go on.
    pub fn remove(&self) {
        self.0.remove();
    }

    /// How many requests it has struck.
    pub fn struck(&self) -> u64 {
        *self.0.struck.borrow()
    }

    /// Waits until it has struck `times` requests: forever, if it never does.
    pub async fn wait_struck(&self, times: u64) {
        // The rule holds its own sender, so this cannot fail.
        let _ = self.0.struck.subscribe().wait_for(|struck| *struck >= times).await;
    }
}

#[derive(Debug)]
struct Rule {
    when: When,
    fault: Fault,
    struck: watch::Sender<u64>,
    removed: watch::Sender<bool>,
    /// What a stale broker knows.
    past: Option<Arc<Mutex<State>>>,
}

/// A topic that a request names, and the partition, unless it is about the whole topic.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) topic: String,
    pub(super) partition: Option<i32>,
}

impl Target {
    fn is_in(&self, (topic, partition): &(String, Option<i32>)) -> bool {
        self.topic == *topic && (self.partition.is_none() || partition.is_none() || self.partition == *partition)
    }
}

/// The rules of a cluster.
#[derive(Debug)]
pub(super) struct Faults(Mutex<Rules>);

#[derive(Debug)]
struct Rules {
    /// With the number of requests that each has matched.
    rules: Vec<(Arc<Rule>, u64)>,
    /// Those that were taken away before they had struck anything.
    unused: Vec<Arc<Rule>>,
    rng: fastrand::Rng,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(Rules { rules: Vec::new(), unused: Vec::new(), rng: fastrand::Rng::with_seed(seed) }))
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `sketch` is what a stale broker will know.
    pub(super) fn inject(&self, when: When, fault: Fault, sketch: impl FnOnce() -> State) -> FaultHandle {
        let past = matches!(fault.0, Kind::Stale).then(|| Arc::new(Mutex::new(sketch())));
        let rule = Rule { when, fault, struck: watch::Sender::new(0), removed: watch::Sender::new(false), past };
        let rule = Arc::new(rule);
        self.rules().rules.push((rule.clone(), 0));
        FaultHandle(rule)
    }

    pub(super) fn clear(&self) {
        let mut rules = self.rules();
        rules.rules.iter().for_each(|(rule, _)| rule.remove());
        rules.drop_removed();
    }

    /// Those that have struck nothing so far.
    pub(super) fn unused(&self) -> Vec<FaultHandle> {
        let mut rules = self.rules();
        rules.drop_removed();
        let in_place = rules.rules.iter().map(|(rule, _)| rule).filter(|rule| *rule.struck.borrow() == 0);
        rules.unused.iter().chain(in_place).cloned().map(FaultHandle).collect()
    }

    /// What strikes this request. `targets` is asked only if some rule is about topics.
    pub(super) fn strike(&self, api: Api, broker: i32, targets: impl FnOnce() -> Vec<Target>) -> Effects {
        let mut effects = Effects::default();
        let wants_targets = {
            let mut rules = self.rules();
            rules.drop_removed();
            if rules.rules.is_empty() {
                return effects;
            }
            rules.rules.iter().any(|(rule, _)| rule.when.topic.is_some())
        };
        let targets = if wants_targets { targets() } else { Vec::new() };
        let mut rules = self.rules();
        let Rules { rules, rng, .. } = &mut *rules;
        for (rule, matched) in rules.iter_mut().filter(|(rule, _)| rule.when.matches(api, broker, &targets)) {
            *matched += 1;
            let when = &rule.when;
            let due = *matched > when.skip && (*matched - when.skip).is_multiple_of(when.every);
            let exhausted = when.times.is_some_and(|times| *rule.struck.borrow() >= times);
            if due && !exhausted && when.probability.is_none_or(|probability| rng.f64() < probability) {
                effects.add(rule);
                rule.struck.send_modify(|struck| *struck += 1);
            }
        }
        effects
    }

    /// Flips one bit of `bytes`.
    pub(super) fn flip(&self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let mut rules = self.rules();
            let (byte, bit) = (rules.rng.usize(..bytes.len()), rules.rng.u8(..8));
            bytes[byte] ^= 1 << bit;
        }
    }
}

impl Rules {
    fn drop_removed(&mut self) {
        let Self { rules, unused, .. } = self;
        rules.retain(|(rule, _)| {
            let removed = *rule.removed.borrow();
            if removed && *rule.struck.borrow() == 0 {
                unused.push(rule.clone());
            }
            !removed
        });
    }
}

/// What strikes one request.
#[derive(Debug, Default)]
pub(super) struct Effects {
    stalled_by: Vec<Arc<Rule>>,
    errors: Vec<Arc<Rule>>,
    past: Option<Arc<Mutex<State>>>,
    pub(super) delay: Duration,
    pub(super) close: bool,
    pub(super) delay_answer: Duration,
    pub(super) lose_answer: bool,
    pub(super) swallow: bool,
    pub(super) cut: Option<usize>,
    pub(super) wrong_correlation_id: bool,
    pub(super) corrupt: bool,
    pub(super) throttle: Duration,
}

impl Effects {
    fn add(&mut self, rule: &Arc<Rule>) {
        match rule.fault.0 {
            Kind::Error(_) => self.errors.push(rule.clone()),
            Kind::Stall => self.stalled_by.push(rule.clone()),
            Kind::Delay(delay) => self.delay += delay,
            Kind::DelayAnswer(delay) => self.delay_answer += delay,
            Kind::Close => self.close = true,
            Kind::LoseAnswer => self.lose_answer = true,
            Kind::Swallow => self.swallow = true,
            Kind::Cut(bytes) => self.cut = Some(bytes),
            Kind::WrongCorrelationId => self.wrong_correlation_id = true,
            Kind::Corrupt => self.corrupt = true,
            Kind::Throttle(time) => self.throttle = self.throttle.max(time),
            Kind::Stale => self.past = rule.past.clone(),
        }
    }

    /// Whether the client gets no answer that it can read.
    pub(super) fn keeps_answer(&self) -> bool {
        self.lose_answer || self.swallow || self.cut.is_some() || self.wrong_correlation_id || self.corrupt
    }

    /// What the broker knew when it became stale, if it is.
    pub(super) fn past(&self) -> Option<MutexGuard<'_, State>> {
        self.past.as_ref().map(|past| past.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_stale(&self) -> bool {
        self.past.is_some()
    }

    /// Waits until nothing stalls the request any more.
    pub(super) async fn stalled(&self) {
        for rule in &self.stalled_by {
            // The rule holds its own sender, so this cannot fail.
            let _ = rule.removed.subscribe().wait_for(|removed| *removed).await;
        }
    }

    /// The error code for the request as a whole: of a rule that is not about a topic.
    pub(super) fn error(&self) -> Option<i16> {
        self.errors.iter().filter(|rule| rule.when.topic.is_none()).find_map(|rule| rule.error_code())
    }

    /// The error code for a topic, or a partition of it.
    pub(super) fn error_for(&self, topic: &str, partition: Option<i32>) -> Option<i16> {
        if self.errors.is_empty() {
            return None;
        }
        let target = Target { topic: topic.to_owned(), partition };
        let struck = |rule: &&Arc<Rule>| rule.when.topic.as_ref().is_none_or(|wanted| target.is_in(wanted));
        self.errors.iter().find(struck).and_then(|rule| rule.error_code())
    }
}

impl Rule {
    fn remove(&self) {
        self.removed.send_replace(true);
    }

    fn error_code(&self) -> Option<i16> {
        match self.fault.0 {
            Kind::Error(code) => Some(code),
            _ => None,
        }
    }
}
