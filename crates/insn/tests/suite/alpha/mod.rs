//! Alpha against the handbook, binutils and an emulator.

mod cases;
mod execution;
mod objdump;
mod sequences;

use crate::world::Machine;

/// The program that they are run in.
pub(crate) fn machine() -> Machine {
    Machine {
        folder: "alpha",
        target: "alpha-linux-gnu",
        flags: &["-mcpu=ev67", "-mieee"],
        qemu: "qemu-alpha",
        processor: None,
        cell: 16,
        unit: 4,
        first: 1,
        link: "ra",
        own: Some("t12"),
    }
}
