//! Everything that touches sockets, clocks, randomness or spawns tasks.

mod connector;

pub use connector::{Address, Connecting, Connector, ParseAddressError, Tcp, Transport};
