//! SuperH against binutils and an emulator.

mod cases;
mod execution;
mod objdump;
mod registers;
mod sequences;

use crate::world::Machine;

/// The program that it is run in.
pub(crate) fn machine() -> Machine {
    Machine {
        folder: "sh",
        target: "sh4-linux-gnu",
        flags: &["-m4"],
        qemu: "qemu-sh4",
        processor: Some("sh7785"),
        cell: 8,
        unit: 2,
        first: 6,
        link: "pr",
        own: None,
    }
}
