//! Lists that stay in their frame.

use std::fmt;

use bytes::Bytes;

use super::cursor::{DecodeError, EncodeError, Reader, Writer};
use super::message::{Context, Kind, Wire};
use super::value::Counted;

/// A list whose items are checked when its message is decoded, and decoded one by one when somebody walks it.
///
/// ```text
///   frame: | ... | count | item | item | item | ... |
///                        '----- a slice --------'         whatever the count is: 48 bytes
/// ```
/// An item of a produce or fetch answer is many times as large in memory as its smallest encoding. So a hostile frame
/// gets no memory out of its lists, and a sound one no allocation.
#[derive(Clone)]
pub struct InPlace<T>(Items<T>);

#[derive(Clone)]
enum Items<T> {
    Owned(Vec<T>),
    /// Invariant: `decode_items` went over them in this version.
    Frame {
        bytes: Bytes,
        count: u32,
        version: i16,
        flexible: bool,
    },
}

impl<T: Wire + Clone> InPlace<T> {
    pub fn len(&self) -> usize {
        match &self.0 {
            Items::Owned(items) => items.len(),
            Items::Frame { count, .. } => *count as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items, decoded while they are asked for.
    pub fn iter(&self) -> Walk<'_, T> {
        match &self.0 {
            Items::Owned(items) => Walk::Owned(items.iter()),
            Items::Frame { bytes, count, version, flexible } => {
                let cx = Context { version: *version, flexible: *flexible, nullable: false };
                Walk::Frame { reader: Reader::new(bytes), left: *count, cx }
            }
        }
    }
}

/// See [`InPlace::iter`].
#[derive(Clone)]
pub enum Walk<'a, T> {
    Owned(std::slice::Iter<'a, T>),
    Frame { reader: Reader<'a>, left: u32, cx: Context },
}

impl<T: Wire + Clone> Iterator for Walk<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Self::Owned(items) => items.next().cloned(),
            Self::Frame { reader, left, cx } => {
                *left = left.checked_sub(1)?;
                // Cannot fail: `decode_items` went this way.
                T::decode(reader, *cx).ok()
            }
        }
    }
}

impl<'a, T: Wire + Clone> IntoIterator for &'a InPlace<T> {
    type Item = T;
    type IntoIter = Walk<'a, T>;

    fn into_iter(self) -> Walk<'a, T> {
        self.iter()
    }
}

impl<T> From<Vec<T>> for InPlace<T> {
    fn from(items: Vec<T>) -> Self {
        Self(Items::Owned(items))
    }
}

impl<T> Default for InPlace<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T: Wire + Clone + PartialEq> PartialEq for InPlace<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<T: Wire + Clone + fmt::Debug> fmt::Debug for InPlace<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Wire + Clone> Counted for InPlace<T> {
    const KIND: Kind = Kind::Array(&T::KIND);
    const SHORT: bool = false;

    fn count(&self) -> usize {
        self.len()
    }

    fn encode_items(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
        let cx = Context { nullable: false, ..cx };
        self.iter().try_for_each(|item| item.encode(writer, cx))
    }

    fn decode_items(reader: &mut Reader<'_>, len: usize, cx: Context) -> Result<Self, DecodeError> {
        let Context { version, flexible, .. } = cx;
        let mut items = reader.clone();
        Vec::<T>::skip_items(reader, len, cx)?;
        let bytes = items.bytes(items.remaining().saturating_sub(reader.remaining()))?;
        // A length is at most 32 bits.
        let count = u32::try_from(len).unwrap_or(u32::MAX);
        Ok(Self(Items::Frame { bytes, count, version, flexible }))
    }

    fn skip_items(reader: &mut Reader<'_>, len: usize, cx: Context) -> Result<(), DecodeError> {
        Vec::<T>::skip_items(reader, len, cx)
    }

    #[cfg(feature = "__internals")]
    fn arbitrary_items(u: &mut arbitrary::Unstructured<'_>, cx: Context) -> arbitrary::Result<Self> {
        Vec::arbitrary_items(u, cx).map(Self::from)
    }
}
