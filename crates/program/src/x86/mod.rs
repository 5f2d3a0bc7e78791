//! What x86-64 and i386 have in common: the assembler, and how a stub is put together.

pub(crate) mod asm;
pub(crate) mod stub;
