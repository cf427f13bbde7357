//! A pure-Rust Apache Kafka client.

mod net;
#[cfg(feature = "mock")]
pub mod mock;

pub use net::{Address, Connecting, Connector, ParseAddressError, Tcp, Transport};
