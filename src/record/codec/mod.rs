//! The codecs that a batch's records may be behind, each a crate feature, all of them without a line of C.
//!
//! ```text
//!   SealedBatch ── compress ──▶ SealedBatch            unless that makes it no smaller
//!   RawBatch ── decompress ──▶ Unpacked ── records ──▶ RecordView      stopped at `Limits`, while it happens
//! ```
//! Both directions keep their state (tables, windows, a buffer) from one batch to the next. What the records decompress
//! to is found out by decompressing: sizes that the bytes claim are believed for nothing but a hint.

mod compressor;
mod decompressor;
#[cfg(feature = "gzip")]
mod gzip;
#[cfg(any(feature = "gzip", feature = "snappy", feature = "lz4"))]
mod input;
mod limits;
#[cfg(feature = "lz4")]
mod lz4;
mod output;
mod scratch;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

pub use compressor::Compressor;
pub use decompressor::Decompressor;
pub use limits::Limits;
