//! What an instruction is to a tracer: where control goes, and whether it may run elsewhere.
//!
//! Numbers of sections are those of the Alpha Architecture Handbook, version 4 (EC-QD2KC-TE). Every instruction is a word of 32
//! bits with its opcode in the upper six (3.3). The program counter is known to the branches (opcodes 30 to 3F, 4.3), the jumps
//! (1A) and CALL_PAL (00). Whatever else has an opcode goes to a slot as it is, whether its function code is known or not:
//! undefined or privileged, as the five opcodes of PALcode's own are (19, 1B, 1D, 1E, 1F), it traps there as it does in place.
//! Opcodes 01 to 07 are reserved (appendix C) and were never given to an instruction: they count as undecodable. Of PALcode's
//! functions only `urti` goes elsewhere. Refused are
//!
//! - `call_pal bpt`, and `urti`, which takes its PC from a frame on the stack;
//! - LDx_L and STx_C: the way back from a trap ends the lock (`lock_flag`, 4.2.4), so the store would fail for ever; and what
//!   lies between them ([`crate::xol::exclusive_sequences`]);
//! - RS and RC, the interrupt flag of translated VAX code (4.12): a trap clears it, and the program begins again until
//!   none comes.
//!
//! # Traps that come late
//!
//! An arithmetic trap may be taken many instructions behind the one that it is of (5.7), and the kernel looks backwards from
//! the PC for that one to complete it in software (`alpha_fp_emul_imprecise`, arch/alpha/math-emu/math.c). CALL_PAL ends that:
//! it is not issued until all before it are known to complete without exceptions, and a trap that comes there has the PC of
//! the CALL_PAL itself (4.11.2). Every breakpoint is a `call_pal bpt`. So a trap of what runs in a slot is taken at the slot's
//! end at the latest, with the PC of the breakpoint there; the kernel finds the trapping instruction directly in front of
//! it, and where it makes a signal of it the thread belongs behind the site, where the handler sees it in place too if the trap
//! comes at once. A trap of what ran before a site is taken at the site's breakpoint before anything is counted; the kernel
//! goes back and runs on up to there. No trap of the program's reaches a slot, and none of a slot's the program. What
//! `trapb` and `excb` wait for has come already when they run in a slot.
//!
//! A fault of memory has the PC of the instruction, as elsewhere. A trap of CALL_PAL (`bugchk`, `gentrap`) and an
//! illegal instruction have that of the next one (`do_entIF`, arch/alpha/kernel/traps.c): in a slot, of its end.

use crate::address::Address;
use crate::decode::{Flow, Insn};
use crate::field::{field, signed};
use crate::isa::RegisterSlot;

/// Bytes of an instruction.
pub(crate) const WORD: usize = 4;

/// One of the registers $0 to $31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(u8);

impl Register {
    pub(crate) const ZERO: Self = Self(31);

    /// The five bits from `low` on: Ra is at 21, Rb at 16, Rc at 0.
    fn at(word: u32, low: u32) -> Self {
        Self((word >> low & 0x1f) as u8)
    }

    /// Where it lies in the register set; $31, in whose place the set has the PC, lies nowhere.
    pub(crate) fn slot(self) -> Option<RegisterSlot> {
        (self != Self::ZERO).then(|| super::abi::slot(usize::from(self.0)))
    }
}

/// What a branch asks of its register (4.3.1): a signed number, or its lowest bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Zero,
    NotZero,
    Negative,
    NotNegative,
    Positive,
    NotPositive,
    Clear,
    Set,
}

/// What an instruction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Runs anywhere.
    Plain,
    /// `call_pal callsys`.
    Syscall,
    /// `br`, `bsr`.
    Jump { link: Register, to: Address },
    /// `jmp`, `jsr`, `ret`, `jsr_coroutine`.
    JumpRegister { link: Register, base: Register, returns: bool },
    /// The branches on an integer register.
    Branch { test: Test, register: Register, to: Address },
    /// Those on a floating-point register.
    FloatingBranch { to: Address },
    /// `ldl_l`, `ldq_l`.
    LoadLocked,
    /// `stl_c`, `stq_c`.
    StoreConditional,
    /// `rs`.
    SetFlag,
    /// `rc`.
    ClearFlag,
    /// Cannot run elsewhere for another reason.
    Refused(&'static str),
}

