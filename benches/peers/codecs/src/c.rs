//! The C libraries, each at its best: contexts and buffers kept, the whole input in one call.

use std::mem::MaybeUninit;
use std::ptr;

use libz_ng_sys as zng;
use lz4_sys as lz4;

/// Compresses and decompresses into `out`, which is always large enough; the bytes written.
pub trait Library {
    fn compress(&mut self, input: &[u8], out: &mut [u8]) -> usize;
    fn decompress(&mut self, input: &[u8], out: &mut [u8]) -> usize;
}

pub struct Zstd {
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl Zstd {
    pub fn new(level: i32) -> Self {
        Self {
            compressor: zstd::bulk::Compressor::new(level).expect("a context"),
            decompressor: zstd::bulk::Decompressor::new().expect("a context"),
        }
    }
}

impl Library for Zstd {
    fn compress(&mut self, input: &[u8], out: &mut [u8]) -> usize {
        self.compressor.compress_to_buffer(input, out).expect("compresses")
    }

    fn decompress(&mut self, input: &[u8], out: &mut [u8]) -> usize {
        self.decompressor.decompress_to_buffer(input, out).expect("decompresses")
    }
}

/// zlib-ng, with gzip's header and trailer. Its streams hold null function pointers, so they are never looked at whole.
pub struct Gzip {
    deflate: Box<MaybeUninit<zng::z_stream>>,
    inflate: Box<MaybeUninit<zng::z_stream>>,
}

/// The largest window, and 16: gzip.
const WINDOW_BITS: i32 = 15 + 16;
const MEM_LEVEL: i32 = 8;

impl Gzip {
    pub fn new(level: i32) -> Self {
        let mut deflate = Box::new(MaybeUninit::<zng::z_stream>::zeroed());
        let mut inflate = Box::new(MaybeUninit::<zng::z_stream>::zeroed());
        let (method, strategy) = (zng::Z_DEFLATED, zng::Z_DEFAULT_STRATEGY);
        // SAFETY: zeroes are what both ask for, and the streams stay at their address as long as `Self` lives.
        unsafe {
            let stream = deflate.as_mut_ptr();
            let made = zng::zng_deflateInit2(stream, level, method, WINDOW_BITS, MEM_LEVEL, strategy);
            assert_eq!(made, zng::Z_OK);
            assert_eq!(zng::zng_inflateInit2(inflate.as_mut_ptr(), WINDOW_BITS), zng::Z_OK);
        }
        Self { deflate, inflate }
    }
}

/// # Safety
/// `stream` was initialised, and is used no longer than both slices live.
unsafe fn point(stream: zng::z_streamp, input: &[u8], out: &mut [u8]) {
    // SAFETY: plain fields of a stream that lives.
    unsafe {
        (*stream).next_in = input.as_ptr().cast_mut();
        (*stream).avail_in = input.len() as u32;
        (*stream).next_out = out.as_mut_ptr();
        (*stream).avail_out = out.len() as u32;
    }
}

impl Library for Gzip {
    fn compress(&mut self, input: &[u8], out: &mut [u8]) -> usize {
        let stream = self.deflate.as_mut_ptr();
        // SAFETY: the stream was initialised; it reads `input` and writes `out`, by their lengths.
        unsafe {
            point(stream, input, out);
            assert_eq!(zng::deflateReset(stream), zng::Z_OK);
            assert_eq!(zng::deflate(stream, zng::Z_FINISH), zng::Z_STREAM_END);
            (*stream).total_out
        }
    }

    fn decompress(&mut self, input: &[u8], out: &mut [u8]) -> usize {
        let stream = self.inflate.as_mut_ptr();
        // SAFETY: as above.
        unsafe {
            point(stream, input, out);
            assert_eq!(zng::inflateReset(stream), zng::Z_OK);
            assert_eq!(zng::inflate(stream, zng::Z_FINISH), zng::Z_STREAM_END);
            (*stream).total_out
        }
    }
}

impl Drop for Gzip {
    fn drop(&mut self) {
        // SAFETY: both were initialised, and nobody uses them again.
        unsafe {
            zng::deflateEnd(self.deflate.as_mut_ptr());
            zng::inflateEnd(self.inflate.as_mut_ptr());
        }
    }
}

/// liblz4's frames, of independent blocks of 64 KiB without checksums: those that Kafka knows.
pub struct Lz4 {
    compression: lz4::LZ4FCompressionContext,
    decompression: lz4::LZ4FDecompressionContext,
    preferences: lz4::LZ4FPreferences,
}

impl Lz4 {
    pub fn new(level: i32) -> Self {
        let preferences = lz4::LZ4FPreferences {
            frame_info: lz4::LZ4FFrameInfo {
                block_size_id: lz4::BlockSize::Max64KB,
                block_mode: lz4::BlockMode::Independent,
                content_checksum_flag: lz4::ContentChecksum::NoChecksum,
                frame_type: lz4::FrameType::Frame,
                content_size: 0,
                dict_id: 0,
                block_checksum_flag: lz4::BlockChecksum::NoBlockChecksum,
            },
            compression_level: level.unsigned_abs(),
            // From the input, instead of by a buffer of its own.
            auto_flush: 1,
            favor_dec_speed: 0,
            reserved: [0; 3],
        };
        let mut compression = lz4::LZ4FCompressionContext(ptr::null_mut());
        let mut decompression = lz4::LZ4FDecompressionContext(ptr::null_mut());
        // SAFETY: both only write the context.
        unsafe {
            done(lz4::LZ4F_createCompressionContext(&mut compression, lz4::LZ4F_VERSION));
            done(lz4::LZ4F_createDecompressionContext(&mut decompression, lz4::LZ4F_VERSION));
        }
        Self { compression, decompression, preferences }
    }
}

fn done(code: usize) -> usize {
    // SAFETY: it looks at the number.
    assert_eq!(unsafe { lz4::LZ4F_isError(code) }, 0);
    code
}

impl Library for Lz4 {
    fn compress(&mut self, input: &[u8], out: &mut [u8]) -> usize {
        let (start, room) = (out.as_mut_ptr(), out.len());
        // SAFETY: each call writes at most `room - size` bytes behind the `size` that are written, and reads `input`.
        unsafe {
            let mut size = done(lz4::LZ4F_compressBegin(self.compression, start, room, &self.preferences));
            let (from, len) = (input.as_ptr(), input.len());
            let to = start.add(size);
            size += done(lz4::LZ4F_compressUpdate(self.compression, to, room - size, from, len, ptr::null()));
            let to = start.add(size);
            size + done(lz4::LZ4F_compressEnd(self.compression, to, room - size, ptr::null()))
        }
    }

    fn decompress(&mut self, input: &[u8], out: &mut [u8]) -> usize {
        let (mut written, mut read) = (out.len(), input.len());
        let options = lz4::LZ4FDecompressOptions { stable_dst: 1, reserved: [0; 3] };
        // SAFETY: it writes and reads no more than these two say.
        let left = unsafe {
            let (to, from) = (out.as_mut_ptr(), input.as_ptr());
            done(lz4::LZ4F_decompress(self.decompression, to, &mut written, from, &mut read, &options))
        };
        assert_eq!((left, read), (0, input.len()), "all of one frame");
        written
    }
}

impl Drop for Lz4 {
    fn drop(&mut self) {
        // SAFETY: both were created, and nobody uses them again.
        unsafe {
            lz4::LZ4F_freeCompressionContext(self.compression);
            lz4::LZ4F_freeDecompressionContext(self.decompression);
        }
    }
}
