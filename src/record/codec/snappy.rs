//! Snappy in the framing of xerial's snappy-java, or without any.
//!
//! ```text
//!   | 82 53 4e 41 50 50 59 00 | version 1 | compatible 1 |  length | block |  length | block | ...
//!                                  i32          i32          i32
//! ```

mod block;

use super::input::Input;
use super::output::Output;
use super::scratch::Scratch;
use crate::record::error::RecordError;
use crate::record::header::Compression;

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// Magic, version, the oldest version that can read it.
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// A block's size.
const HEAD: usize = 4;
/// As Java cuts.
const BLOCK: usize = 32 << 10;
/// The densest element there is copies 64 bytes, and takes three.
const MAX_RATIO: usize = 22;

#[derive(Default)]
pub struct Compressor {
    encoder: Option<Box<snap::raw::Encoder>>,
}

impl Compressor {
    pub fn compress(&mut self, input: &[u8], out: &mut Scratch) -> Result<(), RecordError> {
        let blocks = input.len().div_ceil(BLOCK);
        let block = snap::raw::max_compress_len(BLOCK).saturating_add(HEAD);
        out.begin(blocks.saturating_mul(block).saturating_add(HEADER.len()));
        out.put(&HEADER);
        let encoder = self.encoder.get_or_insert_with(|| Box::new(snap::raw::Encoder::new()));
        for block in input.chunks(BLOCK) {
            let Some((length, room)) = out.room().split_first_chunk_mut::<HEAD>() else { return Err(no_room()) };
            let size = encoder.compress(block, room).map_err(|_| no_room())?;
            *length = (size as u32).to_be_bytes();
            out.advance(size.saturating_add(HEAD));
        }
        Ok(())
    }
}

pub fn decompress(input: &[u8], out: &mut Output) -> Result<(), RecordError> {
    if !input.starts_with(&MAGIC) {
        return decode(input, out);
    }
    let mut input = Input::new(input);
    while !input.is_empty() {
        let early = || broken("it ends early");
        // Java reads streams that were put one behind the other.
        if input.rest().starts_with(&MAGIC) {
            input.take(HEADER.len()).ok_or_else(early)?;
            continue;
        }
        let size = u32::from_be_bytes(input.array().ok_or_else(early)?);
        decode(input.take(size as usize).ok_or_else(early)?, out)?;
    }
    Ok(())
}

fn decode(block: &[u8], out: &mut Output) -> Result<(), RecordError> {
    let (size, elements) = block::split(block).ok_or_else(|| broken("a block has no length"))?;
    // Before anything is allocated for what five bytes can claim.
    if size > block.len().saturating_mul(MAX_RATIO) {
        return Err(broken("a block claims to be more than it can hold"));
    }
    let (_, room) = out.room(size);
    if room.len() < size {
        return Err(out.too_large());
    }
    block::decode(elements, room).ok_or_else(|| broken("a block does not decode"))?;
    out.advance(size)
}

fn broken(problem: &'static str) -> RecordError {
    RecordError::Codec { codec: Compression::Snappy, problem }
}

fn no_room() -> RecordError {
    broken("there is not enough room for it")
}
