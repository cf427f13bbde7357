//! `ClientBuilder::from_properties`.

use std::collections::BTreeMap;
use std::path::Path;

use zeroize::Zeroizing;

use super::input::{Input, nearest};
use super::security::{self, Given};
use super::settings::{Changes, FIXED, MISSING, Setting, WITHOUT_EFFECT, all};
use super::syntax;
use crate::client::{Client, ClientBuilder};
use crate::error::Error;

impl ClientBuilder {
    /// A client from properties, by the names of Java's client and of librdkafka: `bootstrap.servers`, `client.id`,
    /// `security.protocol`, `sasl.*` (a JAAS line too), `ssl.*`, and what producers, consumers and admin handles have. The
    /// latter become the defaults of [`Client::producer`](crate::Client::producer) and
    /// [`Client::consumer`](crate::Client::consumer). Times are in milliseconds.
    ///
    /// What is not given has milena's default, which is Java's 4.x unless the setting says otherwise; so a configuration of
    /// librdkafka gets Java's `isolation.level` and partitioner. Nothing is ignored in silence, but these, which choose
    /// between things that do not exist here: serializers and deserializers, `metric.*`, `metrics.*`, `security.providers`,
    /// `ssl.protocol`, `ssl.provider`, `ssl.secure.random.implementation` and the algorithms of Java's trust and key managers.
    ///
    /// PLAIN and OAUTHBEARER with `SASL_PLAINTEXT` want `milena.sasl.dangerous.over.plaintext=true` as well.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config): a name that is unknown, with the nearest that is known; a value that
    /// is not what it should be; two settings that contradict each other; and what this client cannot do, with what to do
    /// instead, as the conversion of a JKS or PKCS#12 store to PEM.
    ///
    /// ```
    /// use milena::ClientBuilder;
    ///
    /// let builder = ClientBuilder::from_properties([
    ///     ("bootstrap.servers", "kafka-1.example.org:9093,kafka-2.example.org:9093"),
    ///     ("security.protocol", "SASL_SSL"),
    ///     ("sasl.mechanism", "SCRAM-SHA-512"),
    ///     ("sasl.username", "alice"),
    ///     ("sasl.password", "alice-secret"),
    ///     ("linger.ms", "20"),
    /// ]);
    /// # #[cfg(feature = "tls")]
    /// assert!(builder.is_ok());
    ///
    /// let error = ClientBuilder::from_properties([("bootstrap.server", "localhost:9092")]).unwrap_err();
    /// assert_eq!(error.to_string(), "unknown property `bootstrap.server`: did you mean `bootstrap.servers`?");
    /// ```
    pub fn from_properties<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Error> {
        let mut draft = Draft::default();
        for (name, value) in pairs {
            draft.take(name.as_ref(), value.as_ref())?;
        }
        draft.finish()
    }

    /// [`from_properties`](Self::from_properties) of a file, in the syntax of Java's properties and in UTF-8. It blocks
    /// while it reads.
    ///
    /// # Errors
    /// Those of `from_properties`, and what is wrong with the file; the message has the line.
    pub fn from_properties_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let wrong = |problem: String| Error::config(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| wrong(error.to_string()))?;
        let mut draft = Draft::default();
        for (line, name, value) in syntax::parse(&text).map_err(wrong)? {
            let value = Zeroizing::new(value);
            draft.take(&name, &value).map_err(|error| wrong(format!("line {line}: {error}")))?;
        }
        draft.finish().map_err(|error| wrong(error.to_string()))
    }
}

#[derive(Default)]
struct Draft {
    bootstrap: Option<String>,
    changes: Changes,
    security: Given,
    /// By what it sets: the name and value that did. One thing may be said twice, but not in two ways.
    seen: BTreeMap<&'static str, (String, Zeroizing<String>)>,
}

