//! What an instruction is to a tracer: where control goes, and whether it may run elsewhere.
//!
//! Sections are those of the "SH-4A Software Manual" (Renesas, REJ09B0003). Instructions have 16 bits. The program counter is
//! known to few of them: the branches, `trapa`, and the loads and the address relative to it (`mov.w` and `mov.l @(disp,PC)`,
//! `mova`). Whatever else the manual has goes to a slot as it is, and so does what it has not (undefined or privileged, it traps
//! there as it does in place), but for what other SuperH processors have there. Refused are
//!
//! - breakpoints: the traps that the kernel makes SIGTRAP of, and `brk` of SH-2A;
//! - `movli.l` and `movco.l`: an exception in between makes the store fail (10.1.41);
//! - the end of the beginning of an atomic sequence (`sweep.rs`);
//! - branches of SH-2A (`rts/n`, `rtv/n`, `jsr/n`), and first halves of its instructions of 32 bits (`movi20`, `mov.b
//!   @(disp12,Rm),Rn`, `bclr.b`, ...). These processors have no MMU; where such a program is probed all the same, it is refused
//!   rather than cut in two;
//! - what sets up a loop of SH-DSP (`ldrs`, `ldre`, `ldrc`, `setrc`): the processor compares the PC with the loop's end;
//! - delayed branches with an instruction in the delay slot that is illegal there: `xol.rs`.
//!
//! Not told from the bytes: that a program is one for a DSP. Then 1111 is the major opcode of its parallel operations, some of
//! 32 bits, and not that of floating point; ELF headers tell it, and it is another instruction set than this one.

use crate::address::Address;
use crate::decode::{Flow, Insn};
use crate::field::{field, signed};
use crate::isa::Isa;

/// Bytes of an instruction.
pub(crate) const LEN: usize = 2;

/// How far in front of the PC that an instruction sees it lies itself (2.5.1, "Delayed branches"; 3.3).
const AHEAD: u64 = 4;

/// When a branch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// If the bit T is so.
    T(bool),
}

/// Where a branch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// There.
    Address(Address),
    /// To what a general register holds.
    Register(u32),
    /// That far from the PC that it sees.
    Relative { register: u32, pc: Address },
    /// To what PR holds.
    Return,
}

/// A branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) to: To,
    pub(crate) when: When,
    /// Whether it leaves the address behind its delay slot in PR.
    pub(crate) links: bool,
    /// Whether the instruction behind it is done before it goes anywhere.
    pub(crate) is_delayed: bool,
}

/// How an instruction is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes on behind itself and does not know where it is.
    Plain,
    /// Never goes on: not for programs, or no instruction for ever (appendix, "FFFD").
    Faults,
    /// A branch of any kind.
    Branch(Branch),
    /// Loads a number of so many bytes, which lies there, with its sign.
    Load { into: u32, from: Address, len: usize },
    /// `mova`: leaves an address in r0.
    AddressOf(Address),
    /// `trapa` with a number that is the kernel's.
    Syscall,
    /// `mov #-n,r15`: what follows is an atomic sequence of `n` bytes.
    Marks { len: u64 },
    /// `movli.l`.
    LoadLocked,
    /// `movco.l`.
    StoreConditional,
    /// Cannot run elsewhere for another reason.
    Refused(&'static str),
}

impl Kind {
    /// Why no breakpoint may take its place.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::LoadLocked => {
                Some("an exception behind it ends what it begins, so its store would fail each time")
            }
            Self::StoreConditional => Some("an exception in front of it makes it fail"),
            Self::Marks { .. } => {
                Some("it begins an atomic sequence, which the kernel would not know elsewhere")
            }
            Self::Refused(why) => Some(why),
            _ => None,
        }
    }
}

/// The half-word that `bytes` begin with.
pub(crate) fn halfword(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from(u16::from_le_bytes(*bytes)))
}

/// The instruction at `at`, with which `bytes` begin; `None` for what is none: at an odd address, or cut short.
pub(crate) fn decode(at: Address, bytes: &[u8]) -> Option<Kind> {
    halfword(bytes).filter(|_| at.0.is_multiple_of(LEN as u64)).map(|word| Place(at).kind(word))
}

/// What planning asks of one instruction.
pub(crate) fn inspect(at: Address, bytes: &[u8]) -> Option<Insn> {
    let kind = decode(at, bytes)?;
    let flow = match kind {
        Kind::Branch(Branch { links: true, .. }) => Flow::Call,
        Kind::Branch(Branch { when: When::T(_), .. }) => Flow::Conditional,
        Kind::Branch(_) | Kind::Faults => Flow::Leaves,
        Kind::Syscall => Flow::Syscall,
        _ => Flow::Next,
    };
    Some(Insn {
        len: LEN,
        flow,
        is_landing_pad: false,
        is_return: matches!(kind, Kind::Branch(Branch { to: To::Return, .. })),
        is_padding: halfword(bytes) == Some(NOP),
    })
}

