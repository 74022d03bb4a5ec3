//! See `bonafide_fuzz::predicate_v02`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bonafide_fuzz::predicate_v02(data));
