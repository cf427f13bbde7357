//! Everything that touches sockets, clocks, randomness or spawns tasks.
#![allow(missing_docs, reason = "private layer; what is public of it is re-exported at the root and documented")]

mod brokers;
mod connector;
mod core;
mod driver;
mod lane;
mod metadata;
mod outage;
mod runtime;

pub use brokers::{Brokers, Class, Endpoint};
pub use connector::{Address, Connecting, Connector, ParseAddressError, Tcp, Transport};
pub use core::{Core, HEDGE_AFTER, Route};
pub use lane::{AddressMap, Lane, LaneEvent, Network};
pub use metadata::{Picture, address_of};
pub use outage::Outages;
pub use runtime::{Runtime, Timer, wall_clock_ms};
