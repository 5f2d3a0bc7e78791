//! See `hostile::relocation`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::relocation(bytes));
