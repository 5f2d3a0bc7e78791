//! z/Architecture against the manual, binutils and an emulator.

mod cases;
mod execution;
mod objdump;
mod registers;
mod sequences;

use crate::world::Machine;

/// The program that instructions are run in.
pub(crate) fn machine() -> Machine {
    Machine {
        folder: "s390x",
        target: "s390x-linux-gnu",
        flags: &["-march=z14"],
        qemu: "qemu-s390x",
        processor: Some("max"),
        cell: 16,
        unit: 2,
        // r6: the set begins with the PSW.
        first: 2 + 6,
        link: "r14",
        own: None,
    }
}