/// The address that the instruction refers to relative to its own.
pub(crate) fn reference(at: Address, bytes: &[u8]) -> Option<Address> {
    match decode(at, bytes)? {
        Kind::Branch(Branch { to: To::Address(to), .. }) | Kind::AddressOf(to) => Some(to),
        Kind::Load { from, .. } => Some(from),
        _ => None,
    }
}

/// Whether the instruction calls the kernel: `trapa` with 0x10 and the number of arguments, in older programs without the 0x10;
/// the kernel looks at neither (arch/sh/kernel/entry-common.S).
pub(crate) fn calls_the_kernel(bytes: &[u8]) -> bool {
    halfword(bytes).is_some_and(|word| word >> 5 == 0xc300 >> 5)
}

const NOP: u32 = 0x0009;

const BREAKPOINT: Kind = Kind::Refused("it is a breakpoint, which belongs to a debugger");
const OF_SH2A: Kind = Kind::Refused("on SH-2A it is a branch: its bytes do not tell");
const LONG_OF_SH2A: Kind =
    Kind::Refused("on SH-2A it is the first half of an instruction: its bytes do not tell");
const LOOP: Kind = Kind::Refused("it sets up a loop of a DSP, whose end is an address");

/// Where an instruction lies.
struct Place(Address);

impl Place {
    /// That far from the PC that the instruction sees.
    fn relative(&self, distance: i64) -> Address {
        Isa::Sh.wrap((self.0 + AHEAD).offset(distance))
    }

    /// By the major opcode, the upper four bits (appendix, "Instruction codes").
    fn kind(&self, word: u32) -> Kind {
        let low = u64::from(word & 0xff);
        match word >> 12 {
            0b0000 => self.system(word),
            0b0011 if matches!(word & 0xf, 1 | 9) => LONG_OF_SH2A,
            0b0100 => self.single(word),
            0b1000 => self.short(word),
            0b1001 => {
                Kind::Load { into: field(word, 8, 4), from: self.relative(2 * low.cast_signed()), len: 2 }
            }
            0b1010 | 0b1011 => Kind::Branch(Branch {
                to: To::Address(self.relative(2 * signed(u64::from(word), 12))),
                when: When::Always,
                links: word >> 12 == 0b1011,
                is_delayed: true,
            }),
            0b1100 => match field(word, 8, 4) {
                0b0011 if calls_the_kernel(&word.to_le_bytes()) => Kind::Syscall,
                0b0011 => BREAKPOINT,
                0b0111 => Kind::AddressOf(self.aligned(low)),
                _ => Kind::Plain,
            },
            0b1101 => Kind::Load { into: field(word, 8, 4), from: self.aligned(low), len: 4 },
            // A stack pointer of the last 128 bytes.
            0b1110 if field(word, 7, 5) == 0b11111 => Kind::Marks { len: low.wrapping_neg() & 0xff },
            0b1111 if word == 0xfffd => Kind::Faults,
            _ => Kind::Plain,
        }
    }

    /// Words are found from the PC without its low bits.
    fn aligned(&self, words: u64) -> Address {
        Isa::Sh.wrap(Address(self.relative(0).0 & !3) + 4 * words)
    }

    /// 0000: among others what has no operands.
    fn system(&self, word: u32) -> Kind {
        let register = field(word, 8, 4);
        let relative = To::Relative { register, pc: self.relative(0) };
        let branch = |to, links| Kind::Branch(Branch { to, when: When::Always, links, is_delayed: true });
        match (word, word & 0xff) {
            (0x000b, _) => branch(To::Return, false),
            (0x001b | 0x002b, _) => Kind::Faults, // sleep, rte
            (0x003b, _) => BREAKPOINT,
            (0x006b, _) | (_, 0x7b) => OF_SH2A,
            (_, 0x03) => branch(relative, true),
            (_, 0x23) => branch(relative, false),
            (_, 0x63) => Kind::LoadLocked,
            (_, 0x73) => Kind::StoreConditional,
            _ if word & 0xe == 0 => LONG_OF_SH2A,
            _ => Kind::Plain,
        }
    }

    /// 0100: those of one operand.
    fn single(&self, word: u32) -> Kind {
        let to = To::Register(field(word, 8, 4));
        let branch = |links| Kind::Branch(Branch { to, when: When::Always, links, is_delayed: true });
        match word & 0xff {
            0x0b => branch(true),
            0x2b => branch(false),
            0x4b => OF_SH2A,
            0x14 | 0x34 => LOOP,
            _ => Kind::Plain,
        }
    }

    /// 1000: those of eight bits.
    fn short(&self, word: u32) -> Kind {
        let code = field(word, 8, 4);
        match code {
            0b1001 | 0b1011 | 0b1101 | 0b1111 => Kind::Branch(Branch {
                to: To::Address(self.relative(2 * signed(u64::from(word), 8))),
                when: When::T(code & 0b0010 == 0),
                links: false,
                is_delayed: code & 0b0100 != 0,
            }),
            0b0010 | 0b1010 | 0b1100 | 0b1110 => LOOP,
            0b0011 => OF_SH2A,
            _ => Kind::Plain,
        }
    }
}
