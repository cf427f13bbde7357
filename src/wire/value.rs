//! The values of the protocol that are no tables: numbers, strings, bytes, lists, and null.

use std::sync::Arc;

use bytes::Bytes;

use super::cursor::{DecodeError, EncodeError, Reader, Writer};
use super::error_code::ErrorCode;
use super::in_place::InPlace;
use super::message::{Context, Kind, Struct, Wire};

/// The bytes of record batches: Kafka's type `records`, kept apart from plain `bytes` as its schemas do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records(pub Bytes);

/// Kafka's 16-byte ids. All zeroes is "none".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    pub const ZERO: Self = Self([0; 16]);

    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl std::fmt::Debug for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

macro_rules! integer {
    ($($ty:ty, $name:literal;)*) => {$(
        impl Wire for $ty {
            const KIND: Kind = Kind::Primitive($name);

            fn encode(&self, writer: &mut Writer, _: Context) -> Result<(), EncodeError> {
                writer.slice(&self.to_be_bytes());
                Ok(())
            }

            fn decode(reader: &mut Reader<'_>, _: Context) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(reader.array()?))
            }

            fn min_size(_: Context) -> usize {
                size_of::<Self>()
            }

            #[cfg(feature = "__internals")]
            fn arbitrary(u: &mut arbitrary::Unstructured<'_>, _: Context) -> arbitrary::Result<Self> {
                // The ends of the range and -1 are most fields' defaults: noise would hardly ever meet them.
                match u.int_in_range(0..=15u8)? {
                    0 => Ok(Self::MIN),
                    1 => Ok(Self::MAX),
                    2 => Ok(Self::from_be_bytes([0; size_of::<Self>()])),
                    3 => Ok(Self::from_be_bytes([0xff; size_of::<Self>()])),
                    _ => u.arbitrary(),
                }
            }
        }
    )*};
}

integer! {
    i8, "int8";
    i16, "int16";
    u16, "uint16";
    i32, "int32";
    u32, "uint32";
    i64, "int64";
    f64, "float64";
}

impl Wire for bool {
    const KIND: Kind = Kind::Primitive("bool");

    fn encode(&self, writer: &mut Writer, _: Context) -> Result<(), EncodeError> {
        writer.u8(u8::from(*self));
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>, _: Context) -> Result<Self, DecodeError> {
        Ok(reader.i8()? != 0)
    }

    fn min_size(_: Context) -> usize {
        1
    }

    #[cfg(feature = "__internals")]
    fn arbitrary(u: &mut arbitrary::Unstructured<'_>, _: Context) -> arbitrary::Result<Self> {
        u.arbitrary()
    }
}

impl Wire for ErrorCode {
    const KIND: Kind = Kind::Primitive("int16");

    fn encode(&self, writer: &mut Writer, _: Context) -> Result<(), EncodeError> {
        writer.i16(self.0);
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>, _: Context) -> Result<Self, DecodeError> {
        Ok(Self(reader.i16()?))
    }

    fn min_size(_: Context) -> usize {
        2
    }

    #[cfg(feature = "__internals")]
    fn arbitrary(u: &mut arbitrary::Unstructured<'_>, _: Context) -> arbitrary::Result<Self> {
        Ok(Self(u.arbitrary()?))
    }
}

impl Wire for Uuid {
    const KIND: Kind = Kind::Primitive("uuid");

    fn encode(&self, writer: &mut Writer, _: Context) -> Result<(), EncodeError> {
        writer.slice(&self.0);
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>, _: Context) -> Result<Self, DecodeError> {
        Ok(Self(reader.array()?))
    }

    fn min_size(_: Context) -> usize {
        16
    }

    #[cfg(feature = "__internals")]
    fn arbitrary(u: &mut arbitrary::Unstructured<'_>, _: Context) -> arbitrary::Result<Self> {
        Ok(Self(u.arbitrary()?))
    }
}

/// Values behind a length: strings, bytes, records and lists share how null and the length are written.
pub trait Counted: Sized {
    const KIND: Kind;
    /// Whether versions that are not flexible write the length in two bytes (strings) or four.
    const SHORT: bool;

