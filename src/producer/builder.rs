//! A producer's settings.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::account::Watch;
use super::append::{Inner, Topics};
use super::budget::Budget;
use super::compression;
use super::handle::Producer;
use super::interceptor::Interceptor;
use super::leader::Names;
use super::metrics::Counts;
use super::open_batch::Limits;
use super::partitioner::Partitioner;
use super::pool::Pool;
use super::router::{Router, Settings, Table};
use super::sticky::Preference;
use super::topic::Choice;
use crate::client::Client;
use crate::error::Error;
use crate::machine::{accumulator, sequence};
use crate::record::Compression;

/// Whose acknowledgement makes a record count as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acks {
    /// Nobody's: a record is done when it was handed to the socket. It may be lost without an error, and its offset is
    /// not known. (Java: `acks=0`.)
    None,
    /// The leader's alone: lost if the leader dies before a follower has it. (Java: `acks=1`.)
    Leader,
    /// All in-sync replicas'. (Java: `acks=all`.)
    All,
}

/// The settings of a [`Producer`]. Defaults are those of Java's client in 4.x, unless the setting says otherwise.
#[must_use = "a builder does nothing until build()"]
pub struct ProducerBuilder {
    client: Client,
    acks: Acks,
    idempotence: Option<bool>,
    linger: Duration,
    batch_size: Option<usize>,
    buffer_memory: usize,
    max_request_size: usize,
    max_block: Duration,
    delivery_timeout: Duration,
    auto_create: bool,
    max_in_flight: Option<usize>,
    allow_reordering: bool,
    compression: Compression,
    compression_level: Option<i32>,
    choice: Choice,
    interceptors: Vec<Box<dyn Interceptor>>,
}

impl Client {
    /// A producer on this client's cluster.
    pub fn producer(&self) -> ProducerBuilder {
        self.changes().producer(ProducerBuilder {
            client: self.clone(),
            acks: Acks::All,
            idempotence: None,
            linger: Duration::from_millis(5),
            batch_size: None,
            buffer_memory: 32 << 20,
            max_request_size: 1 << 20,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            auto_create: true,
            max_in_flight: None,
            allow_reordering: false,
            compression: Compression::None,
            compression_level: None,
            choice: Choice {
                partitioner: None,
                ignores_keys: false,
                preference: Preference { is_adaptive: true, availability_timeout: Duration::ZERO },
            },
            interceptors: Vec::new(),
        })
    }
}

impl ProducerBuilder {
    /// Whose acknowledgement counts. Default [`Acks::All`]. Anything less turns idempotence off, unless that was asked
    /// for by name. (Java: `acks`.)
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Whether brokers recognise a batch that is sent again, so that a retry never writes a record twice. Default on;
    /// needs [`Acks::All`] and a broker that gives out producer ids (Kafka 0.11 and later). Without it, one batch
    /// whose acknowledgement was lost may be in the log twice. (Java: `enable.idempotence`.)
    pub fn idempotence(mut self, on: bool) -> Self {
        self.idempotence = Some(on);
        self
    }

