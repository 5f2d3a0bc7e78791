//! x86-64.

pub(crate) mod abi;
pub(crate) mod analyze;
pub(crate) mod disassemble;
pub(crate) mod emulate;
pub(crate) mod jump;
pub(crate) mod liveness;
pub(crate) mod relocate;
pub(crate) mod sweep;

pub(crate) use abi::ABI;
