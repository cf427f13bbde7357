//! A record to be sent.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::topic::ProducerTopic;

/// A record to be sent: a topic, and what goes there.
///
/// Key, value and headers may be borrowed, since a record is encoded when it is enqueued; nothing is copied before that
/// and nothing is kept after it. What owns its bytes gives a `Record<'static>`.
///
/// ```
/// use milena::Record;
///
/// let order = String::from("created");
/// let record = Record::to("orders").key("42").value(&order).header("source", "web");
/// # let _ = record;
/// let tombstone = Record::to("orders").key("42");           // no value: deletes the key in a compacted topic
/// # let _ = tombstone;
/// ```
#[derive(Clone)]
pub struct Record<'a> {
    /// In this order of precedence: `owned`, `handle`, `name`.
    name: &'a str,
    handle: Option<&'a ProducerTopic>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    timestamp: i64,
    partition: i32,
    has_timestamp: bool,
    has_partition: bool,
    /// Whatever needs more than to be forgotten when a record is. Apart from the rest, since a record is moved by each
    /// call that builds it, and the compiler sees through that only while there is next to nothing to drop.
    owned: Option<Box<Owned<'a>>>,
}

/// What a record does not borrow, and its headers.
#[derive(Clone, Default)]
struct Owned<'a> {
    topic: Option<Arc<str>>,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<Header<'a>>,
}

type Header<'a> = (Name<'a>, Option<Data<'a>>);

impl<'a> Record<'a> {
    /// A record for `topic`, with neither key nor value yet.
    #[inline]
    pub fn to(topic: impl Into<Name<'a>>) -> Self {
        let (key, value, timestamp, partition, has_timestamp, has_partition, owned) = Default::default();
        let (name, handle) = ("", None);
        let record = Self { name, handle, key, value, timestamp, partition, has_timestamp, has_partition, owned };
        match topic.into().0 {
            Text::Borrowed(name) => Self { name, ..record },
            Text::Topic(topic) => Self { handle: Some(topic), ..record },
            Text::Shared(topic) => {
                Self { owned: Some(Box::new(Owned { topic: Some(topic), ..Owned::default() })), ..record }
            }
        }
    }

    /// The key: records with the same one go to the same partition, and compaction keeps the last of them.
    #[inline]
    pub fn key(mut self, key: impl Into<Data<'a>>) -> Self {
        match key.into().0 {
            Payload::Borrowed(key) => {
                self.key = Some(key);
                if let Some(owned) = &mut self.owned {
                    owned.key = None;
                }
            }
            Payload::Owned(key) => self.own().key = Some(key),
        }
        self
    }

    /// The value. Without one the record is a tombstone.
    #[inline]
    pub fn value(mut self, value: impl Into<Data<'a>>) -> Self {
        match value.into().0 {
            Payload::Borrowed(value) => {
                self.value = Some(value);
                if let Some(owned) = &mut self.owned {
                    owned.value = None;
                }
            }
            Payload::Owned(value) => self.own().value = Some(value),
        }
        self
    }

    /// The partition, instead of the one that the key would choose.
    #[inline]
    pub fn partition(mut self, partition: i32) -> Self {
        (self.partition, self.has_partition) = (partition, true);
        self
    }

    /// Milliseconds since 1970. Default: when it is enqueued. Ignored by topics that stamp records themselves
    /// (`message.timestamp.type=LogAppendTime`).
    #[inline]
    pub fn timestamp(mut self, ms: i64) -> Self {
        (self.timestamp, self.has_timestamp) = (ms, true);
        self
    }

    /// Adds a header. Keys may repeat, and order is kept.
    pub fn header(mut self, key: impl Into<Name<'a>>, value: impl Into<Data<'a>>) -> Self {
        self.own().headers.push((key.into(), Some(value.into())));
        self
    }

    /// Adds a header whose value is null.
    pub fn null_header(mut self, key: impl Into<Name<'a>>) -> Self {
        self.own().headers.push((key.into(), None));
        self
    }

