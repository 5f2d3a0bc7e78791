//! What an instruction is to a tracer: where control goes, and whether it may run elsewhere.
//!
//! Numbers of chapters are those of "The RISC-V Instruction Set Manual, Volume I: Unprivileged ISA", 20191213. The program
//! counter is known to few instructions: AUIPC, JAL, JALR and BRANCH, the compressed branches, and Zcmt's table jumps. So
//! whatever else lies in the other major opcodes of the standard (table 24.1: loads and stores, MISC-MEM, OP and its like, LUI,
//! AMO, floating point, vectors, SYSTEM) and in the compressed quadrants goes to a slot as it is, whether an extension has
//! defined it or not: undefined or privileged, it traps there as it does in place. Refused are
//!
//! - what is reserved within JALR, BRANCH and C.JR, and the reserved major opcode between JALR and JAL: future branches, as
//!   those of Zibi in BRANCH;
//! - the four custom opcodes: each vendor has instructions of its own there, some of which are branches (CORE-V's `cv.beqimm`
//!   in custom-0, Andes' `bbc` in custom-2), and the bytes do not tell the vendor;
//! - load-reserved and store-conditional, breakpoints, and landing pads (Zicfilp);
//! - instructions longer than 32 bits, of which the standard has none: they count as undecodable.
//!
//! Zcmp and Zcmt ("RISC-V Code Size Reduction", 1.0) take encodings of C.FSDSP for other ends. Zcmp's pushes, pops and moves do
//! not know where they are, as that store does not, and need not be told from it. Its returns (`cm.popret`, `cm.popretz`) and
//! Zcmt's jumps (`cm.jt`, `cm.jalt`) must not run in a slot, for control does not fall off its end. On RV64 these encodings are
//! stores: every profile for operating systems demands C and D there (RVA20U64 and later), which excludes Zcmp and Zcmt. On RV32
//! the bytes do not tell, and they are refused.

use crate::address::Address;
use crate::decode::{Flow, Insn};
use crate::field::signed;
use crate::isa::{Isa, RegisterSlot};

/// One of the registers x0 to x31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(u8);

impl Register {
    pub(crate) const ZERO: Self = Self(0);
    const RA: Self = Self(1);
    const T0: Self = Self(5);

    /// The five bits from `low` on.
    fn at(word: u32, low: u32) -> Self {
        Self((word >> low & 0x1f) as u8)
    }

    /// The three bits from `low` on, which name x8 to x15 (16.2).
    fn popular(word: u32, low: u32) -> Self {
        Self(8 + (word >> low & 7) as u8)
    }

    /// Where it lies in the register set; x0, in whose place the set has the PC, lies nowhere.
    pub(crate) fn slot(self, isa: Isa) -> Option<RegisterSlot> {
        (self != Self::ZERO).then(|| RegisterSlot(usize::from(self.0) * isa.abi().word))
    }

    /// Whether return addresses are kept there (table 2.1: the hints for return-address stacks).
    fn is_link(self) -> bool {
        matches!(self, Self::RA | Self::T0)
    }
}

/// What a branch asks of its two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Equal,
    NotEqual,
    Less,
    NotLess,
    LessUnsigned,
    NotLessUnsigned,
}

/// How an instruction is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes on behind itself and does not know where it is.
    Plain,
    /// What the standard calls illegal for ever (`unimp`).
    Faults,
    /// `ecall`.
    Syscall,
    /// `jal`, `c.j`, `c.jal`.
    Jump { link: Register, to: Address },
    /// `jalr`, `c.jr`, `c.jalr`.
    JumpRegister { link: Register, base: Register, offset: i64 },
    /// The branches.
    Branch { test: Test, left: Register, right: Register, to: Address },
    /// `auipc`.
    AddressOf { into: Register, address: Address },
    /// `lpad`.
    LandingPad,
    /// `lr`.
    LoadReserved,
    /// `sc`.
    StoreConditional,
    /// Cannot run elsewhere for another reason.
    Refused(&'static str),
}

