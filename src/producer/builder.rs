//! A producer's settings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::budget::{Budget, Pool};
use super::handle::Producer;
use super::leader::Names;
use super::open_batch::Limits;
use super::router::{Router, Settings, Table};
use crate::client::Client;
use crate::error::Error;
use crate::machine::accumulator;

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
    batch_size: usize,
    buffer_memory: usize,
    max_request_size: usize,
    max_block: Duration,
    delivery_timeout: Duration,
    auto_create: bool,
}

impl Client {
    /// A producer on this client's cluster.
    pub fn producer(&self) -> ProducerBuilder {
        self.changes().producer(ProducerBuilder {
            client: self.clone(),
            acks: Acks::All,
            idempotence: None,
            linger: Duration::from_millis(5),
            batch_size: 128 << 10,
            buffer_memory: 32 << 20,
            max_request_size: 1 << 20,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            auto_create: true,
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

    /// How long a batch that is not full waits for more records. Default 5 ms. Zero sends as soon as the partition has
    /// nothing under way, which batches by itself under load. A flush or a full buffer ends it early.
    /// (Java: `linger.ms`.)
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// The size in bytes at which a batch is full. Default 128 KiB, where Java has 16 KiB: a ceiling, since memory is
    /// taken as records come; larger batches cost brokers and networks less per record. A single larger record is sent
    /// in a batch of its own. (Java: `batch.size`.)
    pub fn batch_size(mut self, bytes: usize) -> Self {
        self.batch_size = bytes;
        self
    }

    /// Bytes of all records that are enqueued and not yet acknowledged. When they are used up,
    /// [`enqueue`](Producer::enqueue) waits and [`try_enqueue`](Producer::try_enqueue) refuses. Default 32 MiB.
    /// (Java: `buffer.memory`.)
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

    /// Makes the producer. No broker is needed yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the settings that do not go together.
    pub fn build(self) -> Result<Producer, Error> {
        let core = self.client.core();
        let request_timeout = core.network.request_timeout;
        let is_idempotent = match (self.idempotence, self.acks) {
            (Some(true), Acks::None | Acks::Leader) => {
                return Err(Error::config("idempotence(true) needs acks(Acks::All): drop one of the two"));
            }
            (Some(on), _) => on,
            (None, acks) => acks == Acks::All,
        };
        if self.delivery_timeout < self.linger.saturating_add(request_timeout) {
            return Err(Error::config(format!(
                "delivery_timeout ({:?}) must be at least linger ({:?}) + request_timeout ({request_timeout:?})",
                self.delivery_timeout, self.linger
            )));
        }
        for (setting, bytes, least, most) in [
            ("batch_size", self.batch_size, 0, 1 << 30),
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
        let limits = Arc::new(Limits {
            // A batch of a single record can be as large as a request.
            batch_size: self.batch_size.min(self.max_request_size),
            max_request_size: self.max_request_size,
            delivery_timeout: self.delivery_timeout,
            runtime: core.network.runtime.clone(),
            budget: Arc::new(Budget::new(self.buffer_memory)),
            pool: Pool::new(),
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
                max_in_flight: MAX_IN_FLIGHT,
                request_timeout,
            },
            retry_backoff: core.retry_backoff,
            retry_backoff_max: core.retry_backoff_max,
            names: Names { delivery_timeout: self.delivery_timeout, network: Arc::clone(&core.network) },
        };
        let table = Arc::new(Table::default());
        let router = Router::start(core, settings, &limits, &table);
        Ok(Producer::new(Arc::clone(core), limits, table, router, self.max_block, self.auto_create))
    }
}

/// Requests without an answer on one connection, as Java's default; one batch of each partition at a time for now.
const MAX_IN_FLIGHT: usize = 5;

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acks, idempotence, linger, batch_size, buffer_memory, .. } = self;
        f.debug_struct("ProducerBuilder")
            .field("acks", acks)
            .field("idempotence", idempotence)
            .field("linger", linger)
            .field("batch_size", batch_size)
            .field("buffer_memory", buffer_memory)
            .finish_non_exhaustive()
    }
}
