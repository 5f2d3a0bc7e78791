//! MIPS against the manual, binutils and an emulator.

mod cases;
mod execution;
mod objdump;
mod registers;
mod sequences;

use insn::Isa;

use crate::world::Machine;

/// The program that they are run in. Each processor has something of its own: DSP, vectors, 64 bits.
pub(crate) fn machine(isa: Isa) -> Machine {
    let (target, flags, qemu, processor): (_, &[&str], _, _) = match isa {
        Isa::Mips => (
            "mips-linux-gnu",
            &["-fno-pic", "-mno-abicalls", "-mips32r2", "-mdspr2", "-mfp32"],
            "qemu-mips",
            "74Kf",
        ),
        Isa::MipsLe => (
            "mipsel-linux-gnu",
            &["-fno-pic", "-mno-abicalls", "-mips32r5", "-mfp64", "-mnan=2008"],
            "qemu-mipsel",
            "P5600",
        ),
        // Debian has no compiler whose own this order of bytes with this ABI is; no library is needed.
        Isa::Mips64 => (
            "mips64el-linux-gnuabi64",
            &["-fno-pic", "-mno-abicalls", "-EB", "-mips64r2"],
            "qemu-mips64",
            "MIPS64R2-generic",
        ),
        _ => (
            "mips64el-linux-gnuabi64",
            &["-fno-pic", "-mno-abicalls", "-mips64r2"],
            "qemu-mips64el",
            "Loongson-3A4000",
        ),
    };
    Machine {
        folder: "mips",
        target,
        flags,
        qemu,
        processor: Some(processor),
        cell: 32,
        unit: 4,
        first: 16,
        link: "r31",
        own: None,
    }
}
