//! SuperH against binutils and an emulator.

mod objdump;
mod registers;
