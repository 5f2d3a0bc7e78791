//! x86-64.
pub(crate) mod routines;
pub(crate) mod stub;
