//! Zstandard: frames one behind the other.
//!
//! A frame says how far back it refers: its window, 8 MiB at most up to level 19, and 128 MiB at level 22. Accepted is as
//! much as the C library accepts, and Java with it. What a window takes is not what it says, but what was decompressed
//! so far, up to twice as much while it grows; so the limit of a batch bounds it, too.

use rust_zstd::CompressOptions;

use super::output::{KEPT, Output};
use super::scratch::Scratch;
use crate::record::error::RecordError;
use crate::record::header::Compression;

/// The base-2 logarithm of the largest window: `ZSTD_WINDOWLOG_LIMIT_DEFAULT`. The decoder takes a larger one only of a
/// frame that says how long its content is, when there is room for all of it.
const MAX_WINDOW_LOG: u32 = 27;

#[derive(Default)]
pub struct Compressor {
    /// For the level that it was made for.
    encoder: Option<(i32, rust_zstd::Compressor)>,
}

impl Compressor {
    pub fn compress(&mut self, level: i32, input: &[u8], out: &mut Scratch) {
        if self.encoder.as_ref().is_none_or(|(made_for, _)| *made_for != level) {
            let options = CompressOptions { level, ..CompressOptions::default() };
            self.encoder = Some((level, rust_zstd::Compressor::new(options)));
        }
        if let Some((_, encoder)) = &mut self.encoder {
            out.fill(|bytes| encoder.compress(input, bytes));
        }
    }
}

#[derive(Default)]
pub struct Decompressor {
    decoder: Option<Box<rust_zstd::Decompressor>>,
}

impl Decompressor {
    pub fn decompress(&mut self, input: &[u8], out: &mut Output) -> Result<(), RecordError> {
        let decoder = self.decoder.get_or_insert_with(|| {
            let mut decoder = Box::<rust_zstd::Decompressor>::default();
            decoder.set_window_log_max(MAX_WINDOW_LOG);
            decoder
        });
        decoder.reset();
        let decoded = run(decoder, input, out);
        // A window grows with what was decoded, and is kept. One such batch must not cost its memory for ever.
        if decoded.is_err() || out.len() > KEPT {
            self.decoder = None;
        }
        decoded
    }
}

/// By the streaming call alone: the others believe in the content, however large it gets.
fn run(decoder: &mut rust_zstd::Decompressor, input: &[u8], out: &mut Output) -> Result<(), RecordError> {
    let mut read = 0;
    while read < input.len() {
        loop {
            let room = out.spare();
            let available = room.len();
            let mut written = 0;
            let wants = decoder.decompress_stream(input, &mut read, room, &mut written);
            out.advance(written)?;
            match wants {
                // A frame ended.
                Ok(0) => break,
                Ok(_) if written == available => {}
                // Neither the end nor want of room: it wants more input.
                Ok(_) => return Err(broken("it ends early")),
                Err(problem) if problem.starts_with("Window size") => {
                    return Err(broken("its window is beyond 128 MiB"));
                }
                Err(_) => return Err(broken("it does not decode")),
            }
        }
    }
    decoder.finish().map_err(|_| broken("it ends early"))
}

fn broken(problem: &'static str) -> RecordError {
    RecordError::Codec { codec: Compression::Zstd, problem }
}
