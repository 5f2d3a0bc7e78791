//! See `hostile::unwind_table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::unwind_table(bytes));
