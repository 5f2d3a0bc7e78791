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

use insn::Isa;

use crate::world::Machine;

/// The program that they are run in.
pub(crate) fn machine(isa: Isa) -> Machine {
    let flags: &[&str] = if isa == Isa::Thumb {
        &["-march=armv7ve+simd", "-mthumb"]
    } else {
        &["-march=armv7ve+simd", "-marm"]
    };
    Machine {
        folder: "arm",
        target: "arm-linux-gnueabihf",
        flags,
        qemu: "qemu-arm",
        processor: None,
        // Lists of registers are stored at r15 too.
        cell: 64,
        unit: if isa == Isa::Thumb { 2 } else { 4 },
        first: 4,
        link: "lr",
        own: None,
    }
}
