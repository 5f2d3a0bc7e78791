//! What an instruction is to a tracer: where control goes, and whether it may run elsewhere.
//!
//! Sections are those of the Arm Architecture Reference Manual for A-profile, DDI 0487; `a32.rs` and `t32.rs` have the two
//! encodings (F4.1 and F3.1). r15 is a general register to many instructions. What reads it runs in a slot with a lent register
//! in its place, and so does what is written there; branches, and what would need a longer encoding, are emulated.
//!
//! These spaces go to a slot as they are, whether an extension has defined an encoding or not (undefined or privileged, it traps
//! there as it does in place): Advanced SIMD and floating-point data processing, coprocessor data processing and register
//! transfers, media and multiplication, memory hints and barriers, the miscellaneous 16-bit instructions. None can know the PC.
//! Refused are
//!
//! - what the manual has as UNPREDICTABLE because it names r15, and branches to registers whose fixed bits are others;
//! - exclusive loads and stores: the monitor is cleared by the exception return from any breakpoint or step (E2.10), so that the
//!   store fails, and the loop that they belong to comes to the breakpoint again, for ever;
//! - exception returns, breakpoints, calls of a semihosting debugger.

use crate::address::Address;
use crate::arm::{a32, t32};
use crate::decode::{Flow, Insn};
use crate::isa::Isa;

/// A general register by its number.
pub(crate) type Register = u8;

pub(crate) const SP: Register = 13;
pub(crate) const LINK: Register = 14;
pub(crate) const PC: Register = 15;

/// The condition that always holds.
pub(crate) const ALWAYS: u8 = 0b1110;

pub(crate) const UNPREDICTABLE: Kind = Kind::Refused("what it does with r15 is unpredictable");
pub(crate) const MALFORMED: Kind = Kind::Refused("bits that should be fixed are not");
pub(crate) const EXCEPTION_RETURN: Kind = Kind::Refused("it returns from an exception");
pub(crate) const BREAKPOINT: Kind = Kind::Refused("it is a breakpoint, which belongs to a debugger");
pub(crate) const HALT: Kind = Kind::Refused("it halts for an external debugger, or calls a semihosting one");

/// When a branch is taken, beside the condition of the instruction itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The condition code (F1.3.1).
    Flags(u8),
    /// The register is zero, or is not.
    Zero(Register, bool),
}

/// A load or store of several registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Multiple {
    pub(crate) loads: bool,
    pub(crate) base: Register,
    /// One bit for each register.
    pub(crate) list: u16,
    pub(crate) is_upward: bool,
    /// The base's own word is left out.
    pub(crate) is_before: bool,
    pub(crate) writes_back: bool,
}

/// How an instruction is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Does not know where it is, and goes on behind itself.
    Plain,
    /// `nop`.
    Nothing,
    /// Runs with other registers in the place of r15: `reads` holds what is read there, `writes` is branched to.
    Through { code: u32, reads: Option<(Register, Address)>, writes: Option<Register> },
    /// `b`, `bl`, `blx`, `cbz`; `isa` is the encoding of the target.
    Branch { condition: Condition, to: Address, isa: Isa, links: bool },
    /// `bx`, `bxj`, `blx`, and `mov pc` of A32: bit 0 of the target chooses the encoding.
    BranchRegister { register: Register, links: bool },
    /// `mov` and `add` of T32 with r15 among their registers: the sum.
    Sum { into: Register, of: (Option<Register>, Register) },
    /// `adr` of T32.
    AddressOf { into: Register, address: Address },
    /// With r15 in the list.
    Multiple(Multiple),
    /// `tbb`, `tbh`.
    Table { base: Register, index: Register, is_halfwords: bool },
    /// `it`: what ITSTATE becomes.
    If(u8),
    /// `svc`.
    Syscall,
    /// Never goes on: what is undefined, or undefined for programs.
    Faults,
    /// Begins an exclusive access.
    LoadExclusive,
    /// Ends one.
    StoreExclusive,
    /// `clrex`.
    ClearExclusive,
    /// Cannot run elsewhere.
    Refused(&'static str),
}

impl Kind {
    /// Why it cannot be carried out of line.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Refused(why) => Some(why),
            Self::LoadExclusive => Some("its exclusive access would end with the breakpoint's exception"),
            Self::StoreExclusive => Some("a breakpoint's exception in front of it ends the exclusive access"),
            _ => None,
        }
    }

    /// What is known without a condition.
    fn flow(self) -> Flow {
        match self {
            Self::Branch { links: true, .. } | Self::BranchRegister { links: true, .. } => Flow::Call,
            Self::Branch { condition: Condition::Flags(ALWAYS), .. }
            | Self::BranchRegister { .. }
            | Self::Through { writes: Some(_), .. }
            | Self::Sum { into: PC, .. }
            | Self::Multiple(Multiple { loads: true, .. })
            | Self::Table { .. }
            | Self::Faults
            | EXCEPTION_RETURN => Flow::Leaves,
            Self::Branch { .. } => Flow::Conditional,
            Self::Syscall => Flow::Syscall,
            _ => Flow::Next,
        }
    }
}

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded {
    pub(crate) len: usize,
    /// Of an instruction of 32 bits in T32 the first halfword is the upper one.
    pub(crate) word: u32,
    /// The condition in an encoding of A32. That of T32 is in CPSR.
    pub(crate) condition: u8,
    pub(crate) kind: Kind,
}

