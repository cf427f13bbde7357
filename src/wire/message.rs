//! The `message!` macro: a table per message, in the words of Kafka's own schemas, from which everything else follows.
//!
//! ```text
//! message! {
//!     api LIST_OFFSETS = 2 [1-10] flexible [6+]: ListOffsetsRequest => ListOffsetsResponse;
//!
//!     struct ListOffsetsRequest {
//!         replica_id: i32 [0+] = -1;
//!         isolation_level: i8 [2+];
//!         topics: Vec<ListOffsetsTopic> [0+];
//!         timeout_ms: i32 [10+, ignorable];
//!     }
//! }
//! ```
//! In brackets: the versions that have the field (`4+`, `0-8`, `3`), then `null 1+` (the versions in which it may be
//! null), `tag 0` (a tagged field, KIP-482), `ignorable` (a version without the field may drop it silently; without
//! this, sending a value other than the default is an error, as in Java). After `=`: the default, if it is not zero,
//! empty or null. The type says the rest: `Option<_>` is what can be null. A line `data Name [0-3];` instead of `api` is
//! for a message that travels inside another one ([`Embedded`]).
//!
//! A table yields the struct (with the tagged fields that this version of milena does not know, kept), `Default`,
//! encode, decode, the smallest encoding (which bounds list counts before anything is reserved), a description of
//! itself to compare with Kafka's schemas, and random values for fuzzing.

use std::sync::Arc;

use bytes::Bytes;

use super::cursor::{DecodeError, EncodeError, Reader, Writer};
use super::error_code::ErrorCode;

/// What a field needs to know of the message around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    pub version: i16,
    /// Compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
    /// Whether this field may be null in this version.
    pub nullable: bool,
}

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub first: i16,
    pub last: i16,
}

impl Versions {
    pub const NONE: Self = Self { first: 0, last: -1 };

    pub const fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    /// The versions that both know, if there are any.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let both = Self { first: self.first.max(other.first), last: self.last.min(other.last) };
        (both.first <= both.last).then_some(both)
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// What stands in a field's brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    pub versions: Versions,
    pub nullable: Versions,
    pub tag: Option<u32>,
    pub ignorable: bool,
}

impl Spec {
    pub const EMPTY: Self = Self { versions: Versions::NONE, nullable: Versions::NONE, tag: None, ignorable: false };

    pub const fn versions(mut self, first: i16, last: i16) -> Self {
        self.versions = Versions { first, last };
        self
    }

    pub const fn null(mut self, first: i16, last: i16) -> Self {
        self.nullable = Versions { first, last };
        self
    }

    pub const fn tag(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    pub const fn ignorable(mut self) -> Self {
        self.ignorable = true;
        self
    }
}

/// A type, as Kafka's schemas name it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Primitive(&'static str),
    Array(&'static Self),
    /// `Option<_>`: null in the versions of [`Spec::nullable`].
    Nullable(&'static Self),
    Struct(&'static str, &'static [Field]),
}

/// One line of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field {
    pub name: &'static str,
    pub kind: &'static Kind,
    pub spec: Spec,
    pub default: Option<&'static str>,
}

/// A value of the protocol: a primitive, a list, or a struct of a table.
pub trait Wire: Sized {
    const KIND: Kind;

