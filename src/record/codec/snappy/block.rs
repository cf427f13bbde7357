//! A block of Snappy: the size of what is in it, then elements, each of which appends to what is there already.
//!
//! ```text
//!   | size | element | element | ...        size: varint
//!
//!   literal   | length - 1       00 | bytes                  60 to 63: length - 1 is in the next one to four bytes
//!   copy      | high, length - 4 01 | offset u8 |            4 to 11 bytes from up to 2 KiB back, 3 bits of it `high`
//!             | length - 1       10 | offset u16 |           1 to 64 bytes; little-endian
//!             | length - 1       11 | offset u32 |
//! ```
//! Records are mostly names and numbers: an element is four or five bytes, of a kind that no processor can predict. So
//! nothing here branches on the kind: 64 bytes are copied whatever an element's length is, from where its kind says, and
//! the next element writes over what was too much. On such records that takes three quarters of the time of `snap`'s
//! decoder; what that is faster with are repetitions of two bytes (`cargo bench --bench codecs snappy` has its figures).

use std::hint::select_unpredictable;

use super::super::input::Input;

/// What one step writes.
const STEP: usize = 64;
/// What one step looks at behind the tag: the next tag is there too.
const AHEAD: usize = STEP + 1;
/// From here on, a literal's length stands behind its tag.
const LONG: u8 = 60;

/// What a tag tells.
#[derive(Clone, Copy)]
struct Tag {
    /// Of the four bytes behind the tag, those that are an offset.
    mask: u32,
    /// The part of the offset that is in the tag.
    high: u16,
    length: u8,
    /// A smaller offset is not for a step: the copy repeats what it writes, or it is a kind that never is for one.
    least: u8,
}

const TAGS: [Tag; 256] = tags();

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "it would not compile")]
const fn tags() -> [Tag; 256] {
    let mut tags = [Tag { mask: 0, high: 0, length: 0, least: 1 }; 256];
    let mut tag = 0;
    while tag < tags.len() {
        let value = (tag >> 2) as u8;
        tags[tag] = match tag & 3 {
            0 if value < LONG => Tag { mask: 0, high: 0, length: value + 1, least: 0 },
            1 => {
                let length = (value & 7) + 4;
                Tag { mask: 0xff, high: (tag as u16 >> 5) << 8, length, least: length }
            }
            2 => Tag { mask: 0xffff, high: 0, length: value + 1, least: value + 1 },
            _ => tags[tag],
        };
        tag += 1;
    }
    tags
}

/// The size that a block claims, and its elements.
pub fn split(block: &[u8]) -> Option<(usize, &[u8])> {
    let mut input = Input::new(block);
    let mut size = 0u64;
    for shift in [0, 7, 14, 21, 28] {
        let [byte] = input.array()?;
        size |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((u32::try_from(size).ok()? as usize, input.rest()));
        }
    }
    None
}

/// Writes what the elements are, which is to be exactly as much as there is room.
pub fn decode(elements: &[u8], out: &mut [u8]) -> Option<()> {
    let (mut read, mut written) = (0, 0);
    let last = out.len().saturating_sub(STEP);
    while let Some(&tag) = elements.get(read) {
        let mut tag = usize::from(tag);
        // Short elements, until one comes that is not for a step: of a rare kind, or too near to an end.
        while written < last {
            let Some(ahead) = chunk::<AHEAD>(elements, read.wrapping_add(1)) else { break };
            let told = TAGS.get(tag)?;
            let &[a, b, c, d, ..] = ahead;
            let offset = (u32::from_le_bytes([a, b, c, d]) & told.mask) as usize;
            let offset = offset.wrapping_add(told.high.into());
            if offset < told.least.into() {
                break;
            }
            let is_literal = tag & 3 == 0;
            // A literal's offset is 0, so this is within `out` too.
            let copied = chunk::<STEP>(out, written.checked_sub(offset)?)?;
            let from = *select_unpredictable(is_literal, ahead.first_chunk()?, copied);
            *out.get_mut(written..)?.first_chunk_mut::<STEP>()? = from;
            written = written.wrapping_add(told.length.into());
            let taken = select_unpredictable(is_literal, (tag >> 2).wrapping_add(1), tag & 3);
            read = read.wrapping_add(1).wrapping_add(taken);
            tag = (*ahead.get(taken)?).into();
        }
        if read < elements.len() {
            (read, written) = any(elements, read, out, written)?;
        }
    }
    (written == out.len()).then_some(())
}

/// The element at `read`, whatever it is.
#[inline(never)]
fn any(elements: &[u8], read: usize, out: &mut [u8], written: usize) -> Option<(usize, usize)> {
    let mut input = Input::new(elements.get(read..)?);
    let [tag] = input.array()?;
    let value = tag >> 2;
    let (length, offset) = match tag & 3 {
        0 => {
            let length = match value.checked_sub(LONG) {
                None => value.into(),
                Some(more) => number(&mut input, usize::from(more).saturating_add(1))?,
            };
            let end = written.checked_add(length)?.checked_add(1)?;
            let room = out.get_mut(written..end)?;
            room.copy_from_slice(input.take(room.len())?);
            return Some((elements.len().wrapping_sub(input.rest().len()), end));
        }
        1 => (usize::from(value & 7).saturating_add(4), number(&mut input, 1)? | usize::from(tag >> 5) << 8),
        2 => (usize::from(value).saturating_add(1), number(&mut input, 2)?),
        _ => (usize::from(value).saturating_add(1), number(&mut input, 4)?),
    };
    let from = written.checked_sub(offset)?;
    let end = written.checked_add(length)?;
    if offset == 0 || end > out.len() {
        return None;
    }
    if offset == 1 {
        let byte = *out.get(from)?;
        out.get_mut(written..end)?.fill(byte);
    }
    let mut at = if offset == 1 { end } else { written };
    while at < end {
        // What lies between `from` and `at` is the same again and again, and doubles with each turn.
        let count = at.saturating_sub(from).min(end.saturating_sub(at));
        out.copy_within(from..from.saturating_add(count), at);
        at = at.saturating_add(count);
    }
    Some((elements.len().wrapping_sub(input.rest().len()), end))
}