impl Draft {
    fn take(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let value = value.trim();
        if let Some((key, canonical)) = security::NAMES.iter().find(|(known, _)| *known == name) {
            self.once(canonical, key, value, true)?;
            self.security.insert(canonical, name, value);
            return Ok(());
        }
        if name == "bootstrap.servers" || name == "metadata.broker.list" {
            self.once("bootstrap.servers", name, value, false)?;
            self.bootstrap = Some(value.to_owned());
            return Ok(());
        }
        let wrong = |problem: &str| Error::config(format!("{name}={value} {problem}"));
        if let Some(Setting { names, apply, .. }) = all().find(|setting| setting.names.contains(&name)) {
            self.once(names[0], name, value, false)?;
            return apply(&Input(value), &mut self.changes).map_err(|problem| wrong(&problem));
        }
        if let Some((_, values, why)) = FIXED.iter().find(|(known, ..)| *known == name) {
            return if values.contains(&value) { Ok(()) } else { Err(wrong(&format!("cannot be had: {why}"))) };
        }
        if WITHOUT_EFFECT.contains(&name) {
            return Ok(());
        }
        if name.starts_with("sasl.kerberos.") {
            return Err(Error::config(format!("{name}: {}", security::NO_KERBEROS)));
        }
        if name.starts_with("sasl.login.") || name.ends_with(".callback.handler.class") {
            let message = format!("{name} is for classes of Java: give a TokenProvider to Sasl::oauthbearer");
            return Err(Error::config(message));
        }
        if MISSING.contains(&name) {
            return Err(Error::config(format!("{name} is not supported (yet): leave it out if its default will do")));
        }
        let near = nearest(name, known());
        let hint = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
        Err(Error::config(format!("unknown property `{name}`{hint}")))
    }

    /// Refuses a second value for the same thing.
    fn once(&mut self, what: &'static str, name: &str, value: &str, is_secret: bool) -> Result<(), Error> {
        let before = self.seen.insert(what, (name.to_owned(), Zeroizing::new(value.to_owned())));
        match before {
            Some((other, before)) if *before != value => Err(Error::config(match (is_secret, other == name) {
                (true, true) => format!("{name} is given twice, with different values"),
                (true, false) => format!("{other} and {name} say the same thing in two ways"),
                (false, _) => format!("{other}={} and {name}={value} contradict each other", *before),
            })),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<ClientBuilder, Error> {
        let Self { bootstrap, mut changes, security, seen } = self;
        let codec = seen.get("compression.type").map_or("none", |(_, codec)| codec.as_str());
        for (name, of) in [("compression.gzip.level", "gzip"), ("compression.zstd.level", "zstd")] {
            if seen.contains_key(name) && codec != of {
                return Err(Error::config(format!("{name} is given, but compression.type is {codec}")));
            }
        }
        let bootstrap = bootstrap.ok_or_else(|| Error::config("bootstrap.servers is missing"))?;
        let addresses = bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty());
        let client = std::mem::take(&mut changes.client);
        let mut builder = client.iter().fold(Client::builder(addresses), |builder, change| change(builder));
        if let Some((first, max)) = changes.setup.or(10_000, 30_000) {
            builder = builder.connection_setup_timeout(first, max);
        }
        if let Some((first, max)) = changes.reconnect.or(50, 1000) {
            builder = builder.reconnect_backoff(first, max);
        }
        if let Some((first, max)) = changes.retry.or(100, 1000) {
            builder = builder.retry_backoff(first, max);
        }
        Ok(security.apply(builder)?.with_changes(changes))
    }
}

fn known() -> impl Iterator<Item = &'static str> {
    let own = all().flat_map(|setting| setting.names).copied();
    let fixed = FIXED.iter().map(|(name, ..)| *name);
    let security = security::NAMES.iter().map(|(name, _)| *name);
    own.chain(fixed).chain(security).chain(["bootstrap.servers", "metadata.broker.list"])
}

#[cfg(test)]
mod tests;