    /// How many requests may wait for an answer on one connection, and how many batches of one partition, if it keeps
    /// its order so: with idempotence it does, up to 5, which is as far as brokers recognise a repetition. Default 5.
    /// One waits for a whole round trip after each batch: [`linger`](Self::linger) and
    /// [`batch_size`](Self::batch_size) are what makes fewer requests. (Java: `max.in.flight.requests.per.connection`.)
    ///
    /// Without idempotence a partition has one batch under way whatever this says, unless
    /// [`allow_reordering`](Self::allow_reordering) permits more.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = Some(requests);
        self
    }

    /// Lets a partition without idempotence have [`max_in_flight`](Self::max_in_flight) batches under way, so that one
    /// that is tried again may come behind one that was sent after it. Default no. This is what Java's producer does
    /// when `enable.idempotence` is off and `max.in.flight.requests.per.connection` is above 1, its default. With
    /// idempotence the order is kept in any case, and asking for this is an error.
    pub fn allow_reordering(mut self, allow: bool) -> Self {
        self.allow_reordering = allow;
        self
    }

    /// How long a batch that is not full waits for more records. Default 5 ms. Zero sends at once, as long as less than
    /// [`max_in_flight`](Self::max_in_flight) batches of the partition are under way; what comes then is batched until
    /// one of them is answered. A flush or a full buffer ends it early. (Java: `linger.ms`.)
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// What batches are compressed with. Default [`Compression::None`]. A batch that gets no smaller goes out as it is.
    /// Batches of 64 KiB and more are compressed on the runtime's blocking threads, as many at a time as there are
    /// cores; their order stays. (Java: `compression.type`.)
    ///
    /// A batch is full at [`batch_size`](Self::batch_size) bytes before compression, and its records count as such in
    /// [`buffer_memory`](Self::buffer_memory).
    pub fn compression(mut self, codec: Compression) -> Self {
        self.compression = codec;
        self
    }

    /// How hard the codec tries: [`Compression::levels`] says from where to where. Default: the codec's own, 6 for
    /// gzip and 3 for zstd, as Java's. The others know one way only, and a level for them is an error.
    /// (Java: `compression.gzip.level`, `compression.zstd.level`.)
    pub fn compression_level(mut self, level: i32) -> Self {
        self.compression_level = Some(level);
        self
    }

    /// The size in bytes at which a batch is full: a ceiling, since memory is taken as records come; larger batches cost
    /// brokers and networks less per record. A single larger record is sent in a batch of its own.
    ///
    /// Default 128 KiB, where Java has 16 KiB; and up to 1 MiB for a partition that has as many batches under way as
    /// [`max_in_flight`](Self::max_in_flight) lets it, where a sealed batch would only wait: so one partition's
    /// throughput does not end at 5 × 128 KiB per round trip. A size that is set here is never exceeded. (Java:
    /// `batch.size`.)
    pub fn batch_size(mut self, bytes: usize) -> Self {
        self.batch_size = Some(bytes);
        self
    }

    /// Bytes of all records that are enqueued and not yet acknowledged. When they are used up,
    /// [`enqueue`](Producer::enqueue) waits and [`try_enqueue`](Producer::try_enqueue) refuses. Default 32 MiB.
    /// (Java: `buffer.memory`.)
    ///
    /// One partition may hold half of what is free to it, and one batch in any case: beyond that, only those who send
    /// to it wait, or get [`BufferFull`](crate::ErrorKind::BufferFull) that names it. (Java has no such limit.)
    pub fn buffer_memory(mut self, bytes: usize) -> Self {
        self.buffer_memory = bytes;
        self
    }

    /// The largest request in bytes, and so the largest record. Default 1 MiB. Brokers have a limit of their own
    /// (`message.max.bytes`). (Java: `max.request.size`.)
    pub fn max_request_size(mut self, bytes: usize) -> Self {
        self.max_request_size = bytes;
        self
    }

    /// How long [`enqueue`](Producer::enqueue) and [`send`](Producer::send) may wait for buffer space, and before that
    /// for a topic that no broker has told of yet. Default 60 s. (Java: `max.block.ms`.)
    pub fn max_block(mut self, limit: Duration) -> Self {
        self.max_block = limit;
        self
    }

    /// From when a record's batch was begun: how long it may take until it is acknowledged, retries included. A
    /// request that is under way then is waited for, at most one `request_timeout` more. Default 2 minutes; at least
    /// `linger` and one `request_timeout`, at most a year. (Java: `delivery.timeout.ms`.)
    pub fn delivery_timeout(mut self, limit: Duration) -> Self {
        self.delivery_timeout = limit;
        self
    }

    /// Whether the broker may create a topic that does not exist, if it is configured to. Default yes, as in Java's
    /// producer. (librdkafka: `allow.auto.create.topics`.)
    pub fn allow_auto_create_topics(mut self, allow: bool) -> Self {
        self.auto_create = allow;
        self
    }

    /// Who chooses the partitions of records that do not name one: see [`partitioner`](crate::partitioner). Default:
    /// murmur2 of the key as in Java's client, and the sticky partition without a key. (Java: `partitioner.class`;
    /// librdkafka: `partitioner`, whose default is [`ConsistentRandom`](crate::partitioner::ConsistentRandom).)
    pub fn partitioner(mut self, partitioner: impl Partitioner) -> Self {
        self.choice.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// Whether records with a key go to the sticky partition too, in no order among those of one key. Default no. Not
    /// together with a [`partitioner`](Self::partitioner), which decides that itself. (Java: `partitioner.ignore.keys`.)
    pub fn partitioner_ignore_keys(mut self, ignore: bool) -> Self {
        self.choice.ignores_keys = ignore;
        self
    }

    /// Whether the sticky partition is drawn the less often the more batches wait for its leader, so that a slow broker
    /// gets less. Default yes. Without it every partition that has a leader is as likely as any other.
    /// (Java: `partitioner.adaptive.partitioning.enable`.)
    pub fn adaptive_partitioning(mut self, on: bool) -> Self {
        self.choice.preference.is_adaptive = on;
        self
    }

    /// A partition whose leader settles no batch for so long, while some wait, is not drawn as the sticky partition.
    /// Default zero: never. Needs [`adaptive_partitioning`](Self::adaptive_partitioning).
    /// (Java: `partitioner.availability.timeout.ms`.)
    pub fn partition_availability_timeout(mut self, timeout: Duration) -> Self {
        self.choice.preference.availability_timeout = timeout;
        self
    }

    /// Adds what sees every record, before it is sent and when it is acknowledged: see [`Interceptor`]. May be called
    /// several times; they are asked in that order. Default none. (Java: `interceptor.classes`.)
    pub fn interceptor(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors.push(Box::new(interceptor));
        self
    }

    /// Makes the producer. No broker is needed yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the settings that do not go together.
    pub fn build(self) -> Result<Producer, Error> {
        let core = Arc::clone(self.client.core());
        let request_timeout = core.network.request_timeout;
        let is_idempotent = match (self.idempotence, self.acks) {
            (Some(true), Acks::None | Acks::Leader) => {
                return Err(Error::config(format!(
                    "idempotence(true) needs acks(Acks::All), and acks is {:?}: drop one of the two",
                    self.acks
                )));
            }
            (Some(on), _) => on,
            (None, acks) => acks == Acks::All,
        };
        let max_in_flight = self.max_in_flight.unwrap_or(MAX_IN_FLIGHT);
        let most = if is_idempotent { sequence::WINDOW } else { 1 << 20 };
        if !(1..=most).contains(&max_in_flight) {
            let why = if is_idempotent { " with idempotence, since brokers recognise the last 5 batches" } else { "" };
            return Err(Error::config(format!("max_in_flight is {max_in_flight}: it must be 1 to {most}{why}")));
        }
        if self.allow_reordering && is_idempotent {
            return Err(Error::config(
                "allow_reordering(true) is for producers without idempotence, which keep the order: drop it, or turn \
                 idempotence off",
            ));
        }
        let window = if is_idempotent || self.allow_reordering { max_in_flight } else { 1 };
        if self.delivery_timeout < self.linger.saturating_add(request_timeout) {
            return Err(Error::config(format!(
                "delivery_timeout ({:?}) must be at least linger ({:?}) + request_timeout ({request_timeout:?})",
                self.delivery_timeout, self.linger
            )));
        }
        let Choice { partitioner, ignores_keys, preference } = &self.choice;
        if partitioner.is_some() && *ignores_keys {
            return Err(Error::config(
                "partitioner_ignore_keys(true) is for the default partitioner, and there is a partitioner(...): drop one \
                 of the two",
            ));
        }
        if !preference.is_adaptive && !preference.availability_timeout.is_zero() {
            return Err(Error::config(format!(
                "partition_availability_timeout ({:?}) needs adaptive_partitioning(true): drop one of the two",
                preference.availability_timeout
            )));
        }
        for (setting, bytes, least, most) in [
            ("batch_size", self.batch_size.unwrap_or(BATCH_SIZE), 0, 1 << 30),
            ("max_request_size", self.max_request_size, 128, 1 << 30),
            ("buffer_memory", self.buffer_memory, 1024, u32::MAX as usize),
        ] {
            if !(least..=most).contains(&bytes) {
                return Err(Error::config(format!("{setting} is {bytes}: it must be {least} to {most} bytes")));
            }
        }
        for (setting, value) in [("max_block", self.max_block), ("delivery_timeout", self.delivery_timeout)] {
            if value > Duration::from_secs(366 * 24 * 3600) {
                return Err(Error::config(format!("{setting} is {value:?}: it must be at most a year")));
            }
        }
        self.check_compression()?;
        let runtime = &core.network.runtime;
        let client_id = Arc::clone(&core.network.client_id);
        let counts = Counts::new(&client_id);
        let watch = Arc::new(Watch { client_id, interceptors: self.interceptors, counts });
        let budget = Arc::new(Budget::new(self.buffer_memory));
        // A batch of a single record can be as large as a request.
        let batch_size = self.batch_size.unwrap_or(BATCH_SIZE).min(self.max_request_size);
        let crowded_size = self.batch_size.unwrap_or(CROWDED_SIZE).min(self.max_request_size);
        let limits = Arc::new(Limits {
            batch_size,
            crowded_size,
            in_flight: window,
            max_request_size: self.max_request_size,
            delivery_timeout: self.delivery_timeout,
            runtime: runtime.clone(),
            pool: Pool::new(&budget, crowded_size),
            budget,
            compression: (self.compression != Compression::None).then(|| {
                compression::Compression::new(self.compression, self.compression_level, runtime.clone(), &watch)
            }),
        });
        let settings = Settings {
            is_idempotent,
            accumulator: accumulator::Config {
                acks: match self.acks {
                    Acks::None => 0,
                    Acks::Leader => 1,
                    Acks::All => -1,
                },
                linger: self.linger,
                max_request_size: self.max_request_size,
                max_in_flight,
                request_timeout,
            },
            queue: sequence::Config {
                is_idempotent,
                window,
                remembered: REMEMBERED,
                retry_backoff: core.retry_backoff,
                retry_backoff_max: core.retry_backoff_max,
            },
            names: Names {
                delivery_timeout: self.delivery_timeout,
                max_request_size: self.max_request_size,
                network: Arc::clone(&core.network),
            },
        };
        let table = Arc::new(Table::new(&core.network.runtime, &watch, &limits.budget));
        let router = Router::start(&core, settings, &limits, &table);
        let topics = Topics::new(core.network.runtime.random());
        let Self { choice, max_block, auto_create, .. } = self;
        let is_closed = AtomicBool::new(false);
        let inner = Inner { core, limits, table, watch, topics, router, choice, max_block, auto_create, is_closed };
        Ok(Producer::new(inner))
    }
}

