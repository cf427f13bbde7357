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
#[derive(Clone, PartialEq, Eq)]
pub struct Record<'a> {
    pub(super) topic: Name<'a>,
    pub(super) partition: Option<i32>,
    pub(super) timestamp: Option<i64>,
    pub(super) key: Option<Data<'a>>,
    pub(super) value: Option<Data<'a>>,
    pub(super) headers: Vec<(Name<'a>, Option<Data<'a>>)>,
}

impl<'a> Record<'a> {
    /// A record for `topic`, with neither key nor value yet.
    #[inline]
    pub fn to(topic: impl Into<Name<'a>>) -> Self {
        Self { topic: topic.into(), partition: None, timestamp: None, key: None, value: None, headers: Vec::new() }
    }

    /// The key: records with the same one go to the same partition, and compaction keeps the last of them.
    #[inline]
    pub fn key(mut self, key: impl Into<Data<'a>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The value. Without one the record is a tombstone.
    #[inline]
    pub fn value(mut self, value: impl Into<Data<'a>>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// The partition, instead of the one that the key would choose.
    #[inline]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Milliseconds since 1970. Default: when it is enqueued. Ignored by topics that stamp records themselves
    /// (`message.timestamp.type=LogAppendTime`).
    #[inline]
    pub fn timestamp(mut self, ms: i64) -> Self {
        self.timestamp = Some(ms);
        self
    }

    /// Adds a header. Keys may repeat, and order is kept.
    pub fn header(mut self, key: impl Into<Name<'a>>, value: impl Into<Data<'a>>) -> Self {
        self.headers.push((key.into(), Some(value.into())));
        self
    }

    /// Adds a header whose value is null.
    pub fn null_header(mut self, key: impl Into<Name<'a>>) -> Self {
        self.headers.push((key.into(), None));
        self
    }

    /// About the bytes that it takes in a batch: a few too many rather than one too few, unless the timestamps of a
    /// batch are more than eight seconds apart.
    pub(super) fn size_estimate(&self) -> usize {
        /// Attributes, timestamp, index and the count of headers.
        const REST: usize = 6;
        let field = |bytes: usize| bytes + length_size(bytes);
        let data = |data: &Option<Data<'_>>| data.as_ref().map_or(1, |data| field(data.as_slice().len()));
        let headers: usize = self.headers.iter().map(|(name, value)| field(name.as_str().len()) + data(value)).sum();
        field(REST + data(&self.key) + data(&self.value) + headers)
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

impl fmt::Debug for Record<'_> {
    /// Sizes, not contents: payloads may be secret, and large.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Record");
        debug.field("topic", &self.topic.as_str()).field("partition", &self.partition);
        debug.field("key_bytes", &self.key.as_ref().map(|key| key.as_slice().len()));
        debug.field("value_bytes", &self.value.as_ref().map(|value| value.as_slice().len()));
        debug.field("headers", &self.headers.len()).finish()
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
    pub(super) fn as_str(&self) -> &str {
        match &self.0 {
            Text::Borrowed(name) => name,
            Text::Shared(name) => name,
            Text::Topic(topic) => topic.name(),
        }
    }

    /// The topic that it was taken from.
    pub(super) fn topic(&self) -> Option<&'a ProducerTopic> {
        match self.0 {
            Text::Topic(topic) => Some(topic),
            _ => None,
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
                let headers = || {
                    record
                        .headers
                        .iter()
                        .map(|(name, value)| (name.as_str(), value.as_ref().map(|value| value.as_slice())))
                };
                let mut writer = BatchWriter::new(0);
                let empty = writer.size();
                for n in 0..100 {
                    let key = record.key.as_ref().map(|key| key.as_slice());
                    writer.append(n * 10, key, record.value.as_ref().map(|value| value.as_slice()), headers()).unwrap();
                }
                let (real, estimate) = (writer.size() - empty, record.size_estimate() * 100);
                assert!((real..=real + 300).contains(&estimate), "{size}: {estimate} for {real}");
            }
        }
    }
}
