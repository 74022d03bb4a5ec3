//! See `bonafide_fuzz::att_layer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bonafide_fuzz::att_layer(data));