/// A little-endian number of one to four bytes.
fn number(input: &mut Input<'_>, size: usize) -> Option<usize> {
    let mut bytes = [0; 4];
    bytes.get_mut(..size)?.copy_from_slice(input.take(size)?);
    Some(u32::from_le_bytes(bytes) as usize)
}

#[inline(always)]
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    fn decoded(block: &[u8]) -> Option<Vec<u8>> {
        let (size, elements) = split(block)?;
        let mut out = vec![0xaa; size];
        decode(elements, &mut out).map(|()| out)
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(bytes).unwrap()
    }

    /// Lines of names and numbers, and between them what repeats at any distance, or never.
    fn text(rng: &mut Rng, size: usize) -> Vec<u8> {
        let mut text = Vec::new();
        while text.len() < size {
            match rng.u8(..8) {
                0 => {
                    let count = rng.usize(..200);
                    text.extend(std::iter::repeat_with(|| rng.u8(..)).take(count));
                }
                1 => {
                    let (period, count) = (rng.usize(1..70), rng.usize(..300));
                    text.extend((0..count).map(|at| (at % period) as u8));
                }
                _ => text.extend_from_slice(format!(",\"f{}\":{}", rng.u8(..30), rng.u32(..100_000)).as_bytes()),
            }
        }
        text.truncate(size);
        text
    }

    #[test]
    fn what_another_encoder_wrote_decodes() {
        let mut rng = Rng::with_seed(1);
        for size in (0..300).chain([1_000, 2_047, 4_100, 32 << 10, 65_536, 65_537, 300_000]) {
            let text = text(&mut rng, size);
            assert!(decoded(&packed(&text)).unwrap() == text, "{size} bytes");
        }
    }

    /// The same blocks are refused, and what is not comes to the same: `snap`'s decoder is the judge.
    #[test]
    fn damaged_blocks_come_to_what_another_decoder_makes_of_them() {
        let mut rng = Rng::with_seed(2);
        let (mut whole, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let size = rng.usize(1..600);
            let mut block = packed(&text(&mut rng, size));
            for _ in 0..rng.usize(1..4) {
                // Not the size, which is in the first two: with that a block is mostly refused.
                let at = rng.usize(2..block.len());
                block[at] = if rng.bool() { rng.u8(..) } else { block[at] ^ 1 << rng.u8(..8) };
            }
            if rng.u8(..8) == 0 {
                block.truncate(rng.usize(2..=block.len()));
            }
            let theirs = snap::raw::Decoder::new().decompress_vec(&block).ok();
            match theirs {
                Some(_) => whole += 1,
                None => refused += 1,
            }
            assert_eq!(decoded(&block), theirs, "{block:02x?}");
        }
        assert!(whole > 2_000 && refused > 2_000, "{whole} and {refused}");
    }

    #[test]
    fn elements_that_encoders_hardly_ever_write() {
        // Literals whose lengths take one to four bytes, though they are short, and every copy from three bytes back.
        let lengths: [&[u8]; 4] = [&[60 << 2, 2], &[61 << 2, 2, 0], &[62 << 2, 2, 0, 0], &[63 << 2, 2, 0, 0, 0]];
        let copies: [&[u8]; 3] = [&[0b01 | 3 << 2, 3], &[0b10 | 6 << 2, 3, 0], &[0b11 | 6 << 2, 3, 0, 0, 0]];
        for length in lengths {
            for copy in copies {
                let block = [&[10], length, b"abc", copy].concat();
                assert_eq!(decoded(&block).unwrap(), b"abcabcabca", "{length:?} {copy:?}");
                // A byte less of anything, or one more: nothing is left over, nothing is made up.
                for end in 0..block.len() {
                    assert_eq!(decoded(&block[..end]), None, "{end} bytes of {block:?}");
                }
                assert_eq!(decoded(&[&[11], &block[1..]].concat()), None);
                assert_eq!(decoded(&[&[9], &block[1..]].concat()), None);
            }
        }
    }

    #[test]
    fn offsets_that_point_nowhere() {
        for (offset, reason) in [(0, "nothing"), (81, "before the beginning")] {
            // Far from the ends, so that it is a step, and alone.
            let literal = [&[59 << 2][..], &[b'x'; 60], &[19 << 2], &[b'y'; 20]].concat();
            let copy = [0b10 | 3 << 2, offset, 0];
            let far = [&[0x80 | 36, 1][..], &literal, &copy, &literal].concat();
            assert_eq!(decoded(&far), None, "{reason}");
            assert_eq!(decoded(&[&[84][..], &literal, &copy].concat()), None, "{reason}");
        }
        assert_eq!(split(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None, "more than 32 bits");
        assert_eq!(split(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]), None, "six bytes");
        assert_eq!(split(&[0xff, 0xff, 0xff, 0xff, 0x0f, 7]), Some((u32::MAX as usize, &[7][..])));
    }
}
