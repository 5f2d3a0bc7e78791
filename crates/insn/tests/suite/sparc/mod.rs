//! SPARC against the manual, binutils and an emulator.

mod cases;
mod execution;
mod objdump;
mod registers;

use insn::Isa;

use crate::world::Machine;

/// The program that they are run in.
pub(crate) fn machine(isa: Isa) -> Machine {
    let (flags, qemu): (&[&str], _) = match isa {
        Isa::Sparc => (&["-m32", "-mcpu=v8", "-fno-pie"], "qemu-sparc"),
        _ => (&["-m64", "-fno-pie"], "qemu-sparc64"),
    };
    Machine {
        folder: "sparc",
        target: "sparc64-linux-gnu",
        flags,
        qemu,
        processor: None,
        cell: 16,
        unit: 4,
        first: 16,
        link: "o7",
        own: None,
    }
}
