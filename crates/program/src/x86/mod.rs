//! What x86-64 and i386 have in common: the assembler, how a stub is put together, and the frame of the event routine.

pub(crate) mod asm;
pub(crate) mod event;
pub(crate) mod stub;
