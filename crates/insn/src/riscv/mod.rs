//! RISC-V: RV32 and RV64, with compressed instructions.

pub(crate) mod abi;
pub(crate) mod analyze;
mod emulate;
pub(crate) mod sweep;
pub(crate) mod xol;