    fn own(&mut self) -> &mut Owned<'a> {
        self.owned.get_or_insert_default()
    }

    #[inline]
    pub(super) fn topic_name(&self) -> &str {
        let owned = self.owned.as_ref().and_then(|owned| owned.topic.as_deref());
        owned.unwrap_or_else(|| self.handle.map_or(self.name, ProducerTopic::name))
    }

    /// The handle that its topic was given by.
    #[inline]
    pub(super) fn topic_handle(&self) -> Option<&'a ProducerTopic> {
        self.handle
    }

    #[inline]
    pub(super) fn key_bytes(&self) -> Option<&[u8]> {
        self.owned.as_ref().and_then(|owned| owned.key.as_deref()).or(self.key)
    }

    #[inline]
    pub(super) fn value_bytes(&self) -> Option<&[u8]> {
        self.owned.as_ref().and_then(|owned| owned.value.as_deref()).or(self.value)
    }

    /// Names and values.
    #[inline]
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> + Clone {
        let headers = self.owned.as_ref().map_or(&[][..], |owned| &owned.headers);
        headers.iter().map(|(name, value)| (name.as_str(), value.as_ref().map(Data::as_slice)))
    }

    #[inline]
    pub(super) fn chosen_partition(&self) -> Option<i32> {
        self.has_partition.then_some(self.partition)
    }

    #[inline]
    pub(super) fn own_timestamp(&self) -> Option<i64> {
        self.has_timestamp.then_some(self.timestamp)
    }

    /// About the bytes that it takes in a batch: a few too many rather than one too few, unless the timestamps of a
    /// batch are more than eight seconds apart.
    pub(super) fn size_estimate(&self) -> usize {
        /// Attributes, timestamp, index and the count of headers.
        const REST: usize = 6;
        let field = |bytes: usize| bytes + length_size(bytes);
        let data = |data: Option<&[u8]>| data.map_or(1, |data| field(data.len()));
        let headers: usize = self.headers().map(|(name, value)| field(name.len()) + data(value)).sum();
        field(REST + data(self.key_bytes()) + data(self.value_bytes()) + headers)
    }
}

/// Bytes of a length, as records have it: six bits of the first, seven of each other.
fn length_size(length: usize) -> usize {
    match length {
        0..0x40 => 1,
        0x40..0x2000 => 2,
        0x2000..0x10_0000 => 3,
        _ => 5,
    }
}

impl PartialEq for Record<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.topic_name() == other.topic_name()
            && (self.chosen_partition(), self.own_timestamp()) == (other.chosen_partition(), other.own_timestamp())
            && (self.key_bytes(), self.value_bytes()) == (other.key_bytes(), other.value_bytes())
            && self.headers().eq(other.headers())
    }
}

impl Eq for Record<'_> {}

impl fmt::Debug for Record<'_> {
    /// Sizes, not contents: payloads may be secret, and large.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Record");
        debug.field("topic", &self.topic_name()).field("partition", &self.chosen_partition());
        debug.field("key_bytes", &self.key_bytes().map(<[u8]>::len));
        debug.field("value_bytes", &self.value_bytes().map(<[u8]>::len));
        debug.field("headers", &self.headers().count()).finish()
    }
}

/// A name, borrowed or shared: of a topic or of a header.
#[derive(Clone, Debug)]
pub struct Name<'a>(Text<'a>);

#[derive(Clone, Debug)]
enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
    Topic(&'a ProducerTopic),
}

impl<'a> Name<'a> {
    fn as_str(&self) -> &str {
        match &self.0 {
            Text::Borrowed(name) => name,
            Text::Shared(name) => name,
            Text::Topic(topic) => topic.name(),
        }
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Name<'_> {}

impl<'a> From<&'a str> for Name<'a> {
    #[inline]
    fn from(name: &'a str) -> Self {
        Self(Text::Borrowed(name))
    }
}

impl<'a> From<&'a ProducerTopic> for Name<'a> {
    #[inline]
    fn from(topic: &'a ProducerTopic) -> Self {
        Self(Text::Topic(topic))
    }
}

