//! 32-bit arm: A32 and T32 (Thumb), two encodings of one machine.

pub(crate) mod a32;
pub(crate) mod abi;
pub(crate) mod analyze;
pub(crate) mod emulate;
pub(crate) mod sweep;
pub(crate) mod t32;
pub(crate) mod xol;