    fn count(&self) -> usize;
    fn encode_items(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError>;
    fn decode_items(reader: &mut Reader<'_>, len: usize, cx: Context) -> Result<Self, DecodeError>;
    /// As [`Wire::skip`].
    fn skip_items(reader: &mut Reader<'_>, len: usize, cx: Context) -> Result<(), DecodeError> {
        Self::decode_items(reader, len, cx).map(drop)
    }
    #[cfg(feature = "__internals")]
    fn arbitrary_items(u: &mut arbitrary::Unstructured<'_>, cx: Context) -> arbitrary::Result<Self>;
}

macro_rules! with_length {
    ($([$($generics:tt)*] $ty:ty;)*) => {$(
        impl<$($generics)*> Wire for $ty {
            const KIND: Kind = <Self as Counted>::KIND;

            fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
                writer.length(Some(Counted::count(self)), cx.flexible, Self::SHORT)?;
                self.encode_items(writer, cx)
            }

            fn decode(reader: &mut Reader<'_>, cx: Context) -> Result<Self, DecodeError> {
                let len = reader.length(cx.flexible, Self::SHORT)?.ok_or(DecodeError::UnexpectedNull)?;
                Self::decode_items(reader, len, cx)
            }

            fn skip(reader: &mut Reader<'_>, cx: Context) -> Result<(), DecodeError> {
                let len = reader.length(cx.flexible, Self::SHORT)?.ok_or(DecodeError::UnexpectedNull)?;
                Self::skip_items(reader, len, cx)
            }

            fn min_size(cx: Context) -> usize {
                if cx.flexible { 1 } else if Self::SHORT { 2 } else { 4 }
            }

            #[cfg(feature = "__internals")]
            fn arbitrary(u: &mut arbitrary::Unstructured<'_>, cx: Context) -> arbitrary::Result<Self> {
                Self::arbitrary_items(u, cx)
            }
        }

        impl<$($generics)*> Wire for Option<$ty> {
            const KIND: Kind = Kind::Nullable(&<$ty as Counted>::KIND);

            fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
                match self {
                    Some(value) => value.encode(writer, cx),
                    None => writer.length(None, cx.flexible, <$ty>::SHORT),
                }
            }

            fn decode(reader: &mut Reader<'_>, cx: Context) -> Result<Self, DecodeError> {
                match reader.length(cx.flexible, <$ty>::SHORT)? {
                    Some(len) => Ok(Some(<$ty>::decode_items(reader, len, cx)?)),
                    None if cx.nullable => Ok(None),
                    None => Err(DecodeError::UnexpectedNull),
                }
            }

            fn skip(reader: &mut Reader<'_>, cx: Context) -> Result<(), DecodeError> {
                match reader.length(cx.flexible, <$ty>::SHORT)? {
                    Some(len) => <$ty>::skip_items(reader, len, cx),
                    None if cx.nullable => Ok(()),
                    None => Err(DecodeError::UnexpectedNull),
                }
            }

            fn min_size(cx: Context) -> usize {
                <$ty as Wire>::min_size(cx)
            }

            fn is_forbidden_null(&self, cx: Context) -> bool {
                self.is_none() && !cx.nullable
            }

            #[cfg(feature = "__internals")]
            fn arbitrary(u: &mut arbitrary::Unstructured<'_>, cx: Context) -> arbitrary::Result<Self> {
                if cx.nullable && u.ratio(1, 4)? {
                    return Ok(None);
                }
                <$ty as Wire>::arbitrary(u, cx).map(Some)
            }
        }
    )*};
}

with_length! {
    [] Arc<str>;
    [] Bytes;
    [] Records;
    [T: Wire] Vec<T>;
    [T: Wire + Clone] InPlace<T>;
}

impl Counted for Arc<str> {
    const KIND: Kind = Kind::Primitive("string");
    const SHORT: bool = true;

    fn count(&self) -> usize {
        str::len(self)
    }

    fn encode_items(&self, writer: &mut Writer, _: Context) -> Result<(), EncodeError> {
        writer.slice(self.as_bytes());
        Ok(())
    }

    fn decode_items(reader: &mut Reader<'_>, len: usize, _: Context) -> Result<Self, DecodeError> {
        std::str::from_utf8(reader.take(len)?).map(Self::from).map_err(|_| DecodeError::NotUtf8)
    }

    fn skip_items(reader: &mut Reader<'_>, len: usize, _: Context) -> Result<(), DecodeError> {
        std::str::from_utf8(reader.take(len)?).map(drop).map_err(|_| DecodeError::NotUtf8)
    }

    #[cfg(feature = "__internals")]
    fn arbitrary_items(u: &mut arbitrary::Unstructured<'_>, _: Context) -> arbitrary::Result<Self> {
        u.arbitrary::<&str>().map(Self::from)
    }
}

impl Counted for Bytes {
    const KIND: Kind = Kind::Primitive("bytes");
    const SHORT: bool = false;