impl Kind {
    /// Why no breakpoint may take its place.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::LoadLocked => Some("a trap behind it ends its lock, so its store would fail each time"),
            Self::StoreConditional => Some("a trap in front of it ends the lock that it needs"),
            Self::SetFlag | Self::ClearFlag => {
                Some("a trap clears the flag by which the program learns whether it was interrupted")
            }
            Self::Refused(why) => Some(why),
            _ => None,
        }
    }
}

const BREAKPOINT: Kind = Kind::Refused("it is a breakpoint, which belongs to a debugger");
const RETURN: Kind = Kind::Refused("it goes where a frame on the stack says, which PALcode reads");

/// The word that `bytes` begin with.
pub(crate) fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// What the instruction is that begins at `at`; `bytes` may go on behind it.
pub(crate) fn decode(at: Address, bytes: &[u8]) -> Option<Kind> {
    let word = word(bytes).filter(|_| at.0.is_multiple_of(WORD as u64))?;
    let register = Register::at(word, 21);
    // In words, from the next instruction (3.3.2).
    let to = at.offset(WORD as i64 + 4 * signed(u64::from(word), 21));
    let branch = |test| Kind::Branch { test, register, to };
    Some(match word >> 26 {
        0x00 => palcode(field(word, 0, 26)),
        0x01..=0x07 => return None,
        0x18 => match field(word, 0, 16) {
            0xe000 => Kind::ClearFlag,
            0xf000 => Kind::SetFlag,
            _ => Kind::Plain,
        },
        0x1a => Kind::JumpRegister {
            link: register,
            base: Register::at(word, 16),
            returns: field(word, 14, 2) == 2, // the hint (4.3.3)
        },
        0x2a | 0x2b => Kind::LoadLocked,
        0x2e | 0x2f => Kind::StoreConditional,
        0x30 | 0x34 => Kind::Jump { link: register, to },
        0x31..=0x33 | 0x35..=0x37 => Kind::FloatingBranch { to },
        0x38 => branch(Test::Clear),
        0x39 => branch(Test::Zero),
        0x3a => branch(Test::Negative),
        0x3b => branch(Test::NotPositive),
        0x3c => branch(Test::Set),
        0x3d => branch(Test::NotZero),
        0x3e => branch(Test::NotNegative),
        0x3f => branch(Test::Positive),
        _ => Kind::Plain,
    })
}

/// PALcode's functions, of DIGITAL UNIX as of Linux (appendix C; arch/alpha/include/uapi/asm/pal.h).
fn palcode(function: u32) -> Kind {
    match function {
        0x80 => BREAKPOINT,
        0x83 => Kind::Syscall,
        0x92 => RETURN,
        _ => Kind::Plain,
    }
}

/// What planning asks of one instruction.
pub(crate) fn inspect(at: Address, bytes: &[u8]) -> Option<Insn> {
    let kind = decode(at, bytes)?;
    let flow = match kind {
        Kind::Branch { .. } | Kind::FloatingBranch { .. } => Flow::Conditional,
        Kind::Jump { link, .. } | Kind::JumpRegister { link, .. } if link != Register::ZERO => Flow::Call,
        Kind::Jump { .. } | Kind::JumpRegister { .. } => Flow::Leaves,
        Kind::Syscall => Flow::Syscall,
        RETURN => Flow::Leaves,
        _ => Flow::Next,
    };
    Some(Insn {
        len: WORD,
        flow,
        is_landing_pad: false,
        is_return: matches!(kind, Kind::JumpRegister { link: Register::ZERO, returns: true, .. }),
        is_padding: PADDING.contains(&word(bytes)?),
    })
}

/// `nop`, `fnop` and `unop` (A.4.6), this as assemblers have it.
const PADDING: [u32; 3] = [0x47ff_041f, 0x5fff_041f, 0x2ffe_0000];

/// The address that the instruction refers to relative to its own.
pub(crate) fn reference(at: Address, bytes: &[u8]) -> Option<Address> {
    match decode(at, bytes)? {
        Kind::Jump { to, .. } | Kind::Branch { to, .. } | Kind::FloatingBranch { to } => Some(to),
        _ => None,
    }
}
