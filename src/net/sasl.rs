//! Who brings credentials, and when they may be sent.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use crate::machine::sasl::{
    Exchange, Failure, Hash, Mechanism, OAuthBearer, Plain, Problem, Scram, Secret, prepare, prepare_password,
};

/// How a client proves to brokers who it is (SASL). For [`ClientBuilder::sasl`](crate::ClientBuilder::sasl).
///
/// PLAIN and OAUTHBEARER send a secret, so they need [TLS](crate::ClientBuilder::tls); SCRAM sends a proof, and wants one
/// of the broker too, so that an impostor is found out. Brokers that end sessions (`connections.max.reauth.ms`, KIP-368)
/// are authenticated to again in time, between requests.
///
/// ```
/// use milena::{Client, Sasl, Tls};
///
/// let builder = Client::builder(["kafka.example.org:9093"])
///     .tls(Tls::new())
///     .sasl(Sasl::scram_sha_512("alice", "alice-secret"));
/// assert!(!format!("{builder:?}").contains("alice-secret"));
/// ```
#[derive(Clone)]
pub struct Sasl {
    source: Source,
    is_token: bool,
    is_prepared: bool,
    over_plaintext: bool,
    /// As whom it was last tried.
    principal: Arc<Mutex<Option<Arc<str>>>>,
}

#[derive(Clone)]
enum Source {
    Password(Mechanism, Arc<dyn CredentialProvider>),
    Token(Arc<dyn TokenProvider>),
}

impl Sasl {
    /// PLAIN (RFC 4616): the password itself is sent, to whoever is at the other end of a TLS connection.
    pub fn plain(user: impl Into<Arc<str>>, password: impl Into<Vec<u8>>) -> Self {
        Self::plain_with(Credentials::new(user, password))
    }

    /// [`plain`](Self::plain), with a user and password that may change.
    pub fn plain_with(provider: impl CredentialProvider) -> Self {
        Self::new(Source::Password(Mechanism::Plain, Arc::new(provider)))
    }

    /// SCRAM-SHA-256 (RFC 7677): the password is never sent.
    pub fn scram_sha_256(user: impl Into<Arc<str>>, password: impl Into<Vec<u8>>) -> Self {
        Self::scram_sha_256_with(Credentials::new(user, password))
    }

    /// [`scram_sha_256`](Self::scram_sha_256), with a user and password that may change.
    pub fn scram_sha_256_with(provider: impl CredentialProvider) -> Self {
        Self::new(Source::Password(Mechanism::ScramSha256, Arc::new(provider)))
    }

    /// SCRAM-SHA-512: the password is never sent.
    pub fn scram_sha_512(user: impl Into<Arc<str>>, password: impl Into<Vec<u8>>) -> Self {
        Self::scram_sha_512_with(Credentials::new(user, password))
    }

    /// [`scram_sha_512`](Self::scram_sha_512), with a user and password that may change.
    pub fn scram_sha_512_with(provider: impl CredentialProvider) -> Self {
        Self::new(Source::Password(Mechanism::ScramSha512, Arc::new(provider)))
    }

    /// OAUTHBEARER (RFC 7628, KIP-255): a token is sent, which `provider` brings for every authentication.
    pub fn oauthbearer(provider: impl TokenProvider) -> Self {
        Self::new(Source::Token(Arc::new(provider)))
    }

    fn new(source: Source) -> Self {
        let principal = Arc::default();
        Self { source, is_token: false, is_prepared: true, over_plaintext: false, principal }
    }

    /// The user is a delegation token's id, and the password its HMAC (KIP-48); for SCRAM. Default: a user's own.
    /// (Java: `tokenauth=true` in the JAAS line.)
    pub fn delegation_token(mut self) -> Self {
        self.is_token = true;
        self
    }

    /// Sends SCRAM's user and hashes its password as they are, not as SASLprep (RFC 4013) writes them. ASCII is not
    /// concerned. Default: prepared, as RFC 5802 asks. Kafka's own tools do not prepare, so a password with, say, a
    /// ligature that they have stored works only with this.
    pub fn without_saslprep(mut self) -> Self {
        self.is_prepared = false;
        self
    }

    /// Sends a password (PLAIN) or a token (OAUTHBEARER) over a connection that anyone on the way can read and that may
    /// lead anywhere. Default: [`ClientBuilder::build`](crate::ClientBuilder::build) refuses. For tests, and for streams
    /// of a [`Connector`](crate::Connector) that are encrypted already.
    pub fn dangerous_over_plaintext(mut self) -> Self {
        self.over_plaintext = true;
        self
    }

    pub(crate) fn mechanism(&self) -> Mechanism {
        match &self.source {
            Source::Password(mechanism, _) => *mechanism,
            Source::Token(_) => Mechanism::OAuthBearer,
        }
    }

    /// Whether who listens learns its secret.
    pub(crate) fn reveals_secret(&self) -> bool {
        self.mechanism().reveals_secret()
    }

    /// Whether it would show its secret to whoever listens, and was not told to.
    pub(crate) fn needs_tls(&self) -> bool {
        self.mechanism().reveals_secret() && !self.over_plaintext
    }

    pub(crate) fn principal(&self) -> Option<Arc<str>> {
        self.principal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The beginning of one authentication.
    pub(crate) async fn prepare(&self) -> Result<Exchange, Failure> {
        let mechanism = self.mechanism();
        let exchange = match &self.source {
            Source::Password(_, provider) => match provider.credentials().await {
                Ok(credentials) => self.with_password(mechanism, &credentials),
                Err(error) => Err(error.into()),
            },
            Source::Token(provider) => match provider.token().await {
                Ok(Token { value, principal, extensions }) => {
                    OAuthBearer::new(value, principal, extensions).map(Exchange::OAuthBearer)
                }
                Err(error) => Err(error.into()),
            },
        };
        let principal = match &exchange {
            Ok(exchange) => exchange.principal(),
            Err(_) => self.principal(),
        };
        self.principal.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&principal);
        exchange.map_err(|problem| Failure { mechanism, principal, problem, again: false })
    }

