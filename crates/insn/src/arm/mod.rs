//! 32-bit arm: A32 and T32 (Thumb), two encodings of one machine.

pub(crate) mod abi;
