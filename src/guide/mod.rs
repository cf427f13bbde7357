//! The guide: chapters to read from the front, and to come back to. Every snippet runs, on the mock cluster.
//!
//! - [Producing](producing): what is promised, and how to get it cheaply.
//! - [Producer settings](producer_settings): each beside its name in Java's client, librdkafka and kafka-python.
//! - [Consuming](consuming): what is promised, assigning and seeking, reading from a timestamp, what may go wrong.
//! - [Groups and commits](groups): sharing topics, what is committed when, rebalances.
//! - [Consumer settings](consumer_settings), likewise; and those of [the client](client_settings), which both share.
//! - What changes for those who come [from rdkafka](from_rdkafka), [from kafka-python](from_kafka_python), or
//!   [from Java](from_java).

#[doc = include_str!("client_settings.md")]
pub mod client_settings {}
#[doc = include_str!("consumer_settings.md")]
pub mod consumer_settings {}
#[doc = include_str!("consuming.md")]
pub mod consuming {}
#[doc = include_str!("from_java.md")]
pub mod from_java {}
#[doc = include_str!("from_kafka_python.md")]
pub mod from_kafka_python {}
#[doc = include_str!("from_rdkafka.md")]
pub mod from_rdkafka {}
#[doc = include_str!("groups.md")]
pub mod groups {}
#[doc = include_str!("producer_settings.md")]
pub mod producer_settings {}
#[doc = include_str!("producing.md")]
pub mod producing {}
