//! See `hostile::go_table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::go_table(bytes));