    fn encode(&self, writer: &mut Writer, cx: Context) -> Result<(), EncodeError>;
    fn decode(reader: &mut Reader<'_>, cx: Context) -> Result<Self, DecodeError>;
    /// The smallest encoding in bytes; what bounds a list count.
    fn min_size(cx: Context) -> usize;

    /// Whether this is the null that `cx` forbids. Only `Option` can be.
    fn is_forbidden_null(&self, _cx: Context) -> bool {
        false
    }

    /// A random value that is legal in this version.
    #[cfg(feature = "__internals")]
    fn arbitrary(u: &mut arbitrary::Unstructured<'_>, cx: Context) -> arbitrary::Result<Self>;
}

/// A request with its place in the protocol and its answer.
pub trait Request: Wire + Send + 'static {
    const API: super::api::ApiKey;
    /// The versions that the tables describe.
    const VERSIONS: Versions;
    /// The first flexible version.
    const FLEXIBLE: Versions;
    type Response: Wire + Send + 'static;
}

/// A message inside a bytes field of another, behind an `i16` version: what group members tell each other through their
/// coordinator. Never flexible.
pub trait Embedded: Wire + Send + 'static {
    /// The versions that the table describes.
    const VERSIONS: Versions;
}

/// What a table describes, apart from primitives and lists: the only values that can be null without a length.
pub trait Struct: Wire {}

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

/// Tagged fields that the tables do not know: kept, and written back as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::box_collection, reason = "8 bytes in every struct instead of 24, for what is almost never there")]
pub struct UnknownTags(Option<Box<Vec<(u32, Bytes)>>>);

impl UnknownTags {
    pub fn push(&mut self, tag: u32, bytes: Bytes) {
        let tags = self.0.get_or_insert_default();
        if tags.is_empty() {
            // A list would begin with room for four, 160 bytes for the two that a hostile peer sends.
            tags.reserve_exact(1);
        }
        tags.push((tag, bytes));
    }

    pub fn iter(&self) -> impl Iterator<Item = &(u32, Bytes)> {
        self.0.iter().flat_map(|tags| tags.iter())
    }
}

/// Collects the tagged fields of one struct and writes them in ascending order, as KIP-482 asks.
#[derive(Debug, Default)]
pub struct TagWriter(Vec<(u32, Writer)>);

impl TagWriter {
    pub fn add<T: Wire>(&mut self, tag: u32, value: &T, cx: Context) -> Result<(), EncodeError> {
        let mut writer = Writer::new();
        value.encode(&mut writer, cx)?;
        self.0.push((tag, writer));
        Ok(())
    }

    pub fn finish(mut self, unknown: &UnknownTags, writer: &mut Writer) -> Result<(), EncodeError> {
        for (tag, bytes) in unknown.iter() {
            let mut kept = Writer::new();
            kept.bytes(bytes);
            self.0.push((*tag, kept));
        }
        self.0.sort_by_key(|(tag, _)| *tag);
        let too_long = EncodeError::TooLong;
        writer.uvarint(u32::try_from(self.0.len()).map_err(|_| too_long(self.0.len()))?);
        for (tag, field) in self.0 {
            writer.uvarint(tag);
            writer.uvarint(u32::try_from(field.size()).map_err(|_| too_long(field.size()))?);
            writer.append(field);
        }
        Ok(())
    }
}

/// Walks the tagged fields of one struct; `field` takes the ones it knows and returns whether it did.
pub fn read_tags<'a>(
    reader: &mut Reader<'a>,
    unknown: &mut UnknownTags,
    mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, DecodeError>,
) -> Result<(), DecodeError> {
    let count = reader.uvarint()?;
    let mut last = None;
    for _ in 0..count {
        let tag = reader.uvarint()?;
        if last.is_some_and(|last| tag <= last) {
            return Err(DecodeError::TagOrder);
        }
        last = Some(tag);
        let size = reader.uvarint()?;
        let mut sub = reader.sub(usize::try_from(size).unwrap_or(usize::MAX))?;
        if field(tag, &mut sub)? {
            sub.finish()?;
        } else {
            unknown.push(tag, sub.rest());
        }
    }
    Ok(())
}

macro_rules! spec {
    (@ $spec:expr;) => { $spec };
    (@ $spec:expr; null $first:literal + $(, $($rest:tt)*)?) => {
        $crate::wire::message::spec!(@ $spec.null($first, i16::MAX); $($($rest)*)?)
    };
    (@ $spec:expr; null $first:literal - $last:literal $(, $($rest:tt)*)?) => {
        $crate::wire::message::spec!(@ $spec.null($first, $last); $($($rest)*)?)
    };
    (@ $spec:expr; null $only:literal $(, $($rest:tt)*)?) => {
        $crate::wire::message::spec!(@ $spec.null($only, $only); $($($rest)*)?)
    };
    (@ $spec:expr; tag $tag:literal $(, $($rest:tt)*)?) => {
        $crate::wire::message::spec!(@ $spec.tag($tag); $($($rest)*)?)
    };
    (@ $spec:expr; ignorable $(, $($rest:tt)*)?) => {
        $crate::wire::message::spec!(@ $spec.ignorable(); $($($rest)*)?)
    };
    (@ $spec:expr; $first:literal + $(, $($rest:tt)*)?) => {
        $crate::wire::message::spec!(@ $spec.versions($first, i16::MAX); $($($rest)*)?)
    };
    (@ $spec:expr; $first:literal - $last:literal $(, $($rest:tt)*)?) => {
        $crate::wire::message::spec!(@ $spec.versions($first, $last); $($($rest)*)?)
    };
    (@ $spec:expr; $only:literal $(, $($rest:tt)*)?) => {
        $crate::wire::message::spec!(@ $spec.versions($only, $only); $($($rest)*)?)
    };
    ($($all:tt)*) => { $crate::wire::message::spec!(@ $crate::wire::message::Spec::EMPTY; $($all)*) };
}

