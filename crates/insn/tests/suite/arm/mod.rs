//! 32-bit arm against the manual, binutils and an emulator.

mod cases;
mod execution;
mod objdump;
mod registers;
mod sequences;
mod world;
