//! See `bonafide_fuzz::manifest_and_index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bonafide_fuzz::manifest_and_index(data));
