//! LZ4 frames: our own around the blocks of `lz4_flex`.
//!
//! ```text
//!   | 04 22 4d 18 | flags | block size | content size | checksum |  size | block | sum? |  ...  | 0 | sum? |
//!                    u8        u8        u64, if said   of header    u32                         u32
//! ```
//! Written are independent blocks of 64 KiB, without checksums (the batch has one): Java reads no others. Read are all
//! that the format knows, but for dictionaries.

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, decompress_into_with_dict, get_maximum_output_size,
};
use twox_hash::XxHash32;

use super::input::Input;
use super::output::Output;
use super::scratch::Scratch;
use crate::record::error::RecordError;
use crate::record::header::Compression;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Version 1, independent blocks, 64 KiB each, and what these two bytes hash to.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const BLOCK: usize = 64 << 10;
/// How far back a block may refer.
const WINDOW: usize = 64 << 10;
/// A block's size.
const HEAD: usize = 4;
const END: [u8; 4] = [0; 4];
/// In a block's size: its bytes are not compressed.
const PLAIN: u32 = 1 << 31;
/// One more byte of a length means 255 more bytes at most.
const MAX_RATIO: usize = 255;

const VERSION_MASK: u8 = 0xc0;
const VERSION: u8 = 0x40;
const INDEPENDENT: u8 = 0x20;
const BLOCK_SUM: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_SUM: u8 = 0x04;
const DICTIONARY: u8 = 0x01;

#[derive(Default)]
pub struct Compressor {
    table: Option<Box<CompressTable>>,
}

impl Compressor {
    pub fn compress(&mut self, input: &[u8], out: &mut Scratch) -> Result<(), RecordError> {
        let blocks = input.len().div_ceil(BLOCK);
        let block = get_maximum_output_size(BLOCK).saturating_add(HEAD);
        out.begin(blocks.saturating_mul(block).saturating_add(HEADER.len()).saturating_add(END.len()));
        out.put(&HEADER);
        let table = self.table.get_or_insert_with(|| Box::new(CompressTable::large()));
        for block in input.chunks(BLOCK) {
            let Some((head, room)) = out.room().split_first_chunk_mut::<HEAD>() else { return Err(no_room()) };
            let mut size = compress_into_with_table(block, room, table).map_err(|_| no_room())?;
            let mut flag = 0;
            if size >= block.len() {
                room.get_mut(..block.len()).ok_or_else(no_room)?.copy_from_slice(block);
                (size, flag) = (block.len(), PLAIN);
            }
            *head = (size as u32 | flag).to_le_bytes();
            out.advance(size.saturating_add(HEAD));
        }
        out.put(&END);
        Ok(())
    }
}

/// `magic`: the format of what holds it.
pub fn decompress(input: &[u8], out: &mut Output, magic: i8) -> Result<(), RecordError> {
    let mut input = Input::new(input);
    loop {
        let frame = Frame::read(&mut input, out.len(), magic)?;
        while frame.block(&mut input, out)? {}
        frame.check(&mut input, out)?;
        if input.is_empty() {
            return Ok(());
        }
    }
}

struct Frame {
    flags: u8,
    max_block: usize,
    content_size: Option<u64>,
    /// Where its content begins.
    start: usize,
}

impl Frame {
    fn read(input: &mut Input<'_>, start: usize, magic: i8) -> Result<Self, RecordError> {
        let frame = input.rest();
        if input.array().ok_or_else(early)? != MAGIC {
            return Err(broken("it does not begin as such"));
        }
        let descriptor = input.rest();
        let [flags, size] = input.array().ok_or_else(early)?;
        if flags & VERSION_MASK != VERSION || flags & DICTIONARY != 0 {
            return Err(broken("it is of another version, or needs a dictionary"));
        }
        let max_block = match size {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(broken("a block size that is not defined")),
        };
        let mut content_size = None;
        if flags & CONTENT_SIZE != 0 {
            content_size = Some(u64::from_le_bytes(input.array().ok_or_else(early)?));
        }
        let length = descriptor.len().saturating_sub(input.rest().len());
        let sum = input.array().ok_or_else(early)?;
        let is_sum = |of: Option<&[u8]>| sum == [(XxHash32::oneshot(0, of.unwrap_or_default()) >> 8) as u8];
        // Before format 1, Java's client took the magic for a part of the header (KAFKA-3160); other clients did not.
        let is_old = || magic == 0 && is_sum(frame.get(..length.saturating_add(MAGIC.len())));
        if !is_sum(descriptor.get(..length)) && !is_old() {
            return Err(broken("its header's checksum is wrong"));
        }
        Ok(Self { flags, max_block, content_size, start })
    }

    /// Decompresses the next block; false at the end mark.
    fn block(&self, input: &mut Input<'_>, out: &mut Output) -> Result<bool, RecordError> {
        let head = u32::from_le_bytes(input.array().ok_or_else(early)?);
        if head == 0 {
            return Ok(false);
        }
        let size = (head & !PLAIN) as usize;
        if size > self.max_block {
            return Err(broken("a block is larger than its frame allows"));
        }
        let block = input.take(size).ok_or_else(early)?;
        if self.flags & BLOCK_SUM != 0 {
            check_sum(input, block)?;
        }
        if head & PLAIN != 0 {
            let (_, room) = out.room(size);
            if room.len() < size {
                return Err(out.too_large());
            }
            room.copy_from_slice(block);
            out.advance(size)?;
            return Ok(true);
        }
        // What the block says about its length is inside: this is what it may be.
        let wanted = self.max_block.min(size.saturating_mul(MAX_RATIO));
        let cut = out.left() < wanted;
        let (filled, room) = out.room(wanted);
        let decoded = if self.flags & INDEPENDENT != 0 {
            decompress_into(block, room)
        } else {
            let start = self.start.max(filled.len().saturating_sub(WINDOW));
            decompress_into_with_dict(block, room, filled.get(start..).unwrap_or_default())
        };
        match decoded {
            Ok(written) => out.advance(written)?,
            Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if cut => return Err(out.too_large()),
            Err(_) => return Err(broken("a block does not decode")),
        }
        Ok(true)
    }

    fn check(&self, input: &mut Input<'_>, out: &Output) -> Result<(), RecordError> {
        let content = out.since(self.start);
        if self.content_size.is_some_and(|size| size != content.len() as u64) {
            return Err(broken("its content is not as long as it says"));
        }
        if self.flags & CONTENT_SUM != 0 {
            check_sum(input, content)?;
        }
        Ok(())
    }
}

fn check_sum(input: &mut Input<'_>, data: &[u8]) -> Result<(), RecordError> {
    let expected = u32::from_le_bytes(input.array().ok_or_else(early)?);
    if XxHash32::oneshot(0, data) == expected { Ok(()) } else { Err(broken("a checksum is wrong")) }
}

fn early() -> RecordError {
    broken("it ends early")
}

fn no_room() -> RecordError {
    broken("there is not enough room for it")
}

fn broken(problem: &'static str) -> RecordError {
    RecordError::Codec { codec: Compression::Lz4, problem }
}
