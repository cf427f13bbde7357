//! Who we are: SASL mechanisms as pure steps, and the course of an authentication on one connection.
//!
//! ```text
//!   login       SaslHandshake, SaslAuthenticate, when to do it again (KIP-152, KIP-368)
//!     └ exchange   what one mechanism says and hears: plain (RFC 4616), scram (RFC 5802), oauthbearer (RFC 7628)
//! ```
//! What is slow or not pure is asked for as [`Work`]: the driver fetches credentials, draws nonces and hashes passwords.

mod exchange;
mod failure;
mod login;
mod oauthbearer;
mod plain;
mod saslname;
mod scram;
mod secret;

pub use exchange::{Exchange, Mechanism};
#[cfg(feature = "oidc")]
pub use failure::tame;
pub use failure::{Failure, Problem};
pub use login::{Done, Login, Message, Progress, Work};
pub use oauthbearer::OAuthBearer;
pub use plain::Plain;
pub use saslname::{prepare, prepare_password};
pub use scram::{Hash, Scram};
pub use secret::Secret;
