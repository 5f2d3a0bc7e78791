//! Power: 32 and 64 bits, both byte orders.

pub(crate) mod abi;
pub(crate) mod analyze;
pub(crate) mod emulate;
pub(crate) mod sweep;
pub(crate) mod xol;
