//! See `hostile::process`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::process(bytes));
