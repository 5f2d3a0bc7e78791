//! See `hostile::spec`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::spec(bytes));
