//! AArch64 against the manual, binutils and an emulator.

mod cases;
mod execution;
mod function;
mod objdump;
mod registers;
mod sequences;
mod world;
