//! Records behind a codec.

#[cfg(feature = "gzip")]
use super::gzip;
#[cfg(feature = "lz4")]
use super::lz4;
use super::scratch::Scratch;
#[cfg(feature = "snappy")]
use super::snappy;
#[cfg(feature = "zstd")]
use super::zstd;
use crate::record::error::RecordError;
use crate::record::header::Compression;

/// Compresses one batch after the other, with tables and a buffer that it keeps.
#[derive(Default)]
pub struct Compressor {
    #[cfg(feature = "gzip")]
    gzip: gzip::Compressor,
    #[cfg(feature = "snappy")]
    snappy: snappy::Compressor,
    #[cfg(feature = "lz4")]
    lz4: lz4::Compressor,
    #[cfg(feature = "zstd")]
    zstd: zstd::Compressor,
    scratch: Scratch,
}

impl Compressor {
    /// Allocates nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// All of `input` as `codec` says it, whether or not that is shorter.
    ///
    /// `level` is one of [`Compression::levels`], or the nearest one is meant; `None` is the codec's default.
    pub fn compress(&mut self, codec: Compression, level: Option<i32>, input: &[u8]) -> Result<&[u8], RecordError> {
        #[allow(unused_variables, reason = "only a codec that is built in reads it")]
        let level = codec.level(level);
        #[allow(unreachable_patterns, reason = "unless a codec is left out")]
        match codec {
            Compression::None => {
                self.scratch.begin(input.len());
                self.scratch.put(input);
            }
            #[cfg(feature = "gzip")]
            Compression::Gzip => self.gzip.compress(level, input, &mut self.scratch)?,
            #[cfg(feature = "snappy")]
            Compression::Snappy => self.snappy.compress(input, &mut self.scratch)?,
            #[cfg(feature = "lz4")]
            Compression::Lz4 => self.lz4.compress(input, &mut self.scratch)?,
            #[cfg(feature = "zstd")]
            Compression::Zstd => self.zstd.compress(level, input, &mut self.scratch),
            missing => return Err(RecordError::CodecMissing(missing)),
        }
        Ok(self.scratch.written())
    }
}
