//! x86-64.

pub(crate) mod abi;
pub(crate) mod emulate;
pub(crate) mod relocate;

pub(crate) use abi::ABI;
