//! See `bonafide_fuzz::certificate_extensions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bonafide_fuzz::certificate_extensions(data));
