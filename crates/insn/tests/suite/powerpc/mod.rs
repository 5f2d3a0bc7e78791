//! Power against the manual, binutils and an emulator.

mod cases;
mod execution;
mod objdump;
mod registers;
mod sequences;

use insn::Isa;

use crate::world::Machine;

/// The program that they are run in.
pub(crate) fn machine(isa: Isa) -> Machine {
    let (target, cpu, qemu, processor): (_, &[&str], _, _) = match isa {
        Isa::PowerPc => ("powerpc-linux-gnu", &["-mcpu=7450"], "qemu-ppc", "7447a"),
        Isa::PowerPc64 => ("powerpc64-linux-gnu", &["-mcpu=power10"], "qemu-ppc64", "power10"),
        _ => ("powerpc64le-linux-gnu", &["-mcpu=power10"], "qemu-ppc64le", "power10"),
    };
    Machine {
        folder: "powerpc",
        target,
        flags: cpu,
        qemu,
        processor: Some(processor),
        // No prefixed instruction in it crosses a boundary of 64 bytes.
        cell: 16,
        unit: 4,
        first: 14,
        link: "lr",
        // 64-bit ELF V2 ABI, 2.3.2.1.
        own: (isa == Isa::PowerPc64Le).then_some("r12"),
    }
}
