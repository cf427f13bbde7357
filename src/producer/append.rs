//! From a record to its place in an open batch: at once, or after waiting for what is missing.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::account::Watch;
use super::delivery::Delivery;
use super::open_batch::{self, Limits, Partition};
use super::record::Record;
use super::router::{Request, Table};
use super::topic::{Choice, ProducerTopic, Topic};
use crate::error::{Error, ErrorKind, TopicPartition};
use crate::machine::metadata;
use crate::net::{Core, Yield, wall_clock_ms};

/// What all clones of a producer share.
pub(super) struct Inner {
    pub(super) core: Arc<Core>,
    pub(super) limits: Arc<Limits>,
    pub(super) table: Arc<Table>,
    pub(super) watch: Arc<Watch>,
    pub(super) topics: Topics,
    pub(super) router: mpsc::UnboundedSender<Request>,
    pub(super) choice: Choice,
    pub(super) max_block: Duration,
    pub(super) auto_create: bool,
    pub(super) is_closed: AtomicBool,
}

/// The topics that were used, by name.
pub(super) struct Topics(RwLock<HashMap<Arc<str>, Arc<Topic>, NameHash>>);

/// What records that are appended one right after the other have in common.
#[derive(Default)]
pub(super) struct Run {
    /// Whether there are several, so that it pays to keep what the first one found.
    pub(super) is_many: bool,
    pub(super) topic: Option<Arc<Topic>>,
    /// When they are enqueued; for each of its own if `None`.
    pub(super) now: Option<i64>,
}

/// What an append lacks.
pub(super) enum Missing {
    /// Nothing: others should run first.
    Turn(Arc<Partition>),
    Memory(Arc<Partition>, usize),
    /// The partition has its share of it.
    Share(Arc<Partition>),
    Topic,
    Partition(Error),
    Refused(Error),
}

