//! gzip (RFC 1952): our own members around raw deflate, so that the state of both directions is reset and not made anew.
//!
//! ```text
//!   | 1f 8b | 8 | flags | time | extra | os | optional fields | deflated | CRC-32 | size |  next member ...
//! ```

use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::input::Input;
use super::output::Output;
use super::scratch::Scratch;
use crate::record::error::RecordError;
use crate::record::header::Compression;

/// No optional field, no time, and an unknown system: what Java writes, too, but for the system.
const HEADER: [u8; 10] = [0x1f, 0x8b, DEFLATE, 0, 0, 0, 0, 0, 0, 0xff];
const DEFLATE: u8 = 8;
/// CRC-32 and size.
const TRAILER_SIZE: usize = 8;

const HEADER_CRC: u8 = 0x02;
const EXTRA: u8 = 0x04;
const NAME: u8 = 0x08;
const COMMENT: u8 = 0x10;
const RESERVED: u8 = 0xe0;

#[derive(Default)]
pub struct Compressor {
    /// For the level that it was made for.
    deflate: Option<(i32, Compress)>,
}

impl Compressor {
    pub fn compress(&mut self, level: i32, input: &[u8], out: &mut Scratch) -> Result<(), RecordError> {
        // Incompressible bytes are stored: five bytes for every 16 KiB of the smallest block there is, and some more.
        let deflated = input.len().saturating_add(input.len() / 1_000).saturating_add(128);
        out.begin(deflated.saturating_add(HEADER.len()).saturating_add(TRAILER_SIZE));
        out.put(&HEADER);
        if self.deflate.as_ref().is_none_or(|(made_for, _)| *made_for != level) {
            let deflate = Compress::new(flate2::Compression::new(level.unsigned_abs()), false);
            self.deflate = Some((level, deflate));
        }
        if let Some((_, deflate)) = &mut self.deflate {
            deflate.reset();
            let status = deflate.compress(input, out.room(), FlushCompress::Finish);
            if !matches!(status, Ok(Status::StreamEnd)) {
                return Err(broken("there is not enough room for it"));
            }
            out.advance(usize::try_from(deflate.total_out()).unwrap_or(usize::MAX));
        }
        let mut crc = Crc::new();
        crc.update(input);
        out.put(&crc.sum().to_le_bytes());
        out.put(&(input.len() as u32).to_le_bytes());
        Ok(())
    }
}

#[derive(Default)]
pub struct Decompressor {
    inflate: Option<Decompress>,
}

impl Decompressor {
    pub fn decompress(&mut self, input: &[u8], out: &mut Output) -> Result<(), RecordError> {
        let mut input = Input::new(input);
        loop {
            header(&mut input)?;
            self.member(&mut input, out)?;
            if input.is_empty() {
                return Ok(());
            }
        }
    }

    fn member(&mut self, input: &mut Input<'_>, out: &mut Output) -> Result<(), RecordError> {
        let start = out.len();
        let inflate = self.inflate.get_or_insert_with(|| Decompress::new(false));
        inflate.reset(false);
        loop {
            let (read, written) = (inflate.total_in(), inflate.total_out());
            let room = out.spare();
            let available = room.len();
            let rest = input.rest();
            let status = inflate.decompress(rest, room, FlushDecompress::None);
            let read = usize::try_from(inflate.total_in().wrapping_sub(read)).unwrap_or(0);
            let written = usize::try_from(inflate.total_out().wrapping_sub(written)).unwrap_or(0);
            input.take(read);
            out.advance(written)?;
            match status {
                Ok(Status::StreamEnd) => break,
                Ok(_) if written == available => {}
                // Neither the end nor want of room: it wants more input.
                Ok(_) => return Err(broken("it ends early")),
                Err(_) => return Err(broken("it does not inflate")),
            }
        }
        let [sum, size] = [input.array(), input.array()];
        let (Some(sum), Some(size)) = (sum, size) else { return Err(broken("it ends early")) };
        let content = out.since(start);
        let mut crc = Crc::new();
        crc.update(content);
        if u32::from_le_bytes(sum) != crc.sum() || u32::from_le_bytes(size) != content.len() as u32 {
            return Err(broken("its checksum is wrong"));
        }
        Ok(())
    }
}

fn header(input: &mut Input<'_>) -> Result<(), RecordError> {
    let early = || broken("it ends early");
    let [a, b, method, flags, ..] = input.array::<10>().ok_or_else(early)?;
    if [a, b, method] != [0x1f, 0x8b, DEFLATE] || flags & RESERVED != 0 {
        return Err(broken("it does not begin as such"));
    }
    if flags & EXTRA != 0 {
        let size = u16::from_le_bytes(input.array().ok_or_else(early)?);
        input.take(size.into()).ok_or_else(early)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            while input.array().ok_or_else(early)? != [0] {}
        }
    }
    if flags & HEADER_CRC != 0 {
        input.take(2).ok_or_else(early)?;
    }
    Ok(())
}

fn broken(problem: &'static str) -> RecordError {
    RecordError::Codec { codec: Compression::Gzip, problem }
}
