//! Records from behind a codec.

use bytes::Bytes;

#[cfg(feature = "gzip")]
use super::gzip;
use super::limits::Limits;
#[cfg(feature = "lz4")]
use super::lz4;
use super::output::Output;
#[cfg(feature = "snappy")]
use super::snappy;
#[cfg(feature = "zstd")]
use super::zstd;
use crate::record::error::RecordError;
use crate::record::header::{Compression, MAGIC};

/// Decompresses one batch after the other, with tables and a buffer that it keeps.
#[derive(Default)]
pub struct Decompressor {
    #[cfg(feature = "gzip")]
    gzip: gzip::Decompressor,
    #[cfg(feature = "zstd")]
    zstd: zstd::Decompressor,
    output: Output,
}

impl Decompressor {
    /// Allocates nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// All that `input` decompresses to, unless that is more than `limits` allow, or `input` ends early.
    ///
    /// While it runs, and whatever `input` holds, there is memory for what was decompressed so far, one and a half times
    /// the limit when that moves to a larger buffer; with zstd as much again for the frame's window, if that is as large.
    ///
    /// The memory of the last batch, if it was 2 MiB or less, is written over as soon as nobody holds what was returned.
    pub fn decompress(&mut self, codec: Compression, input: &[u8], limits: Limits) -> Result<Bytes, RecordError> {
        self.decompress_in(MAGIC, codec, input, limits)
    }

    /// Whether nobody holds what was returned last: then the next batch costs no new memory.
    pub fn is_free(&self) -> bool {
        self.output.is_free()
    }

    /// The same for what a batch or message of this format holds: the oldest one has an lz4 of its own.
    pub(in crate::record) fn decompress_in(
        &mut self,
        magic: i8,
        codec: Compression,
        input: &[u8],
        limits: Limits,
    ) -> Result<Bytes, RecordError> {
        self.output.begin(input.len(), limits);
        match self.run(magic, codec, input) {
            Ok(()) => Ok(self.output.take()),
            Err(error) => {
                self.output.abandon();
                Err(error)
            }
        }
    }

    #[cfg_attr(not(feature = "lz4"), allow(unused_variables, reason = "only lz4 depends on the format"))]
    fn run(&mut self, magic: i8, codec: Compression, input: &[u8]) -> Result<(), RecordError> {
        let output = &mut self.output;
        #[allow(unreachable_patterns, reason = "unless a codec is left out")]
        match codec {
            Compression::None => {
                let (_, room) = output.room(input.len());
                if room.len() < input.len() {
                    return Err(output.too_large());
                }
                room.copy_from_slice(input);
                output.advance(input.len())
            }
            #[cfg(feature = "gzip")]
            Compression::Gzip => self.gzip.decompress(input, output),
            #[cfg(feature = "snappy")]
            Compression::Snappy => snappy::decompress(input, output),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => lz4::decompress(input, output, magic),
            #[cfg(feature = "zstd")]
            Compression::Zstd => self.zstd.decompress(input, output),
            missing => Err(RecordError::CodecMissing(missing)),
        }
    }
}
