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

use bytes::Bytes;

use super::cursor::{DecodeError, EncodeError, Reader, Writer};
pub use super::in_place::InPlace;
pub use super::value::{Records, Uuid};

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
    /// Whether it decodes, without keeping anything of it: what `decode` refuses, this does.
    fn skip(reader: &mut Reader<'_>, cx: Context) -> Result<(), DecodeError> {
        Self::decode(reader, cx).map(drop)
    }
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

/// Tagged fields that the tables do not know: kept, and written back as they came.
///
/// Tags ascend, so unknown ones lie together between two known ones. Each such run is a slice of the frame, however many
/// there are of 2 bytes each; a struct without any has 8 bytes for them.
#[derive(Clone, Debug, Default)]
pub struct UnknownTags(Option<Box<Run>>);

#[derive(Clone, Debug)]
struct Run {
    /// ```text
    ///   | tag uvarint | size uvarint | bytes | tag | ...
    /// ```
    fields: Bytes,
    next: UnknownTags,
}

/// Runs may be cut in other places, and a length may be written longer than it has to be.
impl PartialEq for UnknownTags {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UnknownTags {}

impl Drop for UnknownTags {
    /// Nearly every struct has none, and need not call anything to learn that.
    #[inline]
    fn drop(&mut self) {
        #[cold]
        fn drop_run(run: Box<Run>) {
            drop(run);
        }
        if let Some(run) = self.0.take() {
            drop_run(run);
        }
    }
}

impl UnknownTags {
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds a field, which must have the highest tag so far.
    pub fn push(&mut self, tag: u32, bytes: Bytes) {
        let mut writer = Writer::new();
        writer.uvarint(tag);
        // More than 32 bits say does not fit into a frame either, which is where that is refused.
        writer.uvarint(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        writer.slice(&bytes);
        self.push_run(writer.into_segments().concat().into());
    }

    fn push_run(&mut self, fields: Bytes) {
        match &mut self.0 {
            Some(run) => run.next.push_run(fields),
            none => *none = Some(Box::new(Run { fields, next: Self::default() })),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, Bytes)> {
        let runs = std::iter::successors(self.0.as_deref(), |run| run.next.0.as_deref());
        runs.flat_map(|run| {
            let mut reader = Reader::new(&run.fields);
            // Ends with the run: what is in it was read, or written, before.
            std::iter::from_fn(move || {
                let (tag, size) = (reader.uvarint().ok()?, reader.uvarint().ok()?);
                Some((tag, reader.bytes(usize::try_from(size).ok()?).ok()?))
            })
        })
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

    #[inline]
    pub fn finish(self, unknown: &UnknownTags, writer: &mut Writer) -> Result<(), EncodeError> {
        if self.0.is_empty() && unknown.is_empty() {
            writer.u8(0);
            return Ok(());
        }
        self.finish_some(unknown, writer)
    }

    #[cold]
    fn finish_some(mut self, unknown: &UnknownTags, writer: &mut Writer) -> Result<(), EncodeError> {
        for (tag, bytes) in unknown.iter() {
            let mut kept = Writer::new();
            kept.bytes(&bytes);
            self.0.push((tag, kept));
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
#[inline]
pub fn read_tags<'a>(
    reader: &mut Reader<'a>,
    unknown: &mut UnknownTags,
    field: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, DecodeError>,
) -> Result<(), DecodeError> {
    walk_tags(reader, field, |fields| unknown.push_run(fields))
}

/// [`read_tags`], with each run of fields that `field` did not know given to `keep`.
#[inline]
pub fn walk_tags<'a>(
    reader: &mut Reader<'a>,
    field: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, DecodeError>,
    keep: impl FnMut(Bytes),
) -> Result<(), DecodeError> {
    // As nearly always: there are none.
    if reader.take_zero() { Ok(()) } else { walk_some_tags(reader, field, keep) }
}

#[cold]
fn walk_some_tags<'a>(
    reader: &mut Reader<'a>,
    mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, DecodeError>,
    mut keep: impl FnMut(Bytes),
) -> Result<(), DecodeError> {
    let count = reader.uvarint()?;
    let mut last = None;
    // Where the run begins that is under way.
    let mut run: Option<Reader<'a>> = None;
    let mut end = |run: Option<Reader<'a>>, at: &Reader<'a>| {
        let Some(mut run) = run else { return Ok(()) };
        run.bytes(run.remaining().saturating_sub(at.remaining())).map(&mut keep)
    };
    for _ in 0..count {
        let start = reader.clone();
        let tag = reader.uvarint()?;
        if last.is_some_and(|last| tag <= last) {
            return Err(DecodeError::TagOrder);
        }
        last = Some(tag);
        let size = reader.uvarint()?;
        let mut sub = reader.sub(usize::try_from(size).unwrap_or(usize::MAX))?;
        if field(tag, &mut sub)? {
            sub.finish()?;
            end(run.take(), &start)?;
        } else {
            run.get_or_insert(start);
        }
    }
    end(run, reader)
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
                #[inline]
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

                // Inline: what a build never sends or receives is then not compiled in either.
                #[inline]
                #[allow(unused_mut, unused_variables, reason = "a table may have no tagged or no plain fields")]
                fn encode(
                    &self,
                    writer: &mut $crate::wire::cursor::Writer,
                    cx: $crate::wire::message::Context,
                ) -> Result<(), $crate::wire::cursor::EncodeError> {
                    let mut tags = $crate::wire::message::TagWriter::default();
                    $({
                        const SPEC: $crate::wire::message::Spec = $crate::wire::message::spec!($($spec)*);
                        let default = || -> $ty { $crate::wire::message::default_of!($ty, $($default)?) };
                        $crate::wire::message::encode_field(
                            &self.$field, default, stringify!($field), SPEC, writer, &mut tags, cx,
                        )?;
                    })*
                    if cx.flexible {
                        tags.finish(&self.unknown, writer)?;
                    }
                    Ok(())
                }

                #[inline]
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

                #[inline]
                fn skip(
                    reader: &mut $crate::wire::cursor::Reader<'_>,
                    cx: $crate::wire::message::Context,
                ) -> Result<(), $crate::wire::cursor::DecodeError> {
                    $({
                        const SPEC: $crate::wire::message::Spec = $crate::wire::message::spec!($($spec)*);
                        if SPEC.tag.is_none() && SPEC.versions.contains(cx.version) {
                            let nullable = SPEC.nullable.contains(cx.version);
                            let cx = $crate::wire::message::Context { nullable, ..cx };
                            <$ty as $crate::wire::message::Wire>::skip(reader, cx)?;
                        }
                    })*
                    if !cx.flexible {
                        return Ok(());
                    }
                    $crate::wire::message::walk_tags(reader, |tag, sub| {
                        $({
                            const SPEC: $crate::wire::message::Spec = $crate::wire::message::spec!($($spec)*);
                            if SPEC.tag == Some(tag) && SPEC.versions.contains(cx.version) {
                                let nullable = SPEC.nullable.contains(cx.version);
                                let cx = $crate::wire::message::Context { nullable, ..cx };
                                return <$ty as $crate::wire::message::Wire>::skip(sub, cx).map(|()| true);
                            }
                        })*
                        Ok(false)
                    }, drop)
                }

                #[inline]
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

/// Writes one field where its spec puts it: in line, among the tags, or nowhere. Inline: of the specs, which are
/// constants, one of these branches remains.
#[inline]
pub fn encode_field<T: Wire + PartialEq>(
    value: &T,
    default: impl FnOnce() -> T,
    field: &'static str,
    spec: Spec,
    writer: &mut Writer,
    tags: &mut TagWriter,
    cx: Context,
) -> Result<(), EncodeError> {
    let cx = Context { nullable: spec.nullable.contains(cx.version), ..cx };
    if !spec.versions.contains(cx.version) {
        if spec.ignorable || *value == default() {
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
        Some(_) if *value == default() => Ok(()),
        Some(tag) => tags.add(tag, value, cx),
    }
}
