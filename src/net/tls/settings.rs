//! What a user says about TLS.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;

use super::client::TlsClient;
use crate::error::Error;
use crate::machine::sasl::Secret;

/// How a client speaks TLS to brokers. For [`ClientBuilder::tls`](crate::ClientBuilder::tls).
///
/// By rustls with a provider that needs no C compiler, on x86-64 (since about 2014) and AArch64 (with its cryptography
/// extensions); elsewhere, and for another provider, [`from_config`](Self::from_config). TLS 1.2 and 1.3. A broker's
/// certificate is checked: its issuer, its dates, and that it is for the host that was to be reached.
///
/// Files are read by [`ClientBuilder::build`](crate::ClientBuilder::build), and looked at again for later connections, once
/// a second at most: a certificate that is renewed in place needs no restart. If what is new cannot be used, what was
/// before stays, and the error of a handshake that then fails says so.
///
/// ```
/// use milena::{Client, Tls};
///
/// let tls = Tls::new().ca_file("ca.pem").client_certificate_files("client.pem", "client-key.pem").key_password("secret");
/// # let runtime = tokio::runtime::Runtime::new().unwrap();
/// # let _entered = runtime.enter();
/// let built = Client::builder(["kafka.example.org:9093"]).tls(tls).build();
/// assert!(built.unwrap_err().to_string().starts_with("the issuers' certificates (ca.pem) cannot be read"));
/// ```
#[derive(Clone)]
pub struct Tls {
    pub(super) config: Option<Arc<ClientConfig>>,
    pub(super) roots: Vec<Roots>,
    pub(super) identity: Option<(Pem, Pem)>,
    pub(super) key_password: Option<Secret>,
    pub(super) min_version: TlsVersion,
    pub(super) max_version: TlsVersion,
    pub(super) any_host: bool,
}

/// Whom to trust.
#[derive(Clone)]
pub(super) enum Roots {
    Platform,
    Web,
    Pem(Pem),
}

/// Where PEM is.
#[derive(Clone)]
pub(super) enum Pem {
    File(PathBuf),
    Memory(Secret),
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

impl Tls {
    /// Trusts whom the platform trusts, unless told whom else.
    pub fn new() -> Self {
        Self {
            config: None,
            roots: Vec::new(),
            identity: None,
            key_password: None,
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
            any_host: false,
        }
    }

    /// Exactly this, whatever else is set here: any provider, verifier or source of certificates that rustls can have.
    /// `rustls` is re-exported as [`milena::rustls`](crate::rustls), so that versions match.
    pub fn from_config(config: Arc<ClientConfig>) -> Self {
        Self { config: Some(config), ..Self::new() }
    }

    /// Trusts the issuers whose certificates are in this PEM file, and no others unless they are added too.
    /// (Java: `ssl.truststore.location` with `ssl.truststore.type=PEM`; librdkafka: `ssl.ca.location`.)
    pub fn ca_file(self, path: impl AsRef<Path>) -> Self {
        self.roots(Roots::Pem(Pem::File(path.as_ref().to_owned())))
    }

    /// Trusts the issuers whose certificates are in this PEM text, and no others unless they are added too.
    /// (Java: `ssl.truststore.certificates`; librdkafka: `ssl.ca.pem`.)
    pub fn ca_pem(self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots(Roots::Pem(Pem::Memory(Secret::new(pem))))
    }

    /// Trusts whom the platform trusts, beside others that are added. Default if none are.
    pub fn platform_roots(self) -> Self {
        self.roots(Roots::Platform)
    }

    /// Trusts Mozilla's list of issuers, compiled in: for containers without certificates of their own.
    pub fn web_roots(self) -> Self {
        self.roots(Roots::Web)
    }

    fn roots(mut self, roots: Roots) -> Self {
        self.roots.push(roots);
        self
    }

    /// Who the client is (mTLS): PEM files with its certificate and those that lead to its issuer, and with its private
    /// key, PKCS#8, PKCS#1 or SEC1. Both may be the same file. (Java: `ssl.keystore.location` with
    /// `ssl.keystore.type=PEM`; librdkafka: `ssl.certificate.location` and `ssl.key.location`.)
    pub fn client_certificate_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.identity = Some((Pem::File(chain.as_ref().to_owned()), Pem::File(key.as_ref().to_owned())));
        self
    }

    /// [`client_certificate_files`](Self::client_certificate_files), from memory. (Java: `ssl.keystore.certificate.chain`
    /// and `ssl.keystore.key`; librdkafka: `ssl.certificate.pem` and `ssl.key.pem`.)
    pub fn client_certificate_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((Pem::Memory(Secret::new(chain)), Pem::Memory(Secret::new(key))));
        self
    }

    /// The pass phrase of the private key, if it is encrypted (`BEGIN ENCRYPTED PRIVATE KEY`). (Java and librdkafka:
    /// `ssl.key.password`.)
    pub fn key_password(mut self, password: impl Into<Vec<u8>>) -> Self {
        self.key_password = Some(Secret::new(password));
        self
    }

    /// The oldest version to speak. Default TLS 1.2. (Java: `ssl.enabled.protocols`.)
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min_version = version;
        self
    }

    /// The newest version to speak. Default TLS 1.3. (Java: `ssl.enabled.protocols`.)
    pub fn max_version(mut self, version: TlsVersion) -> Self {
        self.max_version = version;
        self
    }

    /// Believes every broker that has a certificate of a trusted issuer, for whatever host it is: whoever has one can stand
    /// between. Default: the host has to match. (Java and librdkafka: `ssl.endpoint.identification.algorithm` empty.)
    pub fn dangerous_accept_any_host(mut self) -> Self {
        self.any_host = true;
        self
    }

    pub(crate) fn load(self, now: Instant) -> Result<TlsClient, Error> {
        TlsClient::new(self, now)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min_version, max_version, any_host, .. } = self;
        f.debug_struct("Tls")
            .field("own_config", &self.config.is_some())
            .field("client_certificate", &self.identity.is_some())
            .field("min_version", min_version)
            .field("max_version", max_version)
            .field("any_host", any_host)
            .finish_non_exhaustive()
    }
}
