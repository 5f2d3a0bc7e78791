//! See `hostile::analysis`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::analysis(bytes));
