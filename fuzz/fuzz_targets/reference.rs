//! See `bonafide_fuzz::reference`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bonafide_fuzz::reference(data));
