//! Records from behind a codec, and back: what a broker needs of gzip, snappy, lz4 and zstd to look into a batch, and to
//! store it as `compression.type` wants.
//!
//! ```text
//!  snappy   82 "SNAPPY" 00 ┊ version i32 ┊ oldest i32 ┊ { length i32 ┊ block } …      or one block alone
//!  lz4      04 22 4d 18 ┊ flags ┊ block size ┊ [content size u64] ┊ hash ┊ { length u32 ┊ block ┊ [hash u32] } … 0 ┊ [hash]
//! ```
//! What is read and what is not follows the streams of Kafka's brokers: `Lz4BlockInputStream` wants independent blocks
//! and leaves the hash of the content alone.

use std::io::{Read, Write};

use twox_hash::XxHash32;

/// The codecs by their ids in a batch's attributes, and by their names in `compression.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// Why there are no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The stream ends before it should.
    Early,
    /// It is none of this codec, or damaged.
    Damaged,
    /// It becomes more than [`LARGEST`].
    TooLarge,
}

/// A batch may be this large without its codec. Real brokers have no such limit: they look at a batch piece by piece.
pub(super) const LARGEST: usize = 256 << 20;
/// What one byte of input may become at most, in the blocks of snappy and of lz4.
const DENSEST: usize = 255;

const SNAPPY_MAGIC: &[u8] = b"\x82SNAPPY\0";
const SNAPPY_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const SNAPPY_BLOCK: usize = 32 << 10;
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Version 1, independent blocks, 64 KiB each.
const LZ4_DESCRIPTOR: [u8; 2] = [0x60, 0x40];
const LZ4_BLOCK: usize = 64 << 10;
const LZ4_PLAIN: u32 = 1 << 31;

impl Codec {
    pub(super) fn of_id(id: i16) -> Option<Self> {
        Self::all().into_iter().find(|codec| codec.id() == id)
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|codec| codec.name() == name)
    }

    fn all() -> [Self; 4] {
        [Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd]
    }

    pub(super) fn id(self) -> i16 {
        self as i16
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    pub(super) fn decompress(self, input: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::with_capacity(input.len().saturating_mul(4).min(1 << 20));
        match self {
            Self::Gzip => gunzip(input, &mut out)?,
            Self::Snappy => unsnap(input, &mut out)?,
            Self::Lz4 => unlz4(input, &mut out)?,
            Self::Zstd => unzstd(input, &mut out)?,
        }
        Ok(out)
    }

    pub(super) fn compress(self, input: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip => gzip(input),
            Self::Snappy => snap(input),
            Self::Lz4 => lz4(input),
            Self::Zstd => {
                let mut out = Vec::new();
                rust_zstd::Compressor::new(rust_zstd::CompressOptions::default()).compress(input, &mut out);
                out
            }
        }
    }
}

fn gunzip(input: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let limit = LARGEST as u64 + 1;
    let read = flate2::bufread::MultiGzDecoder::new(input).take(limit).read_to_end(out);
    match read {
        Ok(_) if out.len() > LARGEST => Err(Broken::TooLarge),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Broken::Early),
        Err(_) => Err(Broken::Damaged),
    }
}

fn gzip(input: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(input).and_then(|()| encoder.finish()).expect("a vector takes all that is written")
}

/// Makes room for a block, if it can be as large as it says.
fn room(out: &mut Vec<u8>, compressed: usize, size: usize) -> Result<usize, Broken> {
    let start = out.len();
    if size > compressed.saturating_mul(DENSEST) {
        return Err(Broken::Damaged);
    }
    if start + size > LARGEST {
        return Err(Broken::TooLarge);
    }
    out.resize(start + size, 0);
    Ok(start)
}

fn unsnap(input: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let mut block = |input: &[u8]| {
        let size = snap::raw::decompress_len(input).map_err(|_| Broken::Damaged)?;
        let start = room(out, input.len(), size)?;
        snap::raw::Decoder::new().decompress(input, &mut out[start..]).map_err(|_| Broken::Damaged)?;
        Ok(())
    };
    if !input.starts_with(SNAPPY_MAGIC) {
        return block(input);
    }
    let mut rest = input.get(SNAPPY_HEADER.len()..).ok_or(Broken::Early)?;
    while !rest.is_empty() {
        let length = take_u32(&mut rest, u32::from_be_bytes)?;
        block(take(&mut rest, length as usize)?)?;
    }
    Ok(())
}

fn snap(input: &[u8]) -> Vec<u8> {
    let mut out = SNAPPY_HEADER.to_vec();
    for block in input.chunks(SNAPPY_BLOCK) {
        let block = snap::raw::Encoder::new().compress_vec(block).expect("a block of 32 KiB can be compressed");
        out.extend((block.len() as u32).to_be_bytes());
        out.extend(block);
    }
    out
}

