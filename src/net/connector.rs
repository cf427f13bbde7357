//! How a byte stream to a broker is opened: TCP by default, anything a user brings otherwise.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use super::runtime::Runtime;

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
/// The default resolves the host and tries all of its addresses over TCP, the next one as soon as one refuses or after
/// 250 ms beside it, with `TCP_NODELAY` on (Java: `client.dns.lookup=use_all_dns_ips`). Bring your own for tunnels, proxies, tests or other transports:
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
            let addresses = lookup_host((broker.host(), broker.port())).await?.collect();
            let stream = connect_any(addresses).await?.ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("the name {} has no addresses", broker.host()))
            })?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}

/// What one address gets before the next is tried beside it, as RFC 8305 recommends.
const HEAD_START: Duration = Duration::from_millis(250);

/// The first address that accepts. A silent one (a firewall that drops, a host that is down) costs its head start, not the
/// whole time limit, which would strike before the second address is ever tried.
async fn connect_any(addresses: Vec<SocketAddr>) -> io::Result<Option<TcpStream>> {
    let runtime = Runtime::current().map_err(io::Error::other)?;
    let mut addresses = addresses.into_iter();
    let mut attempts = Vec::new();
    let mut refused = None;
    loop {
        match addresses.next() {
            Some(address) => attempts.push(Box::pin(TcpStream::connect(address))),
            None if attempts.is_empty() => return refused.map_or(Ok(None), Err),
            None => {}
        }
        let settled = poll_fn(|cx| {
            let mut polled = attempts.iter_mut().map(|attempt| attempt.as_mut().poll(cx));
            let Some((at, outcome)) = polled.by_ref().enumerate().find(|(_, outcome)| outcome.is_ready()) else {
                return Poll::Pending;
            };
            drop(attempts.swap_remove(at));
            outcome
        });
        let outcome = match addresses.len() {
            0 => Some(settled.await),
            _ => runtime.until(runtime.now() + HEAD_START, settled).await,
        };
        match outcome {
            Some(Ok(stream)) => return Ok(Some(stream)),
            Some(Err(error)) => refused = Some(error),
            None => {}
        }
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

    #[tokio::test]
    async fn the_first_address_that_accepts_is_taken() {
        let socket = |backlog| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let listener = socket.listen(backlog).unwrap();
            let address = listener.local_addr().unwrap();
            (listener, address)
        };
        let (good, good_address) = socket(16);
        let (gone, gone_address) = socket(16);
        drop(gone);
        // A full backlog drops what comes, like a firewall. (Where it does not, the test has a second good address.)
        let (_full, full_address) = socket(1);
        let mut filling = Vec::new();
        for _ in 0..4 {
            let connecting = TcpStream::connect(full_address);
            let patience = Runtime::current().unwrap();
            filling.push(patience.until(patience.now() + Duration::from_millis(50), connecting).await);
        }
        for (before, at_most) in [(vec![gone_address], 200), (vec![full_address, gone_address, full_address], 1500)] {
            let runtime = Runtime::current().unwrap();
            let start = runtime.now();
            let stream = connect_any([before, vec![good_address]].concat()).await.unwrap().unwrap();
            assert!((runtime.now() - start).as_millis() < at_most, "{:?}", runtime.now() - start);
            if filling.iter().any(Option::is_none) {
                assert_eq!(stream.peer_addr().unwrap(), good_address);
            }
        }
        drop(good);
        assert!(connect_any(vec![]).await.unwrap().is_none());
        let error = connect_any(vec![gone_address, good_address]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
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
