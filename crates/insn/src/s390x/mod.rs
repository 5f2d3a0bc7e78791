//! z/Architecture in its 64-bit addressing mode.

pub(crate) mod abi;
pub(crate) mod analyze;
pub(crate) mod emulate;
pub(crate) mod sweep;
pub(crate) mod xol;
