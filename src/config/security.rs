//! `security.protocol`, `sasl.*` and `ssl.*`, which mean something only together.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::jaas::{self, Jaas};
use crate::Sasl;
use crate::client::ClientBuilder;
use crate::error::Error;

/// Every name, and the one under which it is kept: Java's and librdkafka's for the same thing are one.
pub(super) const NAMES: &[(&str, &str)] = &[
    ("security.protocol", "security.protocol"),
    ("sasl.mechanism", "sasl.mechanism"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("sasl.jaas.config", "sasl.jaas.config"),
    ("sasl.username", "sasl.username"),
    ("sasl.password", "sasl.password"),
    ("sasl.oauthbearer.method", "sasl.oauthbearer.method"),
    ("sasl.oauthbearer.token.endpoint.url", "sasl.oauthbearer.token.endpoint.url"),
    ("sasl.oauthbearer.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.secret", "sasl.oauthbearer.client.secret"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    ("sasl.oauthbearer.scope", "sasl.oauthbearer.scope"),
    ("sasl.oauthbearer.extensions", "sasl.oauthbearer.extensions"),
    ("milena.sasl.dangerous.over.plaintext", "milena.sasl.dangerous.over.plaintext"),
    ("ssl.truststore.location", "ssl.truststore.location"),
    ("ssl.truststore.password", "ssl.truststore.password"),
    ("ssl.truststore.type", "ssl.truststore.type"),
    ("ssl.truststore.certificates", "ssl.ca.pem"),
    ("ssl.ca.location", "ssl.ca.location"),
    ("ssl.ca.pem", "ssl.ca.pem"),
    ("ssl.keystore.location", "ssl.keystore.location"),
    ("ssl.keystore.password", "ssl.keystore.password"),
    ("ssl.keystore.type", "ssl.keystore.type"),
    ("ssl.keystore.certificate.chain", "ssl.certificate.pem"),
    ("ssl.keystore.key", "ssl.key.pem"),
    ("ssl.certificate.location", "ssl.certificate.location"),
    ("ssl.certificate.pem", "ssl.certificate.pem"),
    ("ssl.key.location", "ssl.key.location"),
    ("ssl.key.pem", "ssl.key.pem"),
    ("ssl.key.password", "ssl.key.password"),
    ("ssl.endpoint.identification.algorithm", "ssl.endpoint.identification.algorithm"),
    ("ssl.enabled.protocols", "ssl.enabled.protocols"),
    ("enable.ssl.certificate.verification", "ssl.certificate.verification"),
];

pub(super) const NO_KERBEROS: &str = "Kerberos (GSSAPI) needs libraries in C, which this client does without: use \
    SCRAM-SHA-512, OAUTHBEARER or a client certificate (mTLS), on a listener that has them";

/// What was given, by the name under which it is kept.
#[derive(Default)]
pub(super) struct Given(BTreeMap<&'static str, (String, Zeroizing<String>)>);

impl Given {
    pub(super) fn insert(&mut self, canonical: &'static str, name: &str, value: &str) {
        self.0.insert(canonical, (name.to_owned(), Zeroizing::new(value.to_owned())));
    }

    fn get(&self, canonical: &str) -> Option<&str> {
        self.0.get(canonical).map(|(_, value)| value.as_str())
    }

    /// As the user wrote its name.
    fn name<'a>(&'a self, canonical: &'a str) -> &'a str {
        self.0.get(canonical).map_or(canonical, |(name, _)| name)
    }

    /// An error about one setting; `problem` must not quote a secret.
    fn wrong(&self, canonical: &str, problem: &str) -> Error {
        Error::config(format!("{} {problem}", self.name(canonical)))
    }

    /// The first setting whose name begins so, as the user wrote it.
    fn first(&self, prefixes: &[&str]) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| prefixes.iter().any(|prefix| key.starts_with(prefix)))
            .map(|(_, (name, _))| &**name)
    }

    pub(super) fn apply(&self, builder: ClientBuilder) -> Result<ClientBuilder, Error> {
        let protocol = self.get("security.protocol").unwrap_or("PLAINTEXT").to_ascii_uppercase();
        let (has_tls, has_sasl) = match protocol.as_str() {
            "PLAINTEXT" => (false, false),
            "SSL" => (true, false),
            "SASL_PLAINTEXT" => (false, true),
            "SASL_SSL" => (true, true),
            _ => {
                let problem = format!("is {protocol}: it must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL");
                return Err(self.wrong("security.protocol", &problem));
            }
        };
        // Java would leave them aside, and send in plaintext what was to be secured.
        let unused = |name: &str| Error::config(format!("{name} is given, but security.protocol is {protocol}"));
        if let Some(name) = self.first(&["ssl."]).filter(|_| !has_tls) {
            return Err(unused(name));
        }
        if let Some(name) = self.first(&["sasl.", "milena.sasl."]).filter(|_| !has_sasl) {
            return Err(unused(name));
        }
        let builder = if has_tls { self.tls(builder)? } else { builder };
        if has_sasl { Ok(builder.sasl(self.sasl(has_tls)?)) } else { Ok(builder) }
    }

    fn sasl(&self, has_tls: bool) -> Result<Sasl, Error> {
        let mechanism = self.get("sasl.mechanism").unwrap_or("GSSAPI");
        let jaas = self.get("sasl.jaas.config").map(jaas::parse).transpose();
        let jaas = jaas.map_err(|problem| self.wrong("sasl.jaas.config", problem))?;
        let module = match mechanism {
            "PLAIN" => "PlainLoginModule",
            "SCRAM-SHA-256" | "SCRAM-SHA-512" => "ScramLoginModule",
            "OAUTHBEARER" => "OAuthBearerLoginModule",
            "GSSAPI" if self.get("sasl.mechanism").is_none() => {
                let message = format!("sasl.mechanism is missing, and Java's default is GSSAPI: {NO_KERBEROS}");
                return Err(Error::config(message));
            }
            "GSSAPI" => return Err(self.wrong("sasl.mechanism", &format!("is GSSAPI: {NO_KERBEROS}"))),
            other => {
                let problem = format!("is {other}: it must be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER");
                return Err(self.wrong("sasl.mechanism", &problem));
            }
        };
        if let Some(jaas) = &jaas
            && jaas.module != module
        {
            let problem = format!("has a {}, but sasl.mechanism is {mechanism}, which wants a {module}", jaas.module);
            return Err(self.wrong("sasl.jaas.config", &problem));
        }
        let sasl = if mechanism == "OAUTHBEARER" {
            self.oauthbearer(jaas)?
        } else {
            if let Some(name) = self.first(&["sasl.oauthbearer."]) {
                return Err(Error::config(format!("{name} is given, but sasl.mechanism is {mechanism}")));
            }
            self.password(mechanism, jaas)?
        };
        match self.get("milena.sasl.dangerous.over.plaintext") {
            None | Some("false") if !has_tls && sasl.reveals_secret() => Err(Error::config(format!(
                "{mechanism} with security.protocol=SASL_PLAINTEXT shows its secret to everyone on the way: use SASL_SSL or \
                 SCRAM, or add milena.sasl.dangerous.over.plaintext=true"
            ))),
            None | Some("false") => Ok(sasl),
            Some("true") => Ok(sasl.dangerous_over_plaintext()),
            Some(_) => Err(self.wrong("milena.sasl.dangerous.over.plaintext", "is neither true nor false")),
        }
    }

    fn password(&self, mechanism: &str, jaas: Option<Jaas>) -> Result<Sasl, Error> {
        let mut is_token = false;
        let (user, password) = match jaas {
            Some(Jaas { mut options, .. }) => {
                if let Some(name) = self.first(&["sasl.username", "sasl.password"]) {
                    return Err(Error::config(format!(
                        "{name} and sasl.jaas.config say who the client is in two ways"
                    )));
                }
                is_token = options.remove("tokenauth").is_some_and(|value| *value == "true");
                let pair = (options.remove("username"), options.remove("password"));
                if let Some(option) = options.keys().next() {
                    let problem = format!("has the option `{option}`, which is not known");
                    return Err(self.wrong("sasl.jaas.config", &problem));
                }
                let (Some(user), Some(password)) = pair else {
                    return Err(self.wrong("sasl.jaas.config", "lacks username or password"));
                };
                (user, password)
            }
            None => match (self.get("sasl.username"), self.get("sasl.password")) {
                (Some(user), Some(password)) => (Zeroizing::new(user.to_owned()), Zeroizing::new(password.to_owned())),
                _ => {
                    let message = format!("{mechanism} needs sasl.username and sasl.password, or sasl.jaas.config");
                    return Err(Error::config(message));
                }
            },
        };
        let (user, password) = (user.as_str(), password.as_bytes());
        let sasl = match mechanism {
            "PLAIN" => Sasl::plain(user, password),
            "SCRAM-SHA-256" => Sasl::scram_sha_256(user, password),
            _ => Sasl::scram_sha_512(user, password),
        };
        Ok(if is_token { sasl.delegation_token() } else { sasl })
    }

    #[cfg(not(feature = "oidc"))]
    fn oauthbearer(&self, _: Option<Jaas>) -> Result<Sasl, Error> {
        Err(self.wrong(
            "sasl.mechanism",
            "is OAUTHBEARER: from properties it needs milena's feature `oidc`; or give a \
            TokenProvider to Sasl::oauthbearer",
        ))
    }

    #[cfg(feature = "oidc")]
    fn oauthbearer(&self, jaas: Option<Jaas>) -> Result<Sasl, Error> {
        if let Some(name) = self.first(&["sasl.username", "sasl.password"]) {
            return Err(Error::config(format!("{name} is given, but sasl.mechanism is OAUTHBEARER")));
        }
        if self.get("sasl.oauthbearer.method").is_some_and(|method| method != "oidc") {
            return Err(self.wrong("sasl.oauthbearer.method", "must be oidc: others need a TokenProvider"));
        }
        let mut options = jaas.map(|jaas| jaas.options).unwrap_or_default();
        let mut of = |canonical: &str, option: &str| match (self.get(canonical), options.remove(option)) {
            (Some(_), Some(_)) => Err(self.wrong(canonical, "and sasl.jaas.config say the same thing in two ways")),
            (Some(value), None) => Ok(Some(Zeroizing::new(value.to_owned()))),
            (None, value) => Ok(value),
        };
        let id = of("sasl.oauthbearer.client.id", "clientId")?;
        let secret = of("sasl.oauthbearer.client.secret", "clientSecret")?;
        let scope = of("sasl.oauthbearer.scope", "scope")?;
        let (Some(endpoint), Some(id), Some(secret)) = (self.get("sasl.oauthbearer.token.endpoint.url"), id, secret)
        else {
            return Err(Error::config(
                "OAUTHBEARER needs sasl.oauthbearer.token.endpoint.url, and the client's id and secret \
                 (sasl.oauthbearer.client.id and .secret, or clientId and clientSecret in sasl.jaas.config)",
            ));
        };
        let mut oidc = crate::Oidc::new(endpoint, id.as_str(), secret.as_bytes())?;
        if let Some(scope) = scope {
            oidc = oidc.scope(scope.as_str());
        }
        for pair in
            self.get("sasl.oauthbearer.extensions").unwrap_or_default().split(',').filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| self.wrong("sasl.oauthbearer.extensions", "is no list of name=value"))?;
            oidc = oidc.extension(name.trim(), value.trim());
        }
        for (name, value) in options {
            let Some(name) = name.strip_prefix("extension_") else {
                let problem = format!("has the option `{name}`, which is not known");
                return Err(self.wrong("sasl.jaas.config", &problem));
            };
            oidc = oidc.extension(name, value.as_str());
        }
        Ok(Sasl::oauthbearer(oidc))
    }

    #[cfg(not(feature = "tls"))]
    fn tls(&self, _: ClientBuilder) -> Result<ClientBuilder, Error> {
        Err(Error::config("security.protocol asks for TLS, and milena was built without its feature `tls`"))
    }

    #[cfg(feature = "tls")]
    fn tls(&self, builder: ClientBuilder) -> Result<ClientBuilder, Error> {
        use crate::{Tls, TlsVersion};

        let mut tls = Tls::new();
        if let Some(path) = self.store("truststore", "openssl pkcs12 -in {}.p12 -nokeys -out ca.pem")? {
            tls = tls.ca_file(path);
        }
        match self.get("ssl.ca.location") {
            Some("probe") => tls = tls.platform_roots(),
            Some(path) => tls = tls.ca_file(path),
            None => {}
        }
        if let Some(pem) = self.get("ssl.ca.pem") {
            tls = tls.ca_pem(pem);
        }
        let store = self.store("keystore", "openssl pkcs12 -in {}.p12 -out client.pem")?;
        let files = (self.get("ssl.certificate.location"), self.get("ssl.key.location"));
        let pems = (self.get("ssl.certificate.pem"), self.get("ssl.key.pem"));
        tls = match (store, files, pems) {
            (Some(path), (None, None), (None, None)) => tls.client_certificate_files(path, path),
            (None, (Some(chain), Some(key)), (None, None)) => tls.client_certificate_files(chain, key),
            (None, (None, None), (Some(chain), Some(key))) => tls.client_certificate_pem(chain, key),
            (None, (None, None), (None, None)) => tls,
            _ => {
                let name = self.first(&[
                    "ssl.certificate.l",
                    "ssl.certificate.p",
                    "ssl.key.l",
                    "ssl.key.pem",
                    "ssl.keystore.l",
                ]);
                return Err(Error::config(format!(
                    "{} is given: the client's certificate and key have to come together, and in one way",
                    name.unwrap_or("ssl.keystore")
                )));
            }
        };
        if let Some(password) = self.get("ssl.key.password") {
            tls = tls.key_password(password);
        }
        match self.get("ssl.endpoint.identification.algorithm") {
            None | Some("https") => {}
            Some("" | "none") => tls = tls.dangerous_accept_any_host(),
            Some(_) => {
                return Err(self.wrong("ssl.endpoint.identification.algorithm", "must be https, or empty for any host"));
            }
        }
        if self.get("ssl.certificate.verification").is_some_and(|verify| verify != "true") {
            let problem = "can only be true: give the issuer's certificate to ssl.ca.location";
            return Err(self.wrong("ssl.certificate.verification", problem));
        }
        if let Some(protocols) = self.get("ssl.enabled.protocols") {
            let version = |name: &str| match name.trim() {
                "TLSv1.2" => Ok(TlsVersion::V1_2),
                "TLSv1.3" => Ok(TlsVersion::V1_3),
                _ => Err(self.wrong("ssl.enabled.protocols", "must name TLSv1.2 or TLSv1.3 or both")),
            };
            let versions = protocols.split(',').map(version).collect::<Result<Vec<_>, _>>()?;
            if let (Some(min), Some(max)) = (versions.iter().min(), versions.iter().max()) {
                tls = tls.min_version(*min).max_version(*max);
            }
        }
        Ok(builder.tls(tls))
    }

    /// The path of a store of Java's, if there is one and it is PEM.
    #[cfg(feature = "tls")]
    fn store(&self, which: &str, then: &str) -> Result<Option<&str>, Error> {
        let [location, kind, password] = ["location", "type", "password"].map(|part| format!("ssl.{which}.{part}"));
        let path = self.get(&location);
        let kind_given = self.get(&kind).map(str::to_ascii_uppercase);
        // Java's default is JKS, but what is PEM is PEM.
        let is_pem = || path.is_some_and(|path| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"-----")));
        let is_pem = kind_given.as_deref().map_or_else(is_pem, |kind| kind == "PEM");
        match path {
            Some(path) if !is_pem => {
                let kind = kind_given.as_deref().unwrap_or("JKS");
                let mut command = String::new();
                if kind != "PKCS12" {
                    command = format!(
                        "keytool -importkeystore -srckeystore {path} -destkeystore {path}.p12 -deststoretype PKCS12 && "
                    );
                }
                let input = if kind == "PKCS12" { path.to_owned() } else { format!("{path}.p12") };
                command += &then.replace("{}.p12", &input);
                Err(Error::config(format!(
                    "{} is a {kind} store, and PEM is needed: convert it by `{command}`, and say ssl.{which}.type=PEM",
                    self.name(&location)
                )))
            }
            _ if self.get(&password).is_some() => {
                let problem = "is for JKS and PKCS#12 stores: the key of a PEM file has ssl.key.password";
                Err(self.wrong(&password, problem))
            }
            path => Ok(path),
        }
    }
}
