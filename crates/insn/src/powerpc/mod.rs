//! Power: 32 and 64 bits, both byte orders.

pub(crate) mod abi;
