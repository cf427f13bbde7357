//! How much a batch may become.

use crate::record::error::RecordError;

/// What stops a decompression, before the output is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a batch's records, decompressed.
    pub max_output: usize,
    /// Bytes of output for each byte of input, beyond [`Self::RATIO_FROM`] bytes of output.
    pub ratio: usize,
}

impl Limits {
    /// Below this much output any ratio will do: a batch of equal records is no attack.
    pub const RATIO_FROM: usize = 8 << 20;

    /// What `compressed` bytes may become.
    pub fn of(&self, compressed: usize) -> usize {
        self.max_output.min(self.by_ratio(compressed))
    }

    /// Why that was too little.
    pub fn error(&self, compressed: usize) -> RecordError {
        if self.by_ratio(compressed) < self.max_output {
            RecordError::Ratio { compressed, ratio: self.ratio }
        } else {
            RecordError::TooLargeDecompressed { limit: self.max_output }
        }
    }

    fn by_ratio(&self, compressed: usize) -> usize {
        compressed.saturating_mul(self.ratio).max(Self::RATIO_FROM)
    }
}

impl Default for Limits {
    fn default() -> Self {
        // gzip, the second best at it, makes 1,032 bytes of one.
        Self { max_output: 32 << 20, ratio: 1_100 }
    }
}