impl Kind {
    /// Why no breakpoint may take its place.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::LandingPad => Some(
                "it is a landing pad, and where those are enforced an indirect jump to a breakpoint kills the program",
            ),
            // Linux does away with a reservation at each return from a trap (`ret_from_exception`, arch/riscv/kernel/entry.S).
            Self::LoadReserved => {
                Some("a trap behind it ends its reservation, so its store would fail each time")
            }
            Self::StoreConditional => Some("a trap in front of it ends the reservation that it needs"),
            Self::Refused(why) => Some(why),
            _ => None,
        }
    }
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded {
    pub(crate) len: usize,
    pub(crate) kind: Kind,
    is_nop: bool,
}

/// Bytes of the instruction that `bytes` begin with (1.5): 2 or 4; `None` where it is longer.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(..2)?[0] {
        low if low & 0b11 != 0b11 => Some(2),
        low if low & 0b1_1100 != 0b1_1100 => Some(4),
        _ => None,
    }
}

/// The instruction that begins at `at`; `bytes` may go on behind it.
pub(crate) fn decode(isa: Isa, at: Address, bytes: &[u8]) -> Option<Decoded> {
    // Code of 16-bit parcels is aligned to them (1.5).
    let len = length(bytes).filter(|_| at.0.is_multiple_of(2))?;
    let word = bytes.get(..len)?.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    let place = Place { isa, at };
    let kind = if len == 2 { place.compressed(word) } else { place.full(word) };
    Some(Decoded { len, kind, is_nop: matches!(word, 0x0001 | 0x0000_0013) })
}

/// What planning asks of one instruction.
pub(crate) fn inspect(isa: Isa, at: Address, bytes: &[u8]) -> Option<Insn> {
    let decoded = decode(isa, at, bytes)?;
    let flow = match decoded.kind {
        Kind::Branch { .. } => Flow::Conditional,
        Kind::Jump { link, .. } | Kind::JumpRegister { link, .. } if link != Register::ZERO => Flow::Call,
        Kind::Jump { .. } | Kind::JumpRegister { .. } | Kind::Faults => Flow::Leaves,
        Kind::Syscall => Flow::Syscall,
        _ => Flow::Next,
    };
    Some(Insn {
        len: decoded.len,
        flow,
        is_landing_pad: decoded.kind == Kind::LandingPad,
        is_return: matches!(
            decoded.kind,
            Kind::JumpRegister { link: Register::ZERO, base, .. } if base.is_link()
        ),
        is_padding: decoded.is_nop,
    })
}

/// The address that the instruction refers to relative to its own.
pub(crate) fn reference(isa: Isa, at: Address, bytes: &[u8]) -> Option<Address> {
    match decode(isa, at, bytes)?.kind {
        Kind::Jump { to, .. } | Kind::Branch { to, .. } => Some(to),
        Kind::AddressOf { address, .. } => Some(address),
        _ => None,
    }
}

/// Bits of an immediate: their lowest in the instruction, how many, their lowest in the immediate.
type Field = (u32, u32, u32);

/// The formats of 2.3.
const I: &[Field] = &[(20, 12, 0)];
const B: &[Field] = &[(8, 4, 1), (25, 6, 5), (7, 1, 11), (31, 1, 12)];
const U: &[Field] = &[(12, 20, 12)];
const J: &[Field] = &[(21, 10, 1), (20, 1, 11), (12, 8, 12), (31, 1, 20)];
/// Those of 16.4: of C.J and C.JAL, of C.BEQZ and C.BNEZ.
const CJ: &[Field] =
    &[(3, 3, 1), (11, 1, 4), (2, 1, 5), (7, 1, 6), (6, 1, 7), (9, 2, 8), (8, 1, 10), (12, 1, 11)];
const CB: &[Field] = &[(3, 2, 1), (10, 2, 3), (2, 1, 5), (5, 2, 6), (12, 1, 8)];

/// The immediate of the fields; the last of them has the sign.
fn immediate(word: u32, fields: &[Field]) -> i64 {
    let mut value = 0;
    let mut width = 0;
    for (from, count, to) in fields {
        value |= u64::from(word >> from & ((1 << count) - 1)) << to;
        width = to + count;
    }
    signed(value, width)
}

const BREAKPOINT: Kind = Kind::Refused("it is a breakpoint, which belongs to a debugger");
const RESERVED: Kind = Kind::Refused("its encoding is reserved, for branches perhaps");
const VENDOR: Kind = Kind::Refused("it is an instruction of a vendor's own, a branch perhaps");
const TABLE_OR_STORE: Kind =
    Kind::Refused("it is a store or, where the processor has Zcmp or Zcmt, a branch: its bytes do not tell");