impl<'a> From<&'a String> for Name<'a> {
    #[inline]
    fn from(name: &'a String) -> Self {
        Self(Text::Borrowed(name))
    }
}

impl From<String> for Name<'_> {
    #[inline]
    fn from(name: String) -> Self {
        Self(Text::Shared(name.into()))
    }
}

impl From<Arc<str>> for Name<'_> {
    #[inline]
    fn from(name: Arc<str>) -> Self {
        Self(Text::Shared(name))
    }
}

/// The bytes of a key, a value or a header: borrowed, or owned and shared.
#[derive(Clone, Debug)]
pub struct Data<'a>(Payload<'a>);

#[derive(Clone, Debug)]
enum Payload<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Data<'_> {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Payload::Borrowed(bytes) => bytes,
            Payload::Owned(bytes) => bytes,
        }
    }
}

impl PartialEq for Data<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Data<'_> {}

impl<'a> From<&'a [u8]> for Data<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Self(Payload::Borrowed(bytes))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Data<'a> {
    #[inline]
    fn from(bytes: &'a [u8; N]) -> Self {
        Self(Payload::Borrowed(bytes))
    }
}

impl<'a> From<&'a Vec<u8>> for Data<'a> {
    #[inline]
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self(Payload::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Data<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self(Payload::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a String> for Data<'a> {
    #[inline]
    fn from(text: &'a String) -> Self {
        Self(Payload::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a Bytes> for Data<'a> {
    #[inline]
    fn from(bytes: &'a Bytes) -> Self {
        Self(Payload::Borrowed(bytes))
    }
}

impl From<Bytes> for Data<'_> {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        Self(Payload::Owned(bytes))
    }
}

impl From<Vec<u8>> for Data<'_> {
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        Self(Payload::Owned(bytes.into()))
    }
}

impl From<String> for Data<'_> {
    #[inline]
    fn from(text: String) -> Self {
        Self(Payload::Owned(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::BatchWriter;

    #[test]
    fn the_last_word_counts_borrowed_or_owned() {
        let record = |key: &'static str, owned: &str| Record::to("t").key(owned.to_owned()).value(key).key(key);
        assert_eq!(record("k", "other"), Record::to(String::from("t")).key("k").value(b"k".to_vec()));
        assert_eq!(record("k", "other").key(String::from("last")).key_bytes(), Some(&b"last"[..]));
        assert_eq!(Record::to("t").value("v").value(Bytes::from("w")).value("x").value_bytes(), Some(&b"x"[..]));
        assert_ne!(Record::to("t").partition(0), Record::to("t"));
        assert_ne!(Record::to("t").timestamp(0), Record::to("t"));
        assert_ne!(Record::to("t").header("h", "v"), Record::to("t").null_header("h"));
        let shared: Arc<str> = "t".into();
        assert_eq!(Record::to(shared).header("h", "v").clone(), Record::to("t").header("h", "v"));
    }

    /// What a sticky run counts is what a batch gets, so that one run fills one batch.
    #[test]
    fn the_estimate_is_close_and_not_too_small() {
        for size in [0, 1, 30, 63, 64, 100, 1_000, 8_191, 8_192, 100_000] {
            let value = vec![0; size];
            for record in [
                Record::to("t").value(&value),
                Record::to("t").key("key").value(&value),
                Record::to("t").key("key").value(&value).header("name", "value").null_header("null"),
            ] {
                let mut writer = BatchWriter::new(0);
                let empty = writer.size();
                for n in 0..100 {
                    writer.append(n * 10, record.key_bytes(), record.value_bytes(), record.headers()).unwrap();
                }
                let (real, estimate) = (writer.size() - empty, record.size_estimate() * 100);
                assert!((real..=real + 300).contains(&estimate), "{size}: {estimate} for {real}");
            }
        }
    }
}
