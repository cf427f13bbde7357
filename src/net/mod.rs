//! Everything that touches sockets, clocks, randomness or spawns tasks.
#![allow(missing_docs, reason = "private layer; what is public of it is re-exported at the root and documented")]

mod brokers;
mod connector;
mod core;
mod driver;
mod gate;
mod lane;
mod metadata;
#[cfg(feature = "oidc")]
mod oidc;
mod outage;
mod runtime;
mod sasl;
mod security;
#[cfg(feature = "tls")]
mod tls;
mod workers;

pub use brokers::{Brokers, Class, Endpoint};
pub use connector::{Address, Connecting, Connector, ParseAddressError, Tcp, Transport};
pub use core::{Core, HEDGE_AFTER, Route};
pub use lane::{AddressMap, Lane, LaneEvent, Network};
pub use metadata::{Picture, address_of};
#[cfg(feature = "oidc")]
pub use oidc::Oidc;
pub use outage::Outages;
#[cfg(test)]
pub use runtime::TestRuntime;
pub use runtime::{Runtime, Timer, Yield, wall_clock_ms};
pub use sasl::{CredentialProvider, Credentials, ProviderError, Providing, Sasl, Token, TokenProvider};
pub use security::Security;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsVersion};
pub use workers::{Job, Workers};
