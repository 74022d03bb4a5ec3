//! See `bonafide_fuzz::bundle`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bonafide_fuzz::bundle(data));
