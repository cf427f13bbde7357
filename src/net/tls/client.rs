//! TLS as a client's connections use it: loaded, watched for renewed files, and the handshake.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::BufReader;
use tokio_rustls::TlsConnector;

use super::failure::cause;
use super::pem;
use super::provider::provider;
use super::settings::{Pem, Roots, Tls, TlsVersion};
use super::verify::AnyName;
use crate::error::Error;
use crate::machine::connection::Cause;
use crate::machine::sasl::Secret;
use crate::machine::trust::TlsFailure;
use crate::net::connector::{Address, Transport};
use crate::net::runtime::Runtime;

/// How long files are believed to be as they were.
const RECHECK: Duration = Duration::from_secs(1);

/// Rustls reads from a stream 4 KiB at a time: a fetch of a megabyte would be 256 system calls.
const READ_BUFFER: usize = 32 << 10;

/// Encrypted and not written yet; rustls's 64 KiB would cut a large batch into as many system calls.
const WRITE_BUFFER: usize = 256 << 10;

pub struct TlsClient {
    settings: Arc<Tls>,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ClientConfig>,
    stamps: Stamps,
    checked: Instant,
    /// Why files that have changed are not in use.
    trouble: Option<String>,
}

/// Files, and how they were told from what they were before.
type Stamps = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

impl TlsClient {
    pub fn new(settings: Tls, now: Instant) -> Result<Self, Error> {
        // First: a file that changes while it is read is read again.
        let stamps = stamps(&settings);
        let config = match &settings.config {
            Some(config) => Arc::clone(config),
            None => load(&settings)?,
        };
        let loaded = Mutex::new(Loaded { config, stamps, checked: now, trouble: None });
        Ok(Self { settings: Arc::new(settings), loaded })
    }

    pub fn has_certificate(&self) -> bool {
        self.settings.identity.is_some()
            || self.settings.config.as_ref().is_some_and(|config| config.client_auth_cert_resolver.has_certs())
    }

