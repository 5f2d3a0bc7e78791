//! x86-64.

pub(crate) mod count;
pub(crate) mod event;
pub(crate) mod routines;
