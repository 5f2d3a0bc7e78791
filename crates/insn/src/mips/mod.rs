//! MIPS: 32 bits with the o32 ABI and 64 bits with n64, each in both orders of bytes.

pub(crate) mod abi;
pub(crate) mod analyze;
mod emulate;
pub(crate) mod sweep;
pub(crate) mod xol;
