#![doc = include_str!("../README.md")]

// The inner layers are private. `__internals` opens them to this repository's own tests, benches and fuzz targets.
#[cfg(feature = "__internals")]
#[doc(hidden)]
#[allow(missing_docs, reason = "for this repository's own tests")]
pub mod fuzzing;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod machine;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod record;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod wire;

#[cfg(not(feature = "__internals"))]
mod machine;
#[cfg(not(feature = "__internals"))]
mod record;
#[cfg(not(feature = "__internals"))]
mod wire;

pub mod admin;
mod client;
mod config;
mod consumer;
mod count;
mod error;
pub mod guide;
#[cfg(feature = "mock")]
pub mod mock;
mod net;
mod producer;

pub use admin::{Admin, NewTopic, PartitionDescription};
pub use client::{Client, ClientBuilder};
pub use consumer::{
    Batch, BorrowedRecord, Consumer, ConsumerBuilder, ConsumerHandle, ConsumerInterceptor, ConsumerMetrics,
    ConsumerRecord, ErrorAction, FailurePolicy, GroupMembership, GroupMetadata, GroupProtocol, IsolationLevel,
    OffsetAndMetadata, OffsetAndTimestamp, OffsetReset, PartitionMetrics, PartitionStream, PartitionStreams,
    PendingRecord, Position, RebalanceEvent, RebalanceEvents, RebalanceGuard, RebalanceListener, Rebalancing,
    Watermarks, WorkOrder, Workers, assignor,
};
pub use count::Timing;
pub use error::{DataLoss, Error, ErrorKind, HandlerFailure, TopicPartition};
pub use machine::trust::TlsFailure;
#[cfg(feature = "oidc")]
pub use net::Oidc;
pub use net::{
    Address, Connecting, Connector, CredentialProvider, Credentials, ParseAddressError, ProviderError, Providing, Sasl,
    Tcp, Token, TokenProvider, Transport,
};
#[cfg(feature = "tls")]
pub use net::{Tls, TlsVersion};
pub use producer::{
    Acks, Data, Delivery, DeliveryError, EnqueueAllError, Fate, Interceptor, Name, Producer, ProducerBuilder,
    ProducerMetrics, ProducerTopic, Record, RecordMetadata, TryEnqueueError, partitioner,
};
pub use record::{Compression, Header, Headers, TimestampType};
#[cfg(feature = "tls")]
pub use rustls;
pub use wire::error_code::ErrorCode;
