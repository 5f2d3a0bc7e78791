//! SPARC: V8 (32 bits) and V9 (64 bits), big-endian.

pub(crate) mod abi;
pub(crate) mod analyze;
mod emulate;
pub(crate) mod sweep;
pub(crate) mod xol;
