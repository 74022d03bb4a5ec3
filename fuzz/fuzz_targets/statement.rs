//! See `bonafide_fuzz::statement`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bonafide_fuzz::statement(data));