    fn count(&self) -> usize {
        Self::len(self)
    }

    fn encode_items(&self, writer: &mut Writer, _: Context) -> Result<(), EncodeError> {
        writer.bytes(self);
        Ok(())
    }

    fn decode_items(reader: &mut Reader<'_>, len: usize, _: Context) -> Result<Self, DecodeError> {
        reader.bytes(len)
    }

    fn skip_items(reader: &mut Reader<'_>, len: usize, _: Context) -> Result<(), DecodeError> {
        reader.take(len).map(drop)
    }

    #[cfg(feature = "__internals")]
    fn arbitrary_items(u: &mut arbitrary::Unstructured<'_>, _: Context) -> arbitrary::Result<Self> {
        u.arbitrary::<&[u8]>().map(Self::copy_from_slice)
    }
}

impl Counted for Records {
    const KIND: Kind = Kind::Primitive("records");
    const SHORT: bool = false;

    fn count(&self) -> usize {
        self.0.len()
    }

    fn encode_items(&self, writer: &mut Writer, _: Context) -> Result<(), EncodeError> {
        writer.bytes(&self.0);
        Ok(())
    }

    fn decode_items(reader: &mut Reader<'_>, len: usize, _: Context) -> Result<Self, DecodeError> {
        reader.bytes(len).map(Self)
    }

    fn skip_items(reader: &mut Reader<'_>, len: usize, _: Context) -> Result<(), DecodeError> {
        reader.take(len).map(drop)
    }

    #[cfg(feature = "__internals")]
    fn arbitrary_items(u: &mut arbitrary::Unstructured<'_>, cx: Context) -> arbitrary::Result<Self> {
        Bytes::arbitrary_items(u, cx).map(Self)
    }
}

impl<T: Wire> Counted for Vec<T> {
    const KIND: Kind = Kind::Array(&T::KIND);
    const SHORT: bool = false;

    fn count(&self) -> usize {
        Self::len(self)
    }

    fn encode_items(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
        let cx = Context { nullable: false, ..cx };
        self.iter().try_for_each(|item| item.encode(writer, cx))
    }

    fn decode_items(reader: &mut Reader<'_>, len: usize, cx: Context) -> Result<Self, DecodeError> {
        let cx = Context { nullable: false, ..cx };
        reader.check_count(len, T::min_size(cx))?;
        let mut items = Self::with_capacity(len);
        for _ in 0..len {
            items.push(T::decode(reader, cx)?);
        }
        Ok(items)
    }

    fn skip_items(reader: &mut Reader<'_>, len: usize, cx: Context) -> Result<(), DecodeError> {
        let cx = Context { nullable: false, ..cx };
        reader.check_count(len, T::min_size(cx))?;
        (0..len).try_for_each(|_| T::skip(reader, cx))
    }

    #[cfg(feature = "__internals")]
    fn arbitrary_items(u: &mut arbitrary::Unstructured<'_>, cx: Context) -> arbitrary::Result<Self> {
        let cx = Context { nullable: false, ..cx };
        let count = u.int_in_range(0..=3)?;
        (0..count).map(|_| T::arbitrary(u, cx)).collect()
    }
}

/// Null structs (KIP-893): where null is possible, a byte comes first, -1 for null and 1 for a struct.
impl<T: Struct> Wire for Option<T> {
    const KIND: Kind = Kind::Nullable(&T::KIND);

    fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError> {
        if cx.nullable {
            writer.u8(if self.is_some() { 1 } else { 0xff });
        }
        self.as_ref().map_or(Ok(()), |value| value.encode(writer, cx))
    }

    fn decode(reader: &mut Reader<'_>, cx: Context) -> Result<Self, DecodeError> {
        // Any byte but a negative one is a struct, as in Java.
        if cx.nullable && reader.i8()? < 0 {
            return Ok(None);
        }
        T::decode(reader, cx).map(Some)
    }

    fn min_size(cx: Context) -> usize {
        if cx.nullable { 1 } else { T::min_size(cx) }
    }

    fn is_forbidden_null(&self, cx: Context) -> bool {
        self.is_none() && !cx.nullable
    }

    #[cfg(feature = "__internals")]
    fn arbitrary(u: &mut arbitrary::Unstructured<'_>, cx: Context) -> arbitrary::Result<Self> {
        if cx.nullable && u.ratio(1, 4)? {
            return Ok(None);
        }
        T::arbitrary(u, cx).map(Some)
    }
}
