//! SuperH: SH-4 and SH-4A, little-endian.

pub(crate) mod abi;
pub(crate) mod analyze;
mod emulate;
pub(crate) mod sweep;
pub(crate) mod xol;
