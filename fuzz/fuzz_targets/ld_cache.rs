//! See `hostile::ld_cache`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::ld_cache(bytes));