    /// Agrees on TLS with whoever is at the other end of `stream`, who has to be `broker`.
    pub async fn handshake(
        &self,
        runtime: &Runtime,
        stream: Box<dyn Transport>,
        broker: &Address,
    ) -> Result<Box<dyn Transport>, Cause> {
        let host = broker.host();
        // A name that is whole by itself may end in a dot; SNI and certificates do not.
        let name = ServerName::try_from(host.strip_suffix('.').unwrap_or(host).to_owned());
        let name = name.map_err(|_| Cause::Untrusted {
            failure: TlsFailure::WrongHost,
            message: format!("`{host}` is no name that a certificate can be for").into(),
        })?;
        let config = self.config(runtime).await;
        let stream = BufReader::with_capacity(READ_BUFFER, stream);
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(mut stream) => {
                stream.get_mut().1.set_buffer_limit(Some(WRITE_BUFFER));
                Ok(Box::new(stream))
            }
            Err(error) => Err(self.explain(&error, host)),
        }
    }

    fn explain(&self, error: &std::io::Error, host: &str) -> Cause {
        let trouble = self.lock().trouble.clone().map(|trouble| format!("; {trouble}")).unwrap_or_default();
        match cause(error, Some(host)) {
            Some(Cause::Untrusted { failure, message }) => {
                Cause::Untrusted { failure, message: format!("{message}{trouble}").into() }
            }
            _ if error.kind() == std::io::ErrorKind::UnexpectedEof => Cause::Connect {
                kind: error.kind(),
                message: format!("{host} closed the connection during the TLS handshake: is this a TLS listener?")
                    .into(),
            },
            _ => Cause::Connect { kind: error.kind(), message: format!("TLS with {host}: {error}{trouble}").into() },
        }
    }

    /// What is in force, after a look at the files if the last one was a while ago.
    async fn config(&self, runtime: &Runtime) -> Arc<ClientConfig> {
        let before = {
            let mut loaded = self.lock();
            let now = runtime.now();
            if loaded.stamps.is_empty() || now.saturating_duration_since(loaded.checked) < RECHECK {
                return Arc::clone(&loaded.config);
            }
            loaded.checked = now;
            loaded.stamps.clone()
        };
        let settings = Arc::clone(&self.settings);
        let renewed = runtime.blocking(move || {
            let stamps = stamps(&settings);
            (stamps != before).then(|| (stamps, load(&settings)))
        });
        let renewed = renewed.await.flatten();
        let mut loaded = self.lock();
        match renewed {
            Some((stamps, Ok(config))) => {
                (loaded.config, loaded.stamps, loaded.trouble) = (config, stamps, None);
            }
            // Perhaps half written: the stamps stay old, so that it is tried again.
            Some((_, Err(error))) => {
                loaded.trouble = Some(format!("its files have changed since, and cannot be used: {error}"));
            }
            None => {}
        }
        Arc::clone(&loaded.config)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(settings: &Tls) -> Stamps {
    let roots = settings.roots.iter().filter_map(|roots| match roots {
        Roots::Pem(pem) => Some(pem),
        Roots::Platform | Roots::Web => None,
    });
    let identity = settings.identity.iter().flat_map(|(chain, key)| [chain, key]);
    let files = roots.chain(identity).filter_map(|pem| match pem {
        Pem::File(path) => Some(path.clone()),
        Pem::Memory(_) => None,
    });
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.map(|path| (path.clone(), stamp(&path))).collect()
}

fn load(settings: &Tls) -> Result<Arc<ClientConfig>, Error> {
    if settings.min_version > settings.max_version {
        let Tls { min_version, max_version, .. } = settings;
        return Err(Error::config(format!("Tls::min_version {min_version:?} is above max_version {max_version:?}")));
    }
    let provider = provider()?;
    let versions: Vec<_> = [(TlsVersion::V1_2, &rustls::version::TLS12), (TlsVersion::V1_3, &rustls::version::TLS13)]
        .into_iter()
        .filter(|(version, _)| (settings.min_version..=settings.max_version).contains(version))
        .map(|(_, version)| version)
        .collect();
    let roots = Arc::new(trusted(settings)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
    let verifier = verifier.map_err(|error| Error::config(format!("TLS: {error}")))?;
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions);
    let builder = builder.map_err(|error| Error::config(format!("TLS: {error}")))?.dangerous();
    let builder = if settings.any_host {
        builder.with_custom_certificate_verifier(Arc::new(AnyName(verifier)))
    } else {
        builder.with_custom_certificate_verifier(verifier)
    };
    let config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => identity(builder, chain, key, settings.key_password.as_ref())?,
    };
    Ok(Arc::new(config))
}

fn identity(
    builder: rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    chain: &Pem,
    key: &Pem,
    password: Option<&Secret>,
) -> Result<ClientConfig, Error> {
    let (what, text) = read("the client's certificate", chain)?;
    let chain = pem::certificates(&what, text.expose()).map_err(Error::config)?;
    let (what, text) = read("the client's key", key)?;
    let key = pem::private_key(&what, text.expose(), password).map_err(Error::config)?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| Error::config(format!("the client's certificate and {what} do not go together: {error}")))
}

fn trusted(settings: &Tls) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let default = [Roots::Platform];
    let roots = if settings.roots.is_empty() { &default[..] } else { &settings.roots };
    for roots in roots {
        match roots {
            Roots::Web => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::Platform => {
                let found = rustls_native_certs::load_native_certs();
                let (added, _) = store.add_parsable_certificates(found.certs);
                if added == 0 {
                    let why: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
                    return Err(Error::config(format!(
                        "the platform has no certificates of issuers ({}): use Tls::ca_file or Tls::web_roots",
                        if why.is_empty() { "none found".into() } else { why.join("; ") }
                    )));
                }
            }
            Roots::Pem(pem) => {
                let (what, text) = read("the issuers' certificates", pem)?;
                for certificate in pem::certificates(&what, text.expose()).map_err(Error::config)? {
                    store.add(certificate).map_err(|error| Error::config(format!("{what}: {error}")))?;
                }
            }
        }
    }
    Ok(store)
}

/// PEM, and what to call it.
fn read(what: &str, pem: &Pem) -> Result<(String, Secret), Error> {
    match pem {
        Pem::Memory(text) => Ok((what.to_owned(), text.clone())),
        Pem::File(path) => match fs::read(path) {
            Ok(text) => Ok((format!("{what} ({})", path.display()), Secret::new(text))),
            Err(error) => Err(Error::config(format!("{what} ({}) cannot be read: {error}", path.display()))),
        },
    }
}
