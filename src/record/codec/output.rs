//! Where codecs decompress to.

use bytes::Bytes;

use super::limits::Limits;
use crate::record::error::RecordError;

/// What is kept from batch to batch: beyond this, a buffer goes with its batch.
pub const KEPT: usize = 2 << 20;
/// The smallest step by which the buffer grows.
const STEP: usize = 64 << 10;

/// A buffer that grows with what is really written, up to a limit.
///
/// ```text
///   | filled               | room         |            the buffer is initialised once, and written over and over
///   '- at most `limit` -------------'- 1 -'            the byte behind the limit tells full from too full
/// ```
/// It is handed out as it is, and comes back when the batch's readers are done with it, which they mostly are before the
/// next batch is decompressed. While they are not, the next batch gets a buffer of its own.
///
/// Invariants: `filled <= bytes.len()`, `filled <= limit` after every `advance` that went well, and while something is
/// `lent`, `bytes` is empty.
#[derive(Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// All of the buffer that the last batch is in.
    lent: Option<Bytes>,
    /// How large the last batch was, as far as it is worth knowing.
    expected: usize,
    filled: usize,
    limits: Limits,
    /// Bytes that are decompressed, all of them.
    input: usize,
}

impl Output {
    /// Begins a batch of `input` bytes.
    pub fn begin(&mut self, input: usize, limits: Limits) {
        // Its memory is zeroed and warm, and nobody else's any more.
        if let Some(lent) = self.lent.take().filter(Bytes::is_unique) {
            self.bytes = lent.into();
        }
        self.filled = 0;
        self.limits = limits;
        self.input = input;
    }

    /// Whether the next batch can have the last one's memory.
    pub fn is_free(&self) -> bool {
        self.lent.as_ref().is_none_or(Bytes::is_unique)
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// For a codec that says when it is done: at least one byte of room, and one beyond the limit at most.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.filled == self.bytes.len() {
            // Records hardly ever compress to less than a quarter, and doubling finds the rest.
            let start = self.input.saturating_mul(4).max(STEP);
            self.grow(self.filled.saturating_mul(2).max(start));
        }
        let end = self.bytes.len().min(self.limit().saturating_add(1));
        self.bytes.get_mut(self.filled..end).unwrap_or_default()
    }

    /// For a codec that knows how much it needs: `wanted` bytes of room, or fewer if they exceed the limit; and the
    /// bytes so far.
    pub fn room(&mut self, wanted: usize) -> (&[u8], &mut [u8]) {
        let wanted = wanted.min(self.limit().saturating_sub(self.filled));
        let end = self.filled.saturating_add(wanted);
        if end > self.bytes.len() {
            self.grow(end.max(self.filled.saturating_mul(2)));
        }
        match self.bytes.split_at_mut_checked(self.filled) {
            Some((filled, room)) => (filled, room.get_mut(..wanted).unwrap_or_default()),
            None => (&[], &mut []),
        }
    }

    /// Bytes that may still be written.
    pub fn left(&self) -> usize {
        self.limit().saturating_sub(self.filled)
    }

    /// `count` bytes of the room were written.
    pub fn advance(&mut self, count: usize) -> Result<(), RecordError> {
        self.filled = self.filled.saturating_add(count).min(self.bytes.len());
        if self.filled > self.limit() { Err(self.too_large()) } else { Ok(()) }
    }

    /// That the limit is too little for this batch.
    pub fn too_large(&self) -> RecordError {
        self.limits.error(self.input)
    }

    /// What was written from `start` on.
    pub fn since(&self, start: usize) -> &[u8] {
        self.bytes.get(start..self.filled).unwrap_or_default()
    }

    /// Ends the batch.
    pub fn take(&mut self) -> Bytes {
        self.expected = self.filled.min(KEPT);
        if self.filled > KEPT {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.truncate(self.filled);
            bytes.shrink_to_fit();
            return bytes.into();
        }
        // Who keeps a record keeps the whole buffer, so it must not be much larger than its batch.
        if self.filled < self.bytes.len() / 2 {
            return Bytes::copy_from_slice(self.since(0));
        }
        let all = Bytes::from(std::mem::take(&mut self.bytes));
        let batch = all.slice(..self.filled);
        self.lent = Some(all);
        batch
    }

    /// Ends a batch that came to nothing.
    pub fn abandon(&mut self) {
        self.filled = 0;
        if self.bytes.len() > KEPT {
            self.bytes = Vec::new();
        }
    }

    fn limit(&self) -> usize {
        self.limits.of(self.input)
    }

    /// To `size` bytes, but not beyond the limit and one; and once it is past half of it, all the way. So the last move,
    /// when there are two buffers, takes one and a half times the limit.
    fn grow(&mut self, size: usize) {
        let limit = self.limit();
        let size = if self.bytes.is_empty() { size.max(self.expected) } else { size };
        let size = if size > limit / 2 { limit.saturating_add(1) } else { size };
        // `resize` alone would round up to a power of two.
        self.bytes.reserve_exact(size.saturating_sub(self.bytes.len()));
        self.bytes.resize(size.max(self.bytes.len()), 0);
    }
}
