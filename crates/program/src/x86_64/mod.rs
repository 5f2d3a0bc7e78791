//! x86-64.

mod asm;
mod count;
mod event;
pub(crate) mod routines;
pub(crate) mod stub;