    fn with_password(&self, mechanism: Mechanism, credentials: &Credentials) -> Result<Exchange, Problem> {
        let Credentials { user, password } = credentials;
        let hash = match mechanism {
            Mechanism::ScramSha256 => Hash::Sha256,
            Mechanism::ScramSha512 => Hash::Sha512,
            Mechanism::Plain | Mechanism::OAuthBearer => {
                return Plain::new(Arc::clone(user), password.clone()).map(Exchange::Plain);
            }
        };
        let mut nonce = [0; 24];
        getrandom::fill(&mut nonce).map_err(|error| Problem::Provider {
            message: format!("the system gives no random bytes for a nonce: {error}").into(),
            is_transient: true,
        })?;
        let scram = if self.is_prepared {
            Scram::new(hash, &prepare(user)?, &prepare_password(password)?, &nonce, self.is_token)
        } else {
            Scram::new(hash, user, password, &nonce, self.is_token)
        };
        scram.map(Exchange::Scram)
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl")
            .field("mechanism", &self.mechanism())
            .field("principal", &self.principal())
            .finish_non_exhaustive()
    }
}

/// A user and a password. The password is wiped from memory when the last copy is dropped, and never printed.
#[derive(Clone)]
pub struct Credentials {
    user: Arc<str>,
    password: Secret,
}

impl Credentials {
    /// A user and a password, as the broker knows them.
    pub fn new(user: impl Into<Arc<str>>, password: impl Into<Vec<u8>>) -> Self {
        Self { user: user.into(), password: Secret::new(password) }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The future that a [`CredentialProvider`] or [`TokenProvider`] returns.
pub type Providing<'a, T> = Pin<Box<dyn Future<Output = Result<T, ProviderError>> + Send + 'a>>;

/// Brings user and password for every authentication, so that they can change while a client runs.
///
/// ```
/// use std::sync::{Arc, RwLock};
///
/// use milena::{CredentialProvider, Credentials, Providing};
///
/// struct Vault(Arc<RwLock<String>>);
///
/// impl CredentialProvider for Vault {
///     fn credentials(&self) -> Providing<'_, Credentials> {
///         Box::pin(async { Ok(Credentials::new("billing", self.0.read().unwrap().as_str())) })
///     }
/// }
/// ```
///
/// Asked once for each connection, and again when a session ends; the client's `connection_setup_timeout` is its limit.
pub trait CredentialProvider: Send + Sync + 'static {
    /// User and password as of now.
    fn credentials(&self) -> Providing<'_, Credentials>;
}

impl CredentialProvider for Credentials {
    fn credentials(&self) -> Providing<'_, Credentials> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

/// A token for OAUTHBEARER. It is wiped from memory when the last copy is dropped, and never printed.
///
/// ```
/// let token = milena::Token::new("eyJhbGciOi.eyJzdWIiOi.c2ln").principal("billing").extension("logicalCluster", "lkc-1");
/// assert!(!format!("{token:?}").contains("eyJhbGciOi"));
/// ```
#[derive(Clone)]
pub struct Token {
    value: Secret,
    principal: Option<Arc<str>>,
    extensions: Vec<(String, String)>,
}

impl Token {
    /// A token, as its issuer wrote it: usually a JWT.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Secret::new(value), principal: None, extensions: Vec::new() }
    }

    /// Whom it stands for. Only errors show it: brokers read the token.
    pub fn principal(mut self, name: impl Into<Arc<str>>) -> Self {
        self.principal = Some(name.into());
        self
    }

    /// A pair for the broker, beside the token (KIP-342). The name has letters only.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("principal", &self.principal)
            .field("extensions", &self.extensions)
            .finish_non_exhaustive()
    }
}

/// Brings a token for every authentication.
///
/// Asked once for each connection, and again when a session ends, which brokers make no later than the token's end: it
/// should keep a token for most of its life (Java's client: 80 %) and then bring a new one. The client's
/// `connection_setup_timeout` is its limit; the future is dropped when that strikes.
///
/// ```
/// use milena::{Providing, Token, TokenProvider};
///
/// struct FromFile;
///
/// impl TokenProvider for FromFile {
///     fn token(&self) -> Providing<'_, Token> {
///         Box::pin(async {
///             let token = std::fs::read("/var/run/secrets/tokens/kafka");
///             token.map(Token::new).map_err(|error| milena::ProviderError::transient(error.to_string()))
///         })
///     }
/// }
/// ```
pub trait TokenProvider: Send + Sync + 'static {
    /// A token that is valid for a while.
    fn token(&self) -> Providing<'_, Token>;
}

/// The same token again and again: for tests, and for what lives no longer than it.
impl TokenProvider for Token {
    fn token(&self) -> Providing<'_, Token> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

/// Why a provider has no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProviderError {
    message: String,
    is_transient: bool,
}

impl ProviderError {
    /// What no waiting mends: operations fail with it at once. The message must not show a secret.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_transient: false }
    }

    /// What may be over soon: asked again, after a back-off. The message must not show a secret.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_transient: true }
    }
}

impl From<ProviderError> for Problem {
    fn from(error: ProviderError) -> Self {
        Self::Provider { message: error.message.into(), is_transient: error.is_transient }
    }
}