fn unlz4(input: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let mut rest = input;
    if take(&mut rest, LZ4_MAGIC.len())? != LZ4_MAGIC {
        return Err(Broken::Damaged);
    }
    let descriptor = rest;
    let &[flags, size] = take(&mut rest, 2)? else { return Err(Broken::Early) };
    // Version 1, independent blocks, nothing reserved.
    if flags & 0b1110_0011 != 0b0110_0000 || size & 0b1000_1111 != 0 || size < 0x40 {
        return Err(Broken::Damaged);
    }
    let largest = 1_usize << (2 * (size >> 4) + 8);
    if flags & 0x08 != 0 {
        take(&mut rest, 8)?;
    }
    let described = &descriptor[..descriptor.len() - rest.len()];
    if take(&mut rest, 1)? != [(XxHash32::oneshot(0, described) >> 8) as u8] {
        return Err(Broken::Damaged);
    }
    loop {
        let head = take_u32(&mut rest, u32::from_le_bytes)?;
        if head == 0 {
            return Ok(());
        }
        let size = (head & !LZ4_PLAIN) as usize;
        if size > largest {
            return Err(Broken::Damaged);
        }
        let block = take(&mut rest, size)?;
        if flags & 0x10 != 0 && take_u32(&mut rest, u32::from_le_bytes)? != XxHash32::oneshot(0, block) {
            return Err(Broken::Damaged);
        }
        if head & LZ4_PLAIN != 0 {
            let start = room(out, size, size)?;
            out[start..].copy_from_slice(block);
        } else {
            let start = room(out, size, largest.min(size * DENSEST))?;
            let written = lz4_flex::block::decompress_into(block, &mut out[start..]).map_err(|_| Broken::Damaged)?;
            out.truncate(start + written);
        }
    }
}

fn lz4(input: &[u8]) -> Vec<u8> {
    let mut out = LZ4_MAGIC.to_vec();
    out.extend(LZ4_DESCRIPTOR);
    out.push((XxHash32::oneshot(0, &LZ4_DESCRIPTOR) >> 8) as u8);
    for block in input.chunks(LZ4_BLOCK) {
        let packed = lz4_flex::block::compress(block);
        let (flag, bytes) = if packed.len() < block.len() { (0, &packed[..]) } else { (LZ4_PLAIN, block) };
        out.extend((bytes.len() as u32 | flag).to_le_bytes());
        out.extend_from_slice(bytes);
    }
    out.extend([0; 4]);
    out
}

fn unzstd(input: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    const STEP: usize = 128 << 10;
    let mut decoder = rust_zstd::Decompressor::default();
    let mut read = 0;
    while read < input.len() {
        loop {
            let start = out.len();
            out.resize(start + STEP, 0);
            let mut written = 0;
            let wants = decoder.decompress_stream(input, &mut read, &mut out[start..], &mut written);
            out.truncate(start + written);
            if out.len() > LARGEST {
                return Err(Broken::TooLarge);
            }
            match wants {
                Ok(0) => break, // a frame ended
                Ok(_) if written == STEP => {}
                Ok(_) => return Err(Broken::Early),
                Err(_) => return Err(Broken::Damaged),
            }
        }
    }
    decoder.finish().map_err(|_| Broken::Early)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Broken> {
    rest.split_off(..count).ok_or(Broken::Early)
}

fn take_u32(rest: &mut &[u8], read: fn([u8; 4]) -> u32) -> Result<u32, Broken> {
    let (head, tail) = rest.split_first_chunk().ok_or(Broken::Early)?;
    *rest = tail;
    Ok(read(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_comes_back() {
        let text = b"a line that says the same as the one before, more or less\n".repeat(9000);
        let noise: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for codec in Codec::all() {
            assert_eq!((Codec::of_id(codec.id()), Codec::of_name(codec.name())), (Some(codec), Some(codec)));
            for input in [&b""[..], b"x", &text, &noise] {
                assert!(codec.decompress(&codec.compress(input)).as_deref() == Ok(input), "{codec:?}");
            }
            assert!(codec.compress(&text).len() < text.len() / 10, "{codec:?}");
        }
    }

    #[test]
    fn damage_and_early_ends_are_seen() {
        let text = b"some text, some text, some text".repeat(100);
        for codec in Codec::all() {
            let good = codec.compress(&text);
            for end in 1..good.len() {
                let cut = codec.decompress(&good[..end]);
                // A snappy stream ends wherever a block does: before the first, there is nothing in it.
                assert!(cut.is_err() || (codec == Codec::Snappy && end == 16), "{codec:?} cut at {end}");
            }
            assert_eq!(codec.decompress(b"no such thing at all"), Err(Broken::Damaged), "{codec:?}");
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let zeros = vec![0; LARGEST + 1];
        for codec in [Codec::Gzip, Codec::Zstd] {
            let outcome = codec.decompress(&codec.compress(&zeros)).map(|out| out.len());
            assert_eq!(outcome, Err(Broken::TooLarge), "{codec:?}");
        }
    }
}
