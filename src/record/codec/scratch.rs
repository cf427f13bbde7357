//! Where codecs compress to.

use super::output::KEPT;

/// A buffer that is initialised once, and written over and over.
#[derive(Default)]
pub struct Scratch {
    bytes: Vec<u8>,
    filled: usize,
}

impl Scratch {
    /// Begins with nothing, and room for `size` bytes in all.
    pub fn begin(&mut self, size: usize) {
        self.filled = 0;
        if self.bytes.len() < size || self.bytes.len() > KEPT.max(size) {
            self.bytes.resize(size, 0);
            self.bytes.shrink_to(KEPT.max(size));
        }
    }

    /// What is not written yet.
    pub fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// `count` bytes of the room were written.
    pub fn advance(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count).min(self.bytes.len());
    }

    /// Writes some bytes, as far as there is room.
    pub fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.room().get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
            self.advance(bytes.len());
        }
    }

    /// For a codec that appends to a vector.
    pub fn fill(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        write(&mut self.bytes);
        self.filled = self.bytes.len();
    }

    /// All that was written.
    pub fn written(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }
}
