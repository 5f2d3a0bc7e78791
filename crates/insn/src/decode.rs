//! What planning asks of one instruction, whatever its ISA; and its text for people.

use crate::address::Address;
use crate::code::Code;
use crate::isa::Isa;
use crate::plan::{Dead, Mechanism, Reason};
use crate::{alpha, arm, arm64, mips, powerpc, riscv, s390x, sh, sparc, x86};

/// How control goes on behind an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next one.
    Next,
    /// To the next one or elsewhere.
    Conditional,
    /// Elsewhere, and later back to the next one.
    Call,
    /// Into the kernel, where a thread may sleep, and back to the next one.
    Syscall,
    /// Never to the next one.
    Leaves,
}

/// One decoded instruction.
#[derive(Clone, Copy, Debug)]
pub struct Insn {
    /// Its bytes.
    pub len: usize,
    /// Where control goes.
    pub flow: Flow,
    /// Whether it marks a place that indirect branches may reach and must stay there (`endbr64`).
    pub is_landing_pad: bool,
    /// Whether it returns from a function.
    pub is_return: bool,
    /// Whether compilers and linkers fill gaps with it.
    pub is_padding: bool,
}

/// What a sweep over code finds. Addresses are as computed: they need not lie in the module.
pub(crate) trait Findings {
    /// A branch goes there, or code takes the address.
    fn target(&mut self, to: Address);
    /// A call, or the kernel, returns there.
    fn returns(&mut self, to: Address);
    /// Code takes the address of what may be a table of branch targets.
    fn table(&mut self, at: Address);
    /// Code takes an address by its distance from the global offset table, or adds a number to a register.
    fn distance_from_got(&mut self, distance: i64);
    /// Code reads or writes so many bytes at an address that it names.
    fn data(&mut self, at: Address, len: u64);
    /// A hardware transaction begins or ends.
    fn transaction(&mut self);
}

/// Decodes `bytes`, which begin at `at`, one instruction after the other, the last one ending at their end. Behind
/// what does not decode it goes on one byte further (x86) and tells the first such place.
pub(crate) fn sweep(isa: Isa, at: Address, bytes: &[u8], findings: &mut dyn Findings) -> Option<Address> {
    match isa {
        Isa::X86_64 | Isa::I386 => x86::sweep::sweep(isa, at, bytes, findings),
        _ => None,
    }
}

/// Decodes the instruction at `at`, with which `bytes` begin; `None` if they do not decode.
#[must_use]
pub fn inspect(isa: Isa, at: Address, bytes: &[u8]) -> Option<Insn> {
    match isa {
        Isa::X86_64 | Isa::I386 => x86::analyze::inspect(isa, at, bytes),
        Isa::Arm64 => arm64::analyze::inspect(at, bytes),
        Isa::PowerPc | Isa::PowerPc64 | Isa::PowerPc64Le => powerpc::analyze::inspect(isa, at, bytes),
        Isa::Arm | Isa::Thumb => arm::analyze::inspect(isa, at, bytes),
        Isa::RiscV32 | Isa::RiscV64 => riscv::analyze::inspect(isa, at, bytes),
        Isa::Sh => sh::analyze::inspect(at, bytes),
        Isa::Alpha => alpha::analyze::inspect(at, bytes),
        Isa::Mips | Isa::MipsLe | Isa::Mips64 | Isa::Mips64Le => mips::analyze::inspect(isa, at, bytes),
        Isa::Sparc | Isa::Sparc64 => sparc::analyze::inspect(isa, at, bytes),
        Isa::S390x => s390x::analyze::inspect(at, bytes),
    }
}

/// Reads a module's instructions in any order; neighbours are cheap.
pub(crate) struct Reader<'a> {
    isa: Isa,
    code: &'a [Code<'a>],
    /// Of the stretch that was looked at last.
    stretch: Option<(Code<'a>, x86::analyze::Reader<'a>)>,
}

impl<'a> Reader<'a> {
    /// `code` is sorted.
    pub(crate) fn new(isa: Isa, code: &'a [Code<'a>]) -> Self {
        Self { isa, code, stretch: None }
    }

    /// The instruction at `at`, and whether it may run elsewhere: always not where there are no stubs.
    pub(crate) fn look(&mut self, at: Address) -> Option<(Insn, bool)> {
        if !matches!(self.isa, Isa::X86_64 | Isa::I386) {
            return None;
        }
        if self.stretch.as_ref().is_none_or(|(code, _)| code.from(at).is_none()) {
            let index = self.code.partition_point(|code| code.start <= at).checked_sub(1)?;
            let code = self.code[index];
            self.stretch = Some((code, x86::analyze::Reader::new(self.isa, code)));
        }
        self.stretch.as_mut().and_then(|(_, reader)| reader.look(at))
    }
}

