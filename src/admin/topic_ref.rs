//! What a topic is called: by its name, or by the id that tells its incarnations apart.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::wire::message::Uuid;

/// The id of a topic, which a topic that is deleted and created again does not keep (KIP-516).
///
/// Printed and parsed as Kafka's tools do: base64 in the URL's alphabet, 22 characters.
///
/// ```
/// use milena::admin::TopicId;
///
/// let id: TopicId = "ff7n2ZvmRfqTX6hPvrJ4Yg".parse().unwrap();
/// assert_eq!(id.to_string(), "ff7n2ZvmRfqTX6hPvrJ4Yg");
/// assert_eq!(id.as_bytes()[0], 0x7d);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId([u8; 16]);

impl TopicId {
    /// An id from its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's bytes, as the protocol has them.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// All zeroes is "none".
    pub(super) fn from_wire(id: Uuid) -> Option<Self> {
        (!id.is_zero()).then_some(Self(id.0))
    }

    pub(super) fn to_wire(self) -> Uuid {
        Uuid(self.0)
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// 128 bits are 21 digits of six bits and one of two, which stands in its upper bits.
const DIGITS: u32 = 22;

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        for digit in 0..DIGITS {
            let value = if digit == 21 { bits << 4 } else { bits >> (122 - 6 * digit) };
            write!(f, "{}", char::from(ALPHABET[(value & 63) as usize]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TopicId {
    type Err = ParseTopicIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseTopicIdError { text: text.into() };
        let mut bits = 0u128;
        for (at, digit) in text.bytes().enumerate() {
            let value = ALPHABET.iter().position(|&letter| letter == digit).ok_or_else(wrong)? as u128;
            bits = match at {
                0..21 => bits << 6 | value,
                21 if value & 15 == 0 => bits << 2 | value >> 4,
                _ => return Err(wrong()),
            };
        }
        if text.len() == DIGITS as usize { Ok(Self(bits.to_be_bytes())) } else { Err(wrong()) }
    }
}

/// A text that is no [`TopicId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a topic id: 22 characters of base64 in the URL's alphabet are expected")]
pub struct ParseTopicIdError {
    text: String,
}

/// A topic, by name or by id. Made from either; ids need brokers of Kafka 2.8 or newer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TopicRef {
    /// Whatever topic has this name.
    Name(Arc<str>),
    /// This incarnation of a topic, and none after it.
    Id(TopicId),
}

impl fmt::Display for TopicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "topic `{name}`"),
            Self::Id(id) => write!(f, "topic id {id}"),
        }
    }
}

impl From<&str> for TopicRef {
    fn from(name: &str) -> Self {
        Self::Name(name.into())
    }
}

impl From<String> for TopicRef {
    fn from(name: String) -> Self {
        Self::Name(name.into())
    }
}

impl From<Arc<str>> for TopicRef {
    fn from(name: Arc<str>) -> Self {
        Self::Name(name)
    }
}

impl From<TopicId> for TopicRef {
    fn from(id: TopicId) -> Self {
        Self::Id(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_kafka_prints_them_and_parse_back() {
        // As `org.apache.kafka.common.Uuid` writes them.
        for (bytes, text) in [
            ([0u8; 16], "AAAAAAAAAAAAAAAAAAAAAA"),
            ([0xff; 16], "_____________________w"),
            (1u128.to_be_bytes(), "AAAAAAAAAAAAAAAAAAAAAQ"),
            (0x0123_4567_89ab_cdef_fedc_ba98_7654_3210u128.to_be_bytes(), "ASNFZ4mrze_-3LqYdlQyEA"),
        ] {
            assert_eq!(TopicId(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(TopicId(bytes)));
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let ascii = "a".repeat(23);
        for text in ["", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAA==", &ascii, "ö"] {
            let error = text.parse::<TopicId>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
