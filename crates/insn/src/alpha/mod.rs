//! Alpha, little-endian, as Linux has it.

pub(crate) mod abi;
pub(crate) mod analyze;
pub(crate) mod disassemble;
mod emulate;
pub(crate) mod sweep;
pub(crate) mod xol;