impl Inner {
    /// What the interceptors make of a record, if there are any. Boxed, so that futures have no room for two records.
    #[inline]
    pub(super) fn intercepted<'a>(&self, record: &Record<'a>) -> Option<Box<Record<'a>>> {
        if self.watch.interceptors.is_empty() { None } else { Some(self.intercept(record)) }
    }

    #[cold]
    fn intercept<'a>(&self, record: &Record<'a>) -> Box<Record<'a>> {
        let interceptors = self.watch.interceptors.iter();
        Box::new(interceptors.fold(record.clone(), |record, interceptor| interceptor.on_send(record)))
    }

    /// Appends a record, unless something is missing. Nobody is waited for.
    ///
    /// It and what it calls for every record are inlined: the receipt goes through no memory on its way up.
    #[inline]
    pub(super) fn try_append(&self, record: &Record<'_>, run: &mut Run, may_yield: bool) -> Result<Delivery, Missing> {
        if let Some(ProducerTopic(topic)) = record.topic_handle().filter(|topic| topic.0.is_of(&self.table)) {
            return self.append_to(topic, record, run, may_yield);
        }
        self.append_by_name(record, run, may_yield)
    }

    fn append_by_name(&self, record: &Record<'_>, run: &mut Run, may_yield: bool) -> Result<Delivery, Missing> {
        let name = record.topic_name();
        if let Some(topic) = run.topic.take_if(|topic| *topic.name == *name) {
            let appended = self.append_to(&topic, record, run, may_yield);
            run.topic = Some(topic);
            return appended;
        }
        let topics = self.topics.0.read().unwrap_or_else(PoisonError::into_inner);
        // Ahead of the topic: a producer that is closed looks for nothing.
        self.check_open()?;
        let topic = topics.get(name).ok_or(Missing::Topic)?;
        if topic.asks() || run.is_many {
            let topic = Arc::clone(topic);
            drop(topics);
            let appended = self.append_to(&topic, record, run, may_yield);
            run.topic = run.is_many.then_some(topic);
            return appended;
        }
        self.append_to(topic, record, run, may_yield)
    }

    #[inline]
    fn append_to(&self, topic: &Topic, record: &Record<'_>, run: &Run, may_yield: bool) -> Result<Delivery, Missing> {
        self.check_open()?;
        match topic.partition_of(&self.limits, record) {
            Ok(Some(partition)) => self.append_at(partition, record, run, &mut 0, may_yield),
            Ok(None) => Err(Missing::Topic),
            Err(error) => Err(Missing::Partition(error)),
        }
    }

    #[inline]
    fn append_at(
        &self,
        partition: &Arc<Partition>,
        record: &Record<'_>,
        run: &Run,
        permit: &mut usize,
        may_yield: bool,
    ) -> Result<Delivery, Missing> {
        let timestamp = record.own_timestamp().or(run.now).unwrap_or_else(wall_clock_ms);
        match partition.append(&self.limits, record, timestamp, permit, may_yield) {
            open_batch::Append::Done(delivery) => Ok(delivery),
            open_batch::Append::Yield => Err(Missing::Turn(Arc::clone(partition))),
            open_batch::Append::NoMemory(bytes) => Err(Missing::Memory(Arc::clone(partition), bytes)),
            open_batch::Append::NoShare => Err(Missing::Share(Arc::clone(partition))),
            open_batch::Append::Refused(error) => Err(Missing::Refused(error)),
        }
    }

    /// After others had their turn: to the partition that was chosen before.
    pub(super) fn append_again(&self, partition: &Arc<Partition>, record: &Record<'_>) -> Result<Delivery, Missing> {
        self.check_open()?;
        self.append_at(partition, record, &Run::default(), &mut 0, false)
    }

    #[inline]
    fn check_open(&self) -> Result<(), Missing> {
        match self.is_closed.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Missing::Refused(Error::closed("producer"))),
        }
    }

    /// Waits for what is missing, and appends.
    pub(super) async fn append_slowly(&self, record: &Record<'_>, first: Missing) -> Result<Delivery, Error> {
        let appended = self.append_waiting(record, first).await;
        self.tell_refusal(&appended);
        appended
    }

    /// Interceptors hear of a record that was not taken.
    fn tell_refusal(&self, appended: &Result<Delivery, Error>) {
        if let (Err(error), false) = (appended, self.watch.interceptors.is_empty()) {
            self.watch.tell(&Err(error.clone().into()));
        }
    }

    /// The partition of a record is chosen once, however long its wait takes: some partitioners count.
    async fn append_waiting(&self, record: &Record<'_>, first: Missing) -> Result<Delivery, Error> {
        let runtime = &self.core.network.runtime;
        let deadline = runtime.now() + self.max_block;
        let mut missing = first;
        let mut asked = 0;
        loop {
            let mut permit = 0;
            let chosen = match missing {
                Missing::Refused(error) => return Err(error),
                Missing::Turn(partition) => {
                    Yield::default().await;
                    Some(partition)
                }
                Missing::Topic => {
                    let name = Arc::from(record.topic_name());
                    let limit = format!("max_block ({:?})", self.max_block);
                    let topic = self.core.metadata.topic(&self.core.network, &name, self.auto_create, deadline, &limit);
                    self.register(&*topic.await?);
                    None
                }
                // Partitions may have been added since: a fresh answer decides. The first may have been under way before.
                Missing::Partition(error) if asked == 2 => return Err(error),
                Missing::Partition(error) => {
                    asked += 1;
                    let Some(cluster) = runtime.until(deadline, self.core.metadata.fresh()).await else {
                        return Err(error);
                    };
                    if let Some(topic) = cluster?.topics.get(record.topic_name()) {
                        self.register(topic);
                    }
                    None
                }
                Missing::Memory(partition, bytes) => {
                    if bytes > self.limits.budget.total() {
                        return Err(Error::new(
                            ErrorKind::RecordTooLarge,
                            format!(
                                "a record for topic `{}` needs {bytes} bytes, more than buffer_memory ({})",
                                record.topic_name(),
                                self.limits.budget.total()
                            ),
                        ));
                    }
                    // Counted first: what is opened from now on does not linger, and `hurry` finds what is open already.
                    let _waiting = self.limits.budget.queue();
                    self.hurry();
                    match runtime.until(deadline, self.limits.budget.wait(bytes)).await {
                        Some(Some(granted)) => {
                            granted.forget();
                            permit = bytes;
                        }
                        Some(None) => return Err(Error::closed("producer")),
                        None => return Err(self.buffer_full(record.topic_name())),
                    }
                    Some(partition)
                }
                Missing::Share(partition) => {
                    match runtime.until(deadline, self.wait_for_share(record, &partition)).await {
                        Some(Ok(delivery)) => return Ok(delivery),
                        Some(Err(next)) => missing = next,
                        None => return Err(self.share_used_up(&partition)),
                    }
                    continue;
                }
            };
            let attempt = match &chosen {
                Some(partition) => self
                    .check_open()
                    .and_then(|()| self.append_at(partition, record, &Run::default(), &mut permit, false)),
                None => self.try_append(record, &mut Run::default(), false),
            };
            self.limits.budget.release(permit);
            match attempt {
                Ok(done) => return Ok(done),
                Err(next) => missing = next,
            }
        }
    }

    /// Waits for the partition's own batches to be settled, in its own queue, until the record is in or lacks
    /// something else.
    async fn wait_for_share(&self, record: &Record<'_>, partition: &Arc<Partition>) -> Result<Delivery, Missing> {
        let share = &partition.account.share;
        let Some(_turn) = share.turn().await else {
            return Err(Missing::Refused(Error::closed("producer")));
        };
        loop {
            self.check_open()?;
            match self.append_at(partition, record, &Run::default(), &mut 0, false) {
                Err(Missing::Share(_)) => share.freed().await,
                done => return done,
            }
        }
    }

    fn share_used_up(&self, partition: &Partition) -> Error {
        let topic_partition = TopicPartition::new(Arc::clone(&partition.topic), partition.index);
        let (held, total, block) = (partition.account.share.held(), self.limits.budget.total(), self.max_block);
        let message = format!(
            "no room for a record to {topic_partition}: its records that are not acknowledged hold {held} bytes, the \
             half of buffer_memory ({total} bytes) that is free to one partition (enqueue waits for max_block, \
             {block:?})"
        );
        Error::new(ErrorKind::BufferFull, message).with_partition(topic_partition)
    }

    /// Appends if what is missing is known by now, and asks for it otherwise.
    pub(super) fn append_without_waiting(&self, record: &Record<'_>, missing: Missing) -> Result<Delivery, Error> {
        let appended = self.append_now(record, missing);
        self.tell_refusal(&appended);
        appended
    }

    fn append_now(&self, record: &Record<'_>, missing: Missing) -> Result<Delivery, Error> {
        Err(match missing {
            Missing::Refused(error) | Missing::Partition(error) => error,
            Missing::Share(partition) => self.share_used_up(&partition),
            Missing::Memory(..) | Missing::Turn(_) => {
                self.hurry();
                self.buffer_full(record.topic_name())
            }
            Missing::Topic => {
                let name: Arc<str> = record.topic_name().into();
                self.core.metadata.look_for(&name, self.auto_create, None);
                let cluster = self.core.metadata.cluster();
                if let Some(topic) = cluster.topics.get(&name).filter(|topic| !topic.partitions.is_empty()) {
                    self.register(topic);
                    return match self.try_append(record, &mut Run::default(), false) {
                        Ok(delivery) => Ok(delivery),
                        Err(missing) => self.append_now(record, missing),
                    };
                }
                Error::new(
                    ErrorKind::Timeout,
                    format!("no broker has told of topic `{name}` yet: try again, or await enqueue"),
                )
            }
        })
    }

    /// What a broker told of a topic, waited for at most as long as `max_block`.
    pub(super) async fn look_up(&self, name: &Arc<str>) -> Result<Arc<metadata::Topic>, Error> {
        self.look_up_until(name, self.core.now() + self.max_block).await
    }

    async fn look_up_until(&self, name: &Arc<str>, deadline: Instant) -> Result<Arc<metadata::Topic>, Error> {
        let limit = format!("max_block ({:?})", self.max_block);
        self.core.metadata.topic(&self.core.network, name, self.auto_create, deadline, &limit).await
    }

    /// The handle of a topic, which may have no partitions yet.
    pub(super) fn topic(&self, name: Arc<str>) -> ProducerTopic {
        let mut topics = self.topics.0.write().unwrap_or_else(PoisonError::into_inner);
        let topic = topics
            .entry(Arc::clone(&name))
            .or_insert_with(|| Arc::new(Topic::new(name, &self.table, self.choice.clone(), self.limits.batch_size)));
        ProducerTopic(Arc::clone(topic))
    }

    /// Makes a topic known to this producer, as a broker told of it.
    fn register(&self, told: &metadata::Topic) {
        let ProducerTopic(topic) = self.topic(Arc::clone(&told.name));
        let partitions = topic.update(told);
        if !partitions.is_empty() {
            self.core.metadata.want(&told.name, self.auto_create);
            let _ = self.router.send(Request::Register { topic, partitions });
        }
    }

    fn hurry(&self) {
        let _ = self.router.send(Request::Hurry);
    }

    fn buffer_full(&self, topic: &str) -> Error {
        let (total, block) = (self.limits.budget.total(), self.max_block);
        Error::new(
            ErrorKind::BufferFull,
            format!(
                "no room for a record to topic `{topic}`: buffer_memory ({total} bytes) is full of records that are \
                 not acknowledged yet (enqueue waits for max_block, {block:?})"
            ),
        )
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.router.send(Request::Drain);
    }
}

impl Topics {
    pub(super) fn new(seed: u64) -> Self {
        Self(RwLock::new(HashMap::with_hasher(NameHash { seed })))
    }
}

/// For names of topics, which every record is looked up by: a third of what the standard hasher costs. Seeded, so that
/// nobody who chooses names can make them collide.
#[derive(Clone)]
struct NameHash {
    seed: u64,
}

struct Fold(u64);

impl BuildHasher for NameHash {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold(self.seed)
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        /// The golden ratio's bits.
        const MULTIPLIER: u128 = 0x9e37_79b9_7f4a_7c15;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let product = u128::from(self.0 ^ u64::from_le_bytes(word)) * MULTIPLIER;
            self.0 = product as u64 ^ (product >> 64) as u64;
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
