//! Text of instructions of the ISAs beyond x86: Capstone's, or our own where it has none.
//!
//! Nothing is decided by it: what an instruction is to a tracer each ISA's `analyze.rs` says.

use capstone::{Arch, Capstone, Endian, Mode};

use crate::address::Address;
use crate::isa::{Isa, Order};

/// The instructions of `bytes`: address, bytes, text. What does not decode is shown as data, one unit of the ISA's at a time.
pub(crate) fn disassemble(isa: Isa, at: Address, bytes: &[u8]) -> Vec<(Address, Vec<u8>, String)> {
    let engines = engines(isa);
    let mut lines = Vec::new();
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let here = at + offset as u64;
        let (len, text) = own(isa, here, rest)
            .or_else(|| prefixed(isa, here, rest))
            .or_else(|| engines.iter().find_map(|engine| decoded(isa, engine, here, rest)))
            .unwrap_or_else(|| {
                let len = unit(isa, rest).min(rest.len());
                (len, format!(".{} {:#x}", name(len), order(isa).number(&rest[..len])))
            });
        lines.push((here, rest[..len].to_vec(), text));
        offset += len;
    }
    lines
}

/// The text of the instruction that `bytes` begin with.
pub(crate) fn text(isa: Isa, at: Address, bytes: &[u8]) -> String {
    let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
    disassemble(isa, at, bytes).into_iter().next().map_or_else(String::new, |line| line.2)
}

/// The longest instruction of them all: a prefixed one of Power.
const LONGEST: usize = 8;

fn decoded(isa: Isa, engine: &Capstone, at: Address, bytes: &[u8]) -> Option<(usize, String)> {
    let found = engine.disasm_count(bytes, at.0, 1).ok()?;
    let insn = found.iter().next().filter(|insn| (1..=bytes.len()).contains(&insn.len()))?;
    let text = format!("{} {}", insn.mnemonic().unwrap_or_default(), insn.op_str().unwrap_or_default());
    let text = text.trim_end();
    Some((insn.len(), text.to_owned() + &remark(isa, at, bytes, text)))
}

/// Text of an ISA that Capstone does not know.
fn own(isa: Isa, at: Address, bytes: &[u8]) -> Option<(usize, String)> {
    match isa {
        Isa::Alpha => Some((4, crate::alpha::disassemble::text(at, bytes)?)),
        _ => None,
    }
}

/// Prefixed instructions of Power, which Capstone does not know: both words, and the address that they refer to.
fn prefixed(isa: Isa, at: Address, bytes: &[u8]) -> Option<(usize, String)> {
    let is_power = matches!(isa, Isa::PowerPc | Isa::PowerPc64 | Isa::PowerPc64Le);
    let len = is_power.then(|| crate::decode::instruction_len(isa, at, bytes)).flatten()?;
    let (prefix, suffix) = bytes.get(..len)?.split_at_checked(4).filter(|words| !words.1.is_empty())?;
    let [prefix, suffix] = [prefix, suffix].map(|word| order(isa).number(word));
    let to = crate::decode::reference(isa, at, bytes).map_or_else(String::new, |to| format!("  # {to}"));
    Some((len, format!(".long {prefix:#x}, {suffix:#x}{to}")))
}

/// What is shown as one where it does not decode.
fn unit(isa: Isa, bytes: &[u8]) -> usize {
    match isa {
        Isa::Thumb | Isa::Sh => 2,
        Isa::RiscV32 | Isa::RiscV64 => crate::riscv::analyze::length(bytes).unwrap_or(2),
        Isa::S390x => crate::s390x::analyze::length(bytes).unwrap_or(2),
        _ => 4,
    }
}

/// The address that an instruction refers to, where Capstone's text has the distance only (RISC-V) or negative numbers (SPARC).
fn remark(isa: Isa, at: Address, bytes: &[u8], text: &str) -> String {
    let is_meant = match isa {
        Isa::RiscV32 | Isa::RiscV64 => true,
        Isa::Sparc | Isa::Sparc64 => text.contains("-0x"),
        _ => false,
    };
    let to = is_meant.then(|| crate::decode::reference(isa, at, bytes)).flatten();
    to.map_or_else(String::new, |to| format!("  # {to}"))
}

/// What assemblers call data of so many bytes.
fn name(len: usize) -> &'static str {
    match len {
        6 => "6byte",
        4 => "word",
        _ => "short",
    }
}

/// The byte order of code.
fn order(isa: Isa) -> Order {
    isa.abi().order
}

/// Each is asked for what those before it do not know.
fn engines(isa: Isa) -> Vec<Capstone> {
    let (arch, mode) = match isa {
        // Shown by their own decoders (`disassemble.rs` of their folders).
        Isa::X86_64 | Isa::I386 | Isa::Alpha => return Vec::new(),
        Isa::Arm64 => (Arch::ARM64, Mode::Arm),
        Isa::Arm => (Arch::ARM, Mode::Arm),
        Isa::Thumb => (Arch::ARM, Mode::Thumb),
        Isa::PowerPc => (Arch::PPC, Mode::Mode32),
        Isa::PowerPc64 | Isa::PowerPc64Le => (Arch::PPC, Mode::Mode64),
        Isa::RiscV32 => (Arch::RISCV, Mode::RiscV32),
        Isa::RiscV64 => (Arch::RISCV, Mode::RiscV64),
        Isa::Sh => (Arch::SH, Mode::Sh4a),
        Isa::Mips | Isa::MipsLe => (Arch::MIPS, Mode::Mips32),
        Isa::Mips64 | Isa::Mips64Le => (Arch::MIPS, Mode::Mips64),
        // Programs of 32 bits may be for V9, too.
        Isa::Sparc | Isa::Sparc64 => (Arch::SPARC, Mode::V9),
        Isa::S390x => (Arch::SYSZ, Mode::Default),
    };
    let extra = matches!(arch, Arch::RISCV).then_some(capstone::ExtraMode::RiscVC);
    let endian = match order(isa) {
        Order::Little => Endian::Little,
        Order::Big => Endian::Big,
    };
    // Capstone's interface has floating point of SuperH as a mode that excludes the others.
    let floats = (isa == Isa::Sh).then_some(Mode::ShFpu);
    let engine = |mode| Capstone::new_raw(arch, mode, extra.into_iter(), Some(endian)).ok();
    [mode].into_iter().chain(floats).filter_map(engine).collect()
}
