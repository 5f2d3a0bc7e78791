//! RISC-V against the manual, binutils and an emulator.

mod cases;
mod execution;
mod objdump;
mod registers;
mod sequences;

use insn::Isa;

use crate::world::Machine;

/// The program that they are run in.
pub(crate) fn machine(isa: Isa) -> Machine {
    let (flags, qemu): (&[&str], _) = match isa {
        Isa::RiscV32 => (&["-march=rv32gc", "-mabi=ilp32", "-Wl,-melf32lriscv"], "qemu-riscv32"),
        _ => (&["-march=rv64gc", "-mabi=lp64", "-Wl,-melf64lriscv"], "qemu-riscv64"),
    };
    Machine {
        folder: "riscv",
        target: "riscv64-linux-gnu",
        flags,
        qemu,
        processor: None,
        cell: 8,
        unit: 2,
        first: 18,
        link: "ra",
        own: None,
    }
}
