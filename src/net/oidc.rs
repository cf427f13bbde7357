//! Tokens from an OpenID Connect issuer, by the client credentials grant (RFC 6749, 4.4; KIP-768).

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::rt::ReadBufCursor;
use hyper::{Request, StatusCode, Uri};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Mutex;

use super::connector::{Address, Connector, Tcp, Transport};
use super::runtime::Runtime;
use super::sasl::{ProviderError, Providing, Token, TokenProvider};
use super::tls::{Tls, TlsClient};
use crate::error::Error;
use crate::machine::sasl::{Secret, tame};

/// Brings tokens for [`Sasl::oauthbearer`](crate::Sasl::oauthbearer) from an OpenID Connect issuer, by client id and
/// secret. Feature `oidc`. (Java and librdkafka: `sasl.oauthbearer.token.endpoint.url`.)
///
/// A token is kept for 80 % of its life, and shared by all connections. What the issuer refuses (400, 401, 403) fails
/// operations at once; an issuer that is away is asked again, with every attempt to connect.
///
/// ```
/// use milena::{Client, Oidc, Sasl, Tls};
///
/// # fn main() -> Result<(), milena::Error> {
/// let issuer = Oidc::new("https://issuer.example.org/oauth2/token", "billing", "client-secret")?.scope("kafka");
/// let builder = Client::builder(["kafka.example.org:9093"]).tls(Tls::new()).sasl(Sasl::oauthbearer(issuer));
/// assert!(!format!("{builder:?}").contains("client-secret"));
/// # Ok(()) }
/// ```
pub struct Oidc {
    uri: Uri,
    address: Address,
    is_encrypted: bool,
    client_id: String,
    secret: Secret,
    scope: Option<String>,
    extensions: Vec<(String, String)>,
    tls: Tls,
    /// Made with the first token.
    connector: std::sync::OnceLock<Result<TlsClient, Error>>,
    /// The latest token, and when to ask for another.
    cache: Mutex<Option<(Token, Instant)>>,
}

/// An answer with a token has a few kilobytes.
const LONGEST_ANSWER: usize = 256 << 10;

/// How long a token is kept whose issuer does not say how long it lives.
const UNKNOWN_LIFE: Duration = Duration::from_secs(60);

