//! What some architectures say of code besides where it is: its instruction set, data between it, where a function is entered.

use object::elf;

use insn::Isa;

use crate::address::FileAddress;
use crate::elf::Image;

/// What begins at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    /// Code of the file's own ISA.
    Own,
    /// T32 in an arm file.
    Thumb,
    /// MIPS16 or microMIPS in a mips file.
    Compressed,
    /// No code.
    Data,
}

/// A mapping symbol (ELF for the Arm Architecture 5.5.5, ELF for the Arm 64-bit Architecture 5.5.4, RISC-V ELF psABI, "Mapping
/// Symbol"): `$a`, `$t`, `$x`, `$d`, each alone or with a suffix; riscv's `$x` may name its extensions.
pub(crate) fn code(image: &Image<'_>, name: &str) -> Option<Code> {
    let isa = image.isa().ok()?;
    let rest = name.strip_prefix('$')?;
    let is =
        |letter: char| rest.strip_prefix(letter).is_some_and(|end| end.is_empty() || end.starts_with('.'));
    let riscv = matches!(isa, Isa::RiscV32 | Isa::RiscV64);
    match isa {
        Isa::Arm if is('a') => Some(Code::Own),
        Isa::Arm if is('t') => Some(Code::Thumb),
        Isa::Arm64 if is('x') => Some(Code::Own),
        _ if riscv && rest.starts_with('x') => Some(Code::Own),
        Isa::Arm | Isa::Arm64 | Isa::RiscV32 | Isa::RiscV64 if is('d') => Some(Code::Data),
        _ => None,
    }
}

/// Where what a symbol's value names begins, and what that says of the code there.
pub(crate) fn entry(
    image: &Image<'_>,
    value: u64,
    other: u8,
    is_function: bool,
) -> (FileAddress, Option<Code>) {
    match image.isa() {
        // `STO_MICROMIPS`, and `STO_MIPS16` which has both bits (elf/mips.h of binutils), until the linker makes the address odd
        // instead.
        Ok(Isa::Mips | Isa::MipsLe | Isa::Mips64 | Isa::Mips64Le) if is_function => {
            const COMPRESSED: u8 = 0xc0;
            const MICROMIPS: u8 = 0x80;
            let code =
                if value & 1 == 1 || other & COMPRESSED >= MICROMIPS { Code::Compressed } else { Code::Own };
            (FileAddress(value & !1), Some(code))
        }
        // Bit 0 of a function's address is the instruction set (AAELF32 5.5.3).
        Ok(Isa::Arm) if is_function => {
            let code = if value & 1 == 0 { Code::Own } else { Code::Thumb };
            (FileAddress(value & !1), Some(code))
        }
        // ELFv1: a function is named by its descriptor, whose first word is its address (64-bit PowerPC ELF ABI 3.2.5).
        Ok(Isa::PowerPc64) if is_function => {
            let descriptor = FileAddress(value);
            let in_descriptors = image
                .section(".opd")
                .is_some_and(|(start, bytes)| start.span(bytes.len() as u64).contains(&descriptor));
            let code = if in_descriptors { image.word(descriptor) } else { None };
            (FileAddress(code.unwrap_or(value)), None)
        }
        _ => (FileAddress(value), None),
    }
}

/// How far the local entry is behind the global one (64-Bit ELF V2 ABI 3.4.1, `PPC64_LOCAL_ENTRY_OFFSET`; on Alpha the two
/// instructions that load gp, which the linker skips in calls from the same module, `STO_ALPHA_STD_GPLOAD`,
/// include/elf/alpha.h of binutils).
pub(crate) fn local_entry(image: &Image<'_>, other: u8) -> u64 {
    const STD_GPLOAD: u8 = 0x88;
    if image.isa() == Ok(Isa::Alpha) {
        return if other & STD_GPLOAD == STD_GPLOAD { 8 } else { 0 };
    }
    let is_elf_v2 = image.isa() == Ok(Isa::PowerPc64Le)
        || image.isa() == Ok(Isa::PowerPc64) && image.flags() & elf::EF_PPC64_ABI == 2;
    if is_elf_v2 { ((1u64 << (other >> 5)) >> 2) << 2 } else { 0 }
}