impl ProducerBuilder {
    fn check_compression(&self) -> Result<(), Error> {
        let codec = self.compression;
        if !codec.is_available() {
            return Err(Error::config(format!(
                "compression is {codec}, and this build has no {codec}: turn on the feature `{codec}` of milena"
            )));
        }
        match (self.compression_level, codec.levels()) {
            (Some(level), Some(levels)) if !levels.contains(&level) => Err(Error::config(format!(
                "compression_level is {level}: for {codec} it must be {} to {}",
                levels.start(),
                levels.end()
            ))),
            (Some(level), None) => {
                Err(Error::config(format!("compression_level is {level}, and {codec} has no levels: drop it")))
            }
            _ => Ok(()),
        }
    }
}

/// See [`sequence::Config::remembered`].
const REMEMBERED: Duration = Duration::from_secs(60);

/// Of a full batch, and of one that could not leave yet; see [`ProducerBuilder::batch_size`].
const BATCH_SIZE: usize = 128 << 10;
const CROWDED_SIZE: usize = 8 * BATCH_SIZE;

/// Requests without an answer on one connection, as Java's default.
const MAX_IN_FLIGHT: usize = 5;

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acks, idempotence, linger, batch_size, buffer_memory, .. } = self;
        f.debug_struct("ProducerBuilder")
            .field("acks", acks)
            .field("idempotence", idempotence)
            .field("linger", linger)
            .field("batch_size", &batch_size.unwrap_or(BATCH_SIZE))
            .field("buffer_memory", buffer_memory)
            .finish_non_exhaustive()
    }
}