macro_rules! default_of {
    ($ty:ty,) => {
        <$ty as Default>::default()
    };
    ($ty:ty, $default:expr) => {
        $default
    };
}

macro_rules! default_text {
    () => {
        None
    };
    ($default:expr) => {
        Some(stringify!($default))
    };
}

macro_rules! message {
    (
        $(api $api:ident = $key:literal [$($versions:tt)*] flexible [$($flexible:tt)*]: $request:ident => $response:ident;)*
        $(data $data:ident [$($data_versions:tt)*];)*
        $(
            $(#[$meta:meta])*
            struct $name:ident {
                $($(#[$field_meta:meta])* $field:ident: $ty:ty [$($spec:tt)*] $(= $default:expr)?;)*
            }
        )*
    ) => {
        $(
            impl $crate::wire::message::Request for $request {
                const API: $crate::wire::api::ApiKey = $crate::wire::api::ApiKey::$api;
                const VERSIONS: $crate::wire::message::Versions = $crate::wire::message::spec!($($versions)*).versions;
                const FLEXIBLE: $crate::wire::message::Versions = $crate::wire::message::spec!($($flexible)*).versions;
                type Response = $response;
            }
            const _: () = assert!($crate::wire::api::ApiKey::$api.0 == $key);
        )*
        $(
            impl $crate::wire::message::Embedded for $data {
                const VERSIONS: $crate::wire::message::Versions =
                    $crate::wire::message::spec!($($data_versions)*).versions;
            }
        )*
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $name {
                $($(#[$field_meta])* pub $field: $ty,)*
                pub unknown: $crate::wire::message::UnknownTags,
            }

            impl Default for $name {
                fn default() -> Self {
                    Self {
                        $($field: $crate::wire::message::default_of!($ty, $($default)?),)*
                        unknown: Default::default(),
                    }
                }
            }

            impl $crate::wire::message::Struct for $name {}

            impl $crate::wire::message::Wire for $name {
                const KIND: $crate::wire::message::Kind = $crate::wire::message::Kind::Struct(stringify!($name), &[
                    $($crate::wire::message::Field {
                        name: stringify!($field),
                        kind: &<$ty as $crate::wire::message::Wire>::KIND,
                        spec: $crate::wire::message::spec!($($spec)*),
                        default: $crate::wire::message::default_text!($($default)?),
                    },)*
                ]);

                #[allow(unused_mut, unused_variables, reason = "a table may have no tagged or no plain fields")]
                fn encode(
                    &self,
                    writer: &mut $crate::wire::cursor::Writer,
                    cx: $crate::wire::message::Context,
                ) -> Result<(), $crate::wire::cursor::EncodeError> {
                    let mut tags = $crate::wire::message::TagWriter::default();
                    $({
                        const SPEC: $crate::wire::message::Spec = $crate::wire::message::spec!($($spec)*);
                        let default: $ty = $crate::wire::message::default_of!($ty, $($default)?);
                        $crate::wire::message::encode_field(
                            &self.$field, default, stringify!($field), SPEC, writer, &mut tags, cx,
                        )?;
                    })*
                    if cx.flexible {
                        tags.finish(&self.unknown, writer)?;
                    }
                    Ok(())
                }

                #[allow(unused_mut, unused_variables, reason = "a table may have no tagged or no plain fields")]
                fn decode(
                    reader: &mut $crate::wire::cursor::Reader<'_>,
                    cx: $crate::wire::message::Context,
                ) -> Result<Self, $crate::wire::cursor::DecodeError> {
                    $(
                        let mut $field: $ty = {
                            const SPEC: $crate::wire::message::Spec = $crate::wire::message::spec!($($spec)*);
                            if SPEC.tag.is_none() && SPEC.versions.contains(cx.version) {
                                let nullable = SPEC.nullable.contains(cx.version);
                                $crate::wire::message::Wire::decode(
                                    reader, $crate::wire::message::Context { nullable, ..cx },
                                )?
                            } else {
                                $crate::wire::message::default_of!($ty, $($default)?)
                            }
                        };
                    )*
                    let mut unknown = $crate::wire::message::UnknownTags::default();
                    if cx.flexible {
                        $crate::wire::message::read_tags(reader, &mut unknown, |tag, sub| {
                            $({
                                const SPEC: $crate::wire::message::Spec = $crate::wire::message::spec!($($spec)*);
                                if SPEC.tag == Some(tag) && SPEC.versions.contains(cx.version) {
                                    let nullable = SPEC.nullable.contains(cx.version);
                                    $field = $crate::wire::message::Wire::decode(
                                        sub, $crate::wire::message::Context { nullable, ..cx },
                                    )?;
                                    return Ok(true);
                                }
                            })*
                            Ok(false)
                        })?;
                    }
                    Ok(Self { $($field,)* unknown })
                }

                fn min_size(cx: $crate::wire::message::Context) -> usize {
                    let mut size = usize::from(cx.flexible);
                    $({
                        const SPEC: $crate::wire::message::Spec = $crate::wire::message::spec!($($spec)*);
                        if SPEC.tag.is_none() && SPEC.versions.contains(cx.version) {
                            let nullable = SPEC.nullable.contains(cx.version);
                            let cx = $crate::wire::message::Context { nullable, ..cx };
                            size = size.saturating_add(<$ty as $crate::wire::message::Wire>::min_size(cx));
                        }
                    })*
                    size
                }

                #[cfg(feature = "__internals")]
                #[allow(unused_variables, reason = "an empty table draws nothing")]
                fn arbitrary(
                    u: &mut arbitrary::Unstructured<'_>,
                    cx: $crate::wire::message::Context,
                ) -> arbitrary::Result<Self> {
                    let mut value = Self::default();
                    $({
                        const SPEC: $crate::wire::message::Spec = $crate::wire::message::spec!($($spec)*);
                        if SPEC.versions.contains(cx.version) {
                            let nullable = SPEC.nullable.contains(cx.version);
                            let cx = $crate::wire::message::Context { nullable, ..cx };
                            value.$field = <$ty as $crate::wire::message::Wire>::arbitrary(u, cx)?;
                        }
                    })*
                    Ok(value)
                }
            }
        )*
    };
}

pub(in crate::wire) use {default_of, default_text, message, spec};

/// Writes one field where its spec puts it: in line, among the tags, or nowhere.
pub fn encode_field<T: Wire + PartialEq>(
    value: &T,
    default: T,
    field: &'static str,
    spec: Spec,
    writer: &mut Writer,
    tags: &mut TagWriter,
    cx: Context,
) -> Result<(), EncodeError> {
    let cx = Context { nullable: spec.nullable.contains(cx.version), ..cx };
    if !spec.versions.contains(cx.version) {
        if spec.ignorable || *value == default {
            return Ok(());
        }
        return Err(EncodeError::NotInVersion { field, version: cx.version });
    }
    if value.is_forbidden_null(cx) {
        return Err(EncodeError::NullInVersion { field, version: cx.version });
    }
    match spec.tag {
        None => value.encode(writer, cx),
        // A default is what a reader assumes of a tag that is missing.
        Some(_) if *value == default => Ok(()),
        Some(tag) => tags.add(tag, value, cx),
    }
}

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

    #[cfg(feature = "__internals")]
    fn arbitrary_items(u: &mut arbitrary::Unstructured<'_>, cx: Context) -> arbitrary::Result<Self> {
        let cx = Context { nullable: false, ..cx };
        let count = u.int_in_range(0..=3)?;
        (0..count).map(|_| T::arbitrary(u, cx)).collect()
    }
}
