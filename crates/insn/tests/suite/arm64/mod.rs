//! AArch64 against the manual, binutils and an emulator.

mod cases;
mod objdump;
mod registers;
mod sequences;
