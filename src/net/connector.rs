//! How a byte stream to a broker is opened: TCP by default, anything a user brings otherwise.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

/// A host and port: what a bootstrap list holds, and what brokers advertise of themselves.
///
/// Parsed from `host:port`, `1.2.3.4:port` or `[::1]:port`. The host of an IPv6 literal is kept without brackets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: Arc<str>,
    port: u16,
}

impl Address {
    /// An address from its parts. `host` is a name, an IPv4 or an IPv6 literal (without brackets).
    pub fn new(host: impl Into<Arc<str>>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// The host name or IP literal, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip().to_string(), address.port())
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |reason| ParseAddressError { text: text.into(), reason };
        // Java's lists allow `PLAINTEXT://host:port`, copied from a broker's `listeners`.
        let rest = text.trim();
        let rest = rest.split_once("://").map_or(rest, |(_, rest)| rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or_else(|| wrong("`[` without `]`"))?;
                host.parse::<Ipv6Addr>().map_err(|_| wrong("no IPv6 address between the brackets"))?;
                (host, after.strip_prefix(':').ok_or_else(|| wrong("no `:port`"))?)
            }
            None => rest.rsplit_once(':').ok_or_else(|| wrong("no `:port`"))?,
        };
        if host.is_empty() {
            return Err(wrong("no host before the `:`"));
        }
        if host.contains(|c: char| matches!(c, ',' | '/' | '@') || c.is_whitespace() || c.is_control()) {
            return Err(wrong("one address only, as host:port"));
        }
        if host.contains(':') && !rest.starts_with('[') {
            return Err(wrong("an IPv6 address needs brackets, as in [::1]:9092"));
        }
        let port =
            port.parse::<u16>().ok().filter(|&port| port != 0).ok_or_else(|| wrong("the port is not 1 to 65535"))?;
        Ok(Self::new(host, port))
    }
}

/// A text that is no `host:port`. Its message quotes the text and says what is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a broker address: {reason} (expected host:port or [ipv6]:port)")]
pub struct ParseAddressError {
    text: String,
    reason: &'static str,
}

/// A byte stream to a broker, in both directions.
///
/// Implemented for everything that is `AsyncRead + AsyncWrite`; vectored writes are used where the stream has them.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + ?Sized> Transport for T {}

/// The future that a [`Connector`] returns.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send + 'a>>;

/// Opens byte streams to brokers.
///
/// The default resolves the host and tries all of its addresses in turn over TCP, with `TCP_NODELAY` on
/// (Java: `client.dns.lookup=use_all_dns_ips`). Bring your own for tunnels, proxies, tests or other transports:
///
/// ```
/// use milena::{Address, Connecting, Connector, Transport};
///
/// /// Sends every connection through one local port, as `ssh -L` opens it.
/// struct Tunnel;
///
/// impl Connector for Tunnel {
///     fn connect<'a>(&'a self, _broker: &'a Address) -> Connecting<'a> {
///         Box::pin(async {
///             let stream = tokio::net::TcpStream::connect("127.0.0.1:19092").await?;
///             Ok(Box::new(stream) as Box<dyn Transport>)
///         })
///     }
/// }
/// ```
///
/// The set-up time-out of the client applies to the whole call; the future is dropped when it strikes.
pub trait Connector: Send + Sync + 'static {
    /// Opens one stream to `broker`. Called again, after a back-off, when it fails or the stream ends.
    fn connect<'a>(&'a self, broker: &'a Address) -> Connecting<'a>;
}

/// The default [`Connector`]: DNS, then TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Connector for Tcp {
    fn connect<'a>(&'a self, broker: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let mut last = None;
            for address in lookup_host((broker.host(), broker.port())).await? {
                match TcpStream::connect(address).await {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        return Ok(Box::new(stream) as Box<dyn Transport>);
                    }
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("the name {} has no addresses", broker.host()))
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_and_print_back() {
        for (text, host, port) in [
            ("localhost:9092", "localhost", 9092),
            (" broker-1.example.org:1 ", "broker-1.example.org", 1),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
            ("[::1]:9092", "::1", 9092),
            ("PLAINTEXT://kafka:29092", "kafka", 29092),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
        assert_eq!(Address::new("::1", 9092).to_string(), "[::1]:9092");
    }

    #[test]
    fn wrong_addresses_say_what_is_wrong() {
        for (text, reason) in [
            ("localhost", "no `:port`"),
            (":9092", "no host"),
            ("localhost:0", "the port"),
            ("localhost:99999", "the port"),
            ("::1:9092", "brackets"),
            ("[::1:9092", "without `]`"),
            ("[nonsense]:9092", "no IPv6"),
            ("a:1,b:2", "one address only"),
            ("x://\ta:1", "one address only"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(text), "{text}: {error}");
        }
    }
}