/// Where an instruction lies.
struct Place {
    isa: Isa,
    at: Address,
}

impl Place {
    /// The address that far from the instruction's own.
    fn relative(&self, distance: i64) -> Address {
        self.isa.wrap(self.at.offset(distance))
    }

    /// By the major opcode (table 24.1).
    fn full(&self, word: u32) -> Kind {
        let rd = Register::at(word, 7);
        let rs1 = Register::at(word, 15);
        match word >> 2 & 0x1f {
            0b00101 if rd == Register::ZERO => Kind::LandingPad, // Zicfilp
            0b00101 => Kind::AddressOf { into: rd, address: self.relative(immediate(word, U)) },
            0b00010 | 0b01010 | 0b10110 | 0b11110 => VENDOR,
            // Of any width (8.2): Zabha, Zacas and Zalasr have other values there.
            0b01011 if word >> 27 == 0b00010 => Kind::LoadReserved,
            0b01011 if word >> 27 == 0b00011 => Kind::StoreConditional,
            0b11000 => match test(word >> 12 & 7) {
                Some(test) => Kind::Branch {
                    test,
                    left: rs1,
                    right: Register::at(word, 20),
                    to: self.relative(immediate(word, B)),
                },
                None => RESERVED,
            },
            0b11001 if word >> 12 & 7 != 0 => RESERVED,
            0b11001 => Kind::JumpRegister { link: rd, base: rs1, offset: immediate(word, I) },
            0b11010 => RESERVED,
            0b11011 => Kind::Jump { link: rd, to: self.relative(immediate(word, J)) },
            0b11100 => match word {
                0x0000_0073 => Kind::Syscall,
                0x0010_0073 => BREAKPOINT,
                0xc000_1073 => Kind::Faults, // `unimp`: a write to `cycle`, which cannot be written
                _ => Kind::Plain,
            },
            _ => Kind::Plain,
        }
    }

    /// By quadrant and function (16.8).
    fn compressed(&self, word: u32) -> Kind {
        let jump = |link| Kind::Jump { link, to: self.relative(immediate(word, CJ)) };
        let branch = |test| Kind::Branch {
            test,
            left: Register::popular(word, 7),
            right: Register::ZERO,
            to: self.relative(immediate(word, CB)),
        };
        match (word & 3, word >> 13) {
            _ if word == 0 => Kind::Faults,
            (0b01, 0b001) if self.isa == Isa::RiscV32 => jump(Register::RA),
            (0b01, 0b101) => jump(Register::ZERO),
            (0b01, 0b110) => branch(Test::Equal),
            (0b01, 0b111) => branch(Test::NotEqual),
            (0b10, 0b100) if Register::at(word, 2) == Register::ZERO => {
                let base = Register::at(word, 7);
                match (word >> 12 & 1, base) {
                    (0, Register::ZERO) => RESERVED,
                    (0, _) => Kind::JumpRegister { link: Register::ZERO, base, offset: 0 },
                    (_, Register::ZERO) => BREAKPOINT,
                    (_, _) => Kind::JumpRegister { link: Register::RA, base, offset: 0 },
                }
            }
            (0b10, 0b101) if self.isa == Isa::RiscV32 && is_branch_of_zc(word) => TABLE_OR_STORE,
            _ => Kind::Plain,
        }
    }
}

/// Whether C.FSDSP's encoding is that of `cm.jt` or `cm.jalt`, `cm.popretz` or `cm.popret`.
fn is_branch_of_zc(word: u32) -> bool {
    word >> 10 == 0b10_1000 || matches!(word >> 8, 0b1011_1100 | 0b1011_1110)
}

/// By BRANCH's third function field (chapter 24).
fn test(function: u32) -> Option<Test> {
    Some(match function {
        0b000 => Test::Equal,
        0b001 => Test::NotEqual,
        0b100 => Test::Less,
        0b101 => Test::NotLess,
        0b110 => Test::LessUnsigned,
        0b111 => Test::NotLessUnsigned,
        _ => return None,
    })
}
