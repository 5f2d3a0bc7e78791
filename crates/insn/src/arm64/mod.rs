//! AArch64.

pub(crate) mod abi;
