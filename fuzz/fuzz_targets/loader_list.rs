//! See `hostile::loader_list`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::loader_list(bytes));
