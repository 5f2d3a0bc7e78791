//! See `hostile::maps`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::maps(bytes));
