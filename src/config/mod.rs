//! Clients from properties, by the names of Java's client and of librdkafka.
//!
//! [`settings`](self) is the table: a setting that a builder gains is one line there. What concerns security has rules of its
//! own, since its settings mean something only together.

mod from_properties;
mod input;
mod jaas;
mod security;
mod settings;
mod syntax;

pub(crate) use settings::Changes;
