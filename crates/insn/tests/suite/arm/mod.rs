//! 32-bit arm against the manual, binutils and an emulator.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::single_range_in_vec_init,
    reason = "addresses and offsets of 32 bits; lists of ranges"
)]

mod cases;
mod execution;
mod objdump;
mod registers;
mod sequences;
mod world;
