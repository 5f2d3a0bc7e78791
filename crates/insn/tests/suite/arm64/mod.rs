//! AArch64 against the manual, binutils and an emulator.

mod cases;
mod execution;
mod objdump;
mod registers;
mod sequences;

use crate::world::Machine;

/// The program that they are run in.
pub(crate) fn machine() -> Machine {
    Machine {
        folder: "arm64",
        target: "aarch64-linux-gnu",
        flags: &["-march=armv8.3-a", "-mbranch-protection=standard"],
        qemu: "qemu-aarch64",
        processor: None,
        cell: 8,
        unit: 4,
        first: 19,
        link: "x30",
        own: None,
    }
}