/// The instruction at `at`, if it may run elsewhere.
pub(crate) fn displaceable(isa: Isa, at: Address, bytes: &[u8]) -> Result<Insn, Reason> {
    match isa {
        Isa::X86_64 | Isa::I386 => x86::analyze::inspect_displaceable(isa, at, bytes),
        _ => Err(Reason::NoStubs),
    }
}

/// The starts of the instructions from `from` on up to the last that begins at or before `to`, decoding from `at` on;
/// `None` where that fails.
pub(crate) fn boundaries(
    isa: Isa,
    at: Address,
    bytes: &[u8],
    from: Address,
    to: Address,
) -> Option<Vec<Address>> {
    match isa {
        Isa::X86_64 | Isa::I386 => x86::sweep::boundaries(isa, at, bytes, from, to),
        Isa::Arm64 => arm64::sweep::boundaries(at, from, to),
        Isa::PowerPc | Isa::PowerPc64 | Isa::PowerPc64Le => {
            powerpc::sweep::boundaries(isa, at, bytes, from, to)
        }
        Isa::Arm | Isa::Thumb => arm::sweep::boundaries(isa, at, bytes, from, to),
        Isa::RiscV32 | Isa::RiscV64 => riscv::sweep::boundaries(at, bytes, from, to),
        Isa::Sh => sh::sweep::boundaries(at, from, to),
        Isa::Alpha => alpha::sweep::boundaries(at, bytes, from, to),
        Isa::Mips | Isa::MipsLe | Isa::Mips64 | Isa::Mips64Le => mips::sweep::boundaries(at, bytes, from, to),
        Isa::Sparc | Isa::Sparc64 => sparc::sweep::boundaries(at, from, to),
        Isa::S390x => s390x::sweep::boundaries(at, bytes, from, to),
    }
}

/// What is dead before each of the first `count` instructions of the straight run that begins at `at`.
pub(crate) fn dead(isa: Isa, at: Address, bytes: &[u8], count: usize) -> Vec<Dead> {
    match isa {
        Isa::X86_64 | Isa::I386 => x86::liveness::dead(isa, at, bytes, count),
        _ => vec![Dead::default(); count],
    }
}

/// How many bytes a mechanism overwrites (a pun's prefixes come on top).
pub(crate) fn patch_len(isa: Isa, mechanism: Mechanism) -> usize {
    match (isa, mechanism) {
        (Isa::X86_64 | Isa::I386, Mechanism::Jump | Mechanism::Pun) => x86::jump::LEN,
        _ => isa.abi().breakpoint.len(),
    }
}

/// The address that the instruction refers to relative to its own.
#[must_use]
pub fn reference(isa: Isa, at: Address, bytes: &[u8]) -> Option<Address> {
    match isa {
        Isa::X86_64 | Isa::I386 => x86::analyze::reference(isa, at, bytes),
        Isa::Arm64 => arm64::analyze::reference(at, bytes),
        Isa::PowerPc | Isa::PowerPc64 | Isa::PowerPc64Le => powerpc::analyze::reference(isa, at, bytes),
        Isa::Arm | Isa::Thumb => arm::analyze::reference(isa, at, bytes),
        Isa::RiscV32 | Isa::RiscV64 => riscv::analyze::reference(isa, at, bytes),
        Isa::Sh => sh::analyze::reference(at, bytes),
        Isa::Alpha => alpha::analyze::reference(at, bytes),
        Isa::Mips | Isa::MipsLe | Isa::Mips64 | Isa::Mips64Le => mips::analyze::reference(isa, at, bytes),
        Isa::Sparc | Isa::Sparc64 => sparc::analyze::reference(isa, at, bytes),
        Isa::S390x => s390x::analyze::reference(at, bytes),
    }
}

/// The length of the instruction that `bytes` begin with; `None` if they do not decode.
#[must_use]
pub fn instruction_len(isa: Isa, at: Address, bytes: &[u8]) -> Option<usize> {
    inspect(isa, at, bytes).map(|insn| insn.len)
}

/// The instructions of `bytes`: address, bytes, text in the ISA's usual assembler syntax. What does not decode is shown
/// as single bytes.
#[must_use]
pub fn disassemble(isa: Isa, at: Address, bytes: &[u8]) -> Vec<(Address, Vec<u8>, String)> {
    match isa {
        Isa::X86_64 | Isa::I386 => x86::disassemble::disassemble(isa, at, bytes),
        _ => crate::disassemble::disassemble(isa, at, bytes),
    }
}
