#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    milena::fuzzing::decompress_snappy(data);
});
