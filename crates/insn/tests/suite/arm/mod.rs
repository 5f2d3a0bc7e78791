//! 32-bit arm against the manual, binutils and an emulator.

mod cases;
mod execution;
mod registers;
mod world;
