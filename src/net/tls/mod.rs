//! TLS by rustls. Its types appear here and nowhere else in the crate.

mod client;
mod failure;
mod pem;
mod provider;
mod settings;
mod verify;

pub use client::TlsClient;
pub use failure::cause;
pub use settings::{Tls, TlsVersion};