impl Oidc {
    /// The issuer's token endpoint, and who asks.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), when the URL is none of https.
    pub fn new(
        token_endpoint: &str,
        client_id: impl Into<String>,
        client_secret: impl Into<Vec<u8>>,
    ) -> Result<Self, Error> {
        let wrong = |what: &str| Error::config(format!("the token endpoint `{token_endpoint}` {what}"));
        let uri: Uri = token_endpoint.parse().map_err(|error| wrong(&format!("is no URL: {error}")))?;
        let is_encrypted = match uri.scheme_str() {
            Some("https") => true,
            // For issuers beside the client, in tests and as side-cars: the secret does not leave the machine.
            Some("http") if matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]")) => false,
            _ => return Err(wrong("is not https, or http to this very machine: the secret would be readable")),
        };
        let host = uri.host().ok_or_else(|| wrong("names no host"))?;
        let port = uri.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        let address = Address::new(host.trim_matches(['[', ']']), port);
        Ok(Self {
            uri,
            address,
            is_encrypted,
            client_id: client_id.into(),
            secret: Secret::new(client_secret),
            scope: None,
            extensions: Vec::new(),
            tls: Tls::new(),
            connector: std::sync::OnceLock::new(),
            cache: Mutex::new(None),
        })
    }

    /// What to ask access for. Default: nothing in particular. (Java: `scope` in the JAAS line; librdkafka:
    /// `sasl.oauthbearer.scope`.)
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// A pair for the broker, beside the token (KIP-342). (Java: `extension_NAME` in the JAAS line; librdkafka:
    /// `sasl.oauthbearer.extensions`.)
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    /// How to speak TLS to the issuer, which need not be how the brokers do. Default: [`Tls::new`], the platform's roots.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    async fn cached(&self) -> Result<Token, ProviderError> {
        let runtime = Runtime::current().map_err(|error| ProviderError::new(error.to_string()))?;
        // Held while it is asked for: one question serves all connections that wait.
        let mut cache = self.cache.lock().await;
        if let Some((token, until)) = &*cache
            && runtime.now() < *until
        {
            return Ok(token.clone());
        }
        let asked = runtime.now();
        let (token, life) = self.fetch(&runtime).await?;
        *cache = Some((token.clone(), asked + life * 4 / 5));
        Ok(token)
    }

    async fn fetch(&self, runtime: &Runtime) -> Result<(Token, Duration), ProviderError> {
        let away = |what: &dyn fmt::Display| ProviderError::transient(format!("{}: {what}", self.address));
        let mut stream = Tcp.connect(&self.address).await.map_err(|error| away(&error))?;
        if self.is_encrypted {
            let tls = self.connector.get_or_init(|| self.tls.clone().load(runtime.now()));
            let tls = tls.as_ref().map_err(|error| ProviderError::new(error.to_string()))?;
            let secured = tls.handshake(runtime, stream, &self.address).await;
            stream = secured.map_err(|cause| match cause.is_transient() {
                true => away(&cause),
                false => ProviderError::new(format!("{}: {cause}", self.address)),
            })?;
        }
        let (status, body) = exchange(stream, self.request()?).await.map_err(|error| away(&error))?;
        self.understand(status, &body)
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, ProviderError> {
        let mut body = String::from("grant_type=client_credentials");
        if let Some(scope) = &self.scope {
            body += "&scope=";
            body += &form_encode(scope.as_bytes());
        }
        // RFC 6749, 2.3.1: both are encoded as in forms before they are joined.
        let secret = form_encode(self.secret.expose());
        let pair = Secret::new(format!("{}:{secret}", form_encode(self.client_id.as_bytes())));
        let mut authorization = hyper::header::HeaderValue::try_from(format!("Basic {}", BASE64.encode(pair.expose())))
            .map_err(|_| ProviderError::new("the client's secret cannot be said in a header"))?;
        authorization.set_sensitive(true);
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        Request::post(path)
            .header(HOST, authority)
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ProviderError::new(error.to_string()))
    }

    fn understand(&self, status: StatusCode, body: &[u8]) -> Result<(Token, Duration), ProviderError> {
        let fields: serde_json::Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let said = |what: &str| format!("{}: {what}", self.address);
        if !status.is_success() {
            let error = text("error").unwrap_or_default();
            let description = text("error_description").unwrap_or_default();
            let message = tame(&self.secret.redact(&format!("{status} {error} {description}")));
            return Err(match status {
                StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                    ProviderError::new(said(&format!("the issuer refused client `{}`: {message}", self.client_id)))
                }
                _ => ProviderError::transient(said(message.trim_end())),
            });
        }
        let value = text("access_token").ok_or_else(|| ProviderError::new(said("an answer without access_token")))?;
        // A day is enough: what lives longer is asked for again.
        let seconds = fields.get("expires_in").and_then(Value::as_u64);
        let life = seconds.map_or(UNKNOWN_LIFE, |seconds| Duration::from_secs(seconds.min(86_400)));
        let token = Token::new(value).principal(self.client_id.as_str());
        let token = self.extensions.iter().fold(token, |token, (name, value)| token.extension(name, value));
        Ok((token, life))
    }
}

impl TokenProvider for Oidc {
    fn token(&self) -> Providing<'_, Token> {
        Box::pin(self.cached())
    }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc")
            .field("address", &self.address)
            .field("client_id", &self.client_id)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// One request and its answer, on a stream of their own.
