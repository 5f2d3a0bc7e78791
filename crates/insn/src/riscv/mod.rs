//! RISC-V: RV32 and RV64, with compressed instructions.

pub(crate) mod abi;