pub(crate) fn is_set(word: u32, bit: u32) -> bool {
    word >> bit & 1 == 1
}

/// The register whose number stands at bit `low`.
pub(crate) fn register(word: u32, low: u32) -> Register {
    (word >> low & 0xf) as Register
}

/// The word with another register there.
pub(crate) fn with_register(word: u32, low: u32, register: Register) -> u32 {
    word & !(0xf << low) | u32::from(register) << low
}

/// The low `bits` of a word as a signed number.
pub(crate) fn signed(word: u32, bits: u32) -> i32 {
    (word << (32 - bits)).cast_signed() >> (32 - bits)
}

/// An address as a number of 32 bits.
pub(crate) fn low(at: Address) -> u32 {
    (at.0 & 0xffff_ffff) as u32
}

/// Addresses wrap at 4 GiB.
pub(crate) fn offset(at: Address, by: i32) -> Address {
    Address(u64::from(low(at).wrapping_add_signed(by)))
}

/// The instruction with which `bytes`, at `at`, begin. `None` for what is none: misaligned or cut short.
pub(crate) fn decode(isa: Isa, at: Address, bytes: &[u8]) -> Option<Decoded> {
    let half =
        |from: usize| bytes.get(from..from + 2).map(|half| u32::from(u16::from_le_bytes([half[0], half[1]])));
    if isa == Isa::Thumb {
        let first = half(0).filter(|_| at.0.is_multiple_of(2))?;
        return Some(if t32::len(first) == 2 {
            Decoded { len: 2, word: first, condition: ALWAYS, kind: t32::short(at, first) }
        } else {
            let word = first << 16 | half(2)?;
            Decoded { len: 4, word, condition: ALWAYS, kind: t32::long(at, word) }
        });
    }
    let word = half(0).zip(half(2)).map(|(low, high)| high << 16 | low).filter(|_| at.0.is_multiple_of(4))?;
    let condition = match register(word, 28) {
        0b1111 => ALWAYS,
        condition => condition,
    };
    Some(Decoded { len: 4, word, condition, kind: a32::decode(at, word) })
}

/// See [`crate::decode::inspect`]. Whether an instruction of T32 is conditional by an `it` in front of it is not known here.
pub(crate) fn inspect(isa: Isa, at: Address, bytes: &[u8]) -> Option<Insn> {
    let insn = decode(isa, at, bytes)?;
    let flow = match insn.kind.flow() {
        Flow::Leaves if insn.condition != ALWAYS => Flow::Conditional,
        flow => flow,
    };
    let is_padding = match isa {
        Isa::Thumb => matches!(insn.word, 0xbf00 | 0x46c0 | 0xf3af_8000),
        _ => matches!(insn.word, 0xe320_f000 | 0xe1a0_0000),
    };
    Some(Insn { len: insn.len, flow, is_landing_pad: false, is_return: is_return(isa, insn), is_padding })
}

/// `bx lr`, `mov pc, lr`, and what pops r15.
fn is_return(isa: Isa, insn: Decoded) -> bool {
    match insn.kind {
        Kind::BranchRegister { register: LINK, links: false } | Kind::Sum { into: PC, of: (None, LINK) } => {
            true
        }
        Kind::Multiple(Multiple { loads: true, base: SP, writes_back: true, .. }) => true,
        // `ldr pc, [sp], #4`.
        Kind::Through { .. } if isa == Isa::Thumb => insn.word == 0xf85d_fb04,
        Kind::Through { .. } => insn.word & 0x0fff_ffff == 0x049d_f004,
        _ => false,
    }
}

/// See [`crate::decode::reference`].
pub(crate) fn reference(isa: Isa, at: Address, bytes: &[u8]) -> Option<Address> {
    let insn = decode(isa, at, bytes)?;
    match insn.kind {
        Kind::Branch { to, .. } => Some(to),
        Kind::AddressOf { address, .. } => Some(address),
        Kind::Through { reads: Some((_, base)), .. } if isa == Isa::Thumb => t32::literal(insn.word, base),
        Kind::Through { reads: Some((_, base)), .. } => a32::literal(insn.word, base),
        _ => None,
    }
}
