//! What stands between a stream and the first request: TLS, then SASL.

use std::fmt::Write as _;
use std::sync::Arc;

use super::connector::{Address, Transport};
use super::runtime::Runtime;
use super::sasl::Sasl;
#[cfg(feature = "tls")]
use super::tls::TlsClient;
use crate::error::{Error, ErrorKind};
use crate::machine::connection::Cause;
use crate::machine::sasl::{Done, Failure, Problem, Work};

/// What a client's connections are secured with.
#[derive(Default)]
pub struct Security {
    pub sasl: Option<Arc<Sasl>>,
    #[cfg(feature = "tls")]
    pub tls: Option<TlsClient>,
}

impl Security {
    pub fn is_encrypted(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Makes `stream`, which leads to `broker`, a secure one.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unused_async, reason = "TLS waits"))]
    pub async fn secure(
        &self,
        runtime: &Runtime,
        stream: Box<dyn Transport>,
        broker: &Address,
    ) -> Result<Box<dyn Transport>, Cause> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.handshake(runtime, stream, broker).await;
        }
        let _ = (runtime, broker);
        Ok(stream)
    }

    /// An error of a stream that is more than a loss.
    pub fn cause(&self, error: &std::io::Error) -> Option<Cause> {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return super::tls::cause(error, None);
        }
        let _ = error;
        None
    }

    /// `error`, and if it says that somebody may not do something: who.
    pub fn explain(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Authorization {
            return error;
        }
        let mut note = String::from("; the client is ");
        match self.sasl.as_ref().map(|sasl| (sasl.mechanism(), sasl.principal())) {
            Some((mechanism, Some(principal))) => _ = write!(note, "`{principal}`, by {mechanism}"),
            Some((mechanism, None)) => _ = write!(note, "who its {mechanism} token says"),
            None if self.has_certificate() => note += "the subject of its certificate",
            None => note += "anonymous: it has neither SASL nor a certificate",
        }
        error.with_note(&note)
    }

    fn has_certificate(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().is_some_and(TlsClient::has_certificate);
        #[cfg(not(feature = "tls"))]
        false
    }
}

/// More iterations than these are hashed off the reactor: they take milliseconds.
const INLINE_ITERATIONS: u32 = 8192;

/// Does what a login asks for.
pub async fn perform(sasl: Arc<Sasl>, runtime: Runtime, work: Work) -> Done {
    match work {
        Work::Prepare => Done::Prepared(sasl.prepare().await),
        Work::Derive(derivation) if derivation.iterations <= INLINE_ITERATIONS => Done::Derived(derivation.run()),
        Work::Derive(derivation) => match runtime.blocking(move || derivation.run()).await {
            Some(derived) => Done::Derived(derived),
            None => Done::Prepared(Err(Failure {
                mechanism: sasl.mechanism(),
                principal: sasl.principal(),
                problem: Problem::Provider { message: "the client's runtime has ended".into(), is_transient: true },
                again: false,
            })),
        },
    }
}