async fn exchange(
    stream: Box<dyn Transport>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(Io(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await?.to_bytes();
        Ok((status, body))
    };
    let (mut answer, mut connection) = (pin!(answer), pin!(connection));
    let mut is_open = true;
    poll_fn(|cx| {
        // It moves the bytes; what is wrong with it, the answer says.
        is_open = is_open && connection.as_mut().poll(cx).is_pending();
        answer.as_mut().poll(cx)
    })
    .await
}

/// `application/x-www-form-urlencoded`
fn form_encode(text: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for &byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// A stream as hyper wants it.
struct Io(Box<dyn Transport>);

impl hyper::rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // By way of the stack: to read in place would need `unsafe`, and this happens once in minutes.
        let mut space = [0; 4096];
        let most = space.len().min(cursor.remaining());
        let mut buffer = ReadBuf::new(&mut space[..most]);
        std::task::ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("tls/testdata/certificate.pem");
    const KEY: &[u8] = include_bytes!("tls/testdata/key.pem");

    /// An issuer that gives the answers in turn, the last one again and again; what was asked, and how often.
    async fn issuer(answers: &'static [&'static str]) -> (u16, Arc<AtomicUsize>, Arc<std::sync::Mutex<String>>) {
        let provider = Arc::new(rustls_graviola::default_provider());
        let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()];
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new(String::new())));
        let (count, note) = (Arc::clone(&asked), Arc::clone(&seen));
        Runtime::current().unwrap().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = vec![0; 8192];
                let mut length = 0;
                while !String::from_utf8_lossy(&request[..length]).contains("grant_type") {
                    length += stream.read(&mut request[length..]).await.unwrap();
                }
                *note.lock().unwrap() = String::from_utf8_lossy(&request[..length]).into_owned();
                let answer = answers[count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)];
                let (status, body) = answer.split_once(' ').unwrap();
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write((head + body).as_bytes()).await;
                let _ = stream.flush().await;
            }
        });
        (port, asked, seen)
    }

    fn oidc(port: u16) -> Oidc {
        let url = format!("https://localhost:{port}/token?x=1");
        Oidc::new(&url, "me:here", "s e&cret").unwrap().tls(Tls::new().ca_pem(CERTIFICATE))
    }

    #[tokio::test]
    async fn a_token_is_asked_for_once_and_kept() {
        let (port, asked, seen) =
            issuer(&[r#"200 {"access_token":"abc.def","expires_in":3600,"token_type":"x"}"#]).await;
        let oidc = oidc(port).scope("kafka all").extension("logicalCluster", "lkc");
        for _ in 0..3 {
            let token = oidc.token().await.unwrap();
            assert_eq!(
                format!("{token:?}"),
                r#"Token { principal: Some("me:here"), extensions: [("logicalCluster", "lkc")], .. }"#
            );
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let seen = seen.lock().unwrap();
        assert!(seen.starts_with("POST /token?x=1 HTTP/1.1\r\n"), "{seen}");
        // echo -n 'me%3Ahere:s%20e%26cret' | base64
        assert!(seen.contains("authorization: Basic bWUlM0FoZXJlOnMlMjBlJTI2Y3JldA==\r\n"), "{seen}");
        assert!(seen.ends_with("\r\n\r\ngrant_type=client_credentials&scope=kafka%20all"), "{seen}");
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_an_outage_is_not() {
        let (port, ..) = issuer(&[
            r#"401 {"error":"invalid_client","error_description":"no s e&cret here"}"#,
            "503 busy",
            r#"200 {"token":"abc"}"#,
            "200 nonsense",
            r#"200 {"access_token":"abc"}"#,
        ])
        .await;
        let oidc = oidc(port);
        let said = |what: &str| format!("localhost:{port}: {what}");
        for expected in [
            ProviderError::new(said(
                "the issuer refused client `me:here`: 401 Unauthorized invalid_client no [redacted] here",
            )),
            ProviderError::transient(said("503 Service Unavailable")),
            ProviderError::new(said("an answer without access_token")),
            ProviderError::new(said("an answer without access_token")),
        ] {
            assert_eq!(oidc.token().await.unwrap_err(), expected);
        }
        oidc.token().await.unwrap();
    }

    #[tokio::test]
    async fn an_issuer_whom_nobody_vouches_for_gets_no_secret() {
        let (port, asked, _) = issuer(&["200 {}"]).await;
        let oidc = oidc(port).tls(Tls::new().web_roots());
        let error = oidc.token().await.unwrap_err().to_string();
        assert!(error.contains("TLS with localhost failed"), "{error}");
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn endpoints_are_checked() {
        for url in ["", "/token", "ftp://x/", "http://issuer.example.org/token", "https://"] {
            assert!(Oidc::new(url, "me", "secret").is_err(), "{url}");
        }
        for url in ["https://issuer.example.org", "http://localhost:8080/token", "http://127.0.0.1/t"] {
            let oidc = Oidc::new(url, "me", "secret").unwrap();
            assert!(!format!("{oidc:?}").contains("secret"));
        }
    }
}
