//! What an instruction is to a tracer: where control goes, and whether it may run elsewhere.
//!
//! Chapters are those of the Power ISA, version 3.1C: of Book I where no other is named. The address of the current
//! instruction is known to few: the branches (primary opcodes 16, 18 and, among others, 19), `addpcis` (in 19), prefixed
//! instructions with R = 1, `scv`, `tbegin.`. So these primary opcodes go to a slot as they are, whether an encoding is defined
//! there or not (undefined or privileged, it traps there as it does in place): 2 to 4, 6 to 8, 10 to 15, 20, 21, 23 to 63 (appendix
//! C, "Opcode Maps"; vendors' extensions such as SPE lie in 4), but for what is named below. Of the prefixed ones those
//! of all four types go there (1.6.3). Refused are
//!
//! - what is not known in 17 and 19, and the primary opcodes that are not allocated (0, 5, 9, 22): branches may come there
//!   (Libre-SOC's prefix for vectors is opcode 9);
//! - loads and reserve, and conditional stores (Book II, 1.7.2): Linux clears the reservation at each return from an
//!   interrupt (`interrupt_return`, arch/powerpc/kernel/interrupt_64.S), so that the store fails, and its loop comes to the
//!   breakpoint again, for ever. `copy` and `paste.` likewise: the kernel empties the copy buffer when it comes back to
//!   a task that pastes from another one, such as the tracer (`__switch_to`, arch/powerpc/kernel/process.c);
//! - transactional memory: an interrupt makes a transaction fail, and `tbegin.` notes its own address for that;
//! - traps that are always taken: they are breakpoints. Other traps run in a slot, and are seen as its fault;
//! - event-based branch returns, and branches to TAR on a condition: where they go no register of the set tells.
//!
//! Not told from the bytes: `sc` with the number of `switch_endian`, behind which code has the other byte order.

use crate::address::Address;
use crate::decode::{Flow, Insn};
use crate::field::{field, signed};
use crate::isa::{Isa, Order};

/// Bytes of a word: the unit that instructions consist of.
pub(crate) const WORD: usize = 4;

/// No prefixed instruction crosses such a boundary (1.6, "Instruction Fetching": an alignment interrupt).
const BLOCK: u64 = 64;

/// When a branch is taken: the fields BO and BI (2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) bo: u32,
    pub(crate) bi: u32,
}

impl Condition {
    const ALWAYS: Self = Self { bo: 0b10100, bi: 0 };

    /// Whether a bit of CR counts.
    pub(crate) fn tests_bit(self) -> bool {
        self.bo & 0b10000 == 0
    }

    /// Whether CTR is decremented and counts.
    pub(crate) fn counts(self) -> bool {
        self.bo & 0b00100 == 0
    }

    /// Whether it is taken whatever the registers hold.
    pub(crate) fn is_always(self) -> bool {
        !self.tests_bit() && !self.counts()
    }
}

/// Where a branch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// There.
    Address(Address),
    /// To what LR holds; the branch hint does not say that it is something else than a return.
    Link { is_return: bool },
    /// To what CTR holds.
    Count,
    /// To what TAR holds, which is not in the register set.
    Tar,
}

/// How an instruction is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Does not know where it is, and goes on behind itself.
    Plain,
    /// Nothing at all.
    Nothing,
    /// Never goes on: not for programs, or no instruction for ever.
    Faults,
    /// A branch of any kind.
    Branch { to: To, condition: Condition, links: bool },
    /// `addpcis`, `paddi` with R = 1.
    AddressOf { into: u32, address: Address },
    /// A prefixed load or store with R = 1, of the address. With R = 0 in the prefix and a register in the field RA of the
    /// suffix it is one that knows nothing of its own. General registers that it loads or stores: so many from `data` on.
    Relative { address: Address, data: u32, count: u32 },
    /// `sc`.
    Syscall,
    /// `scv`: leaves the address behind itself in LR (2.6, "System Call Instructions").
    SyscallVectored,
    /// A trap that is always taken.
    Breakpoint,
    /// `lwarx` and its like; `copy`.
    LoadReserve,
    /// `stwcx.` and its like; `paste.`.
    StoreConditional,
    /// Cannot run elsewhere for another reason.
    Refused(&'static str),
}

impl Kind {
    /// Why no breakpoint may take its place.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Breakpoint => Some("it is a breakpoint, which belongs to a debugger"),
            Self::LoadReserve => {
                Some("what it begins ends with the breakpoint's interrupt, so its store would fail each time")
            }
            Self::StoreConditional => Some("the interrupt of a breakpoint in front of it makes it fail"),
            Self::Branch { to: To::Tar, condition, .. } if !condition.is_always() => {
                Some("it goes on a condition to where TAR says, which is not among the registers")
            }
            Self::Branch { to: To::Count, condition, .. } if condition.counts() => {
                Some("it decrements the register that it branches to, which is an invalid form")
            }
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
    is_padding: bool,
}

/// The word that `bytes` begin with, in the order of the ISA's data.
pub(crate) fn word(isa: Isa, bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| match isa.abi().order {
        Order::Little => u32::from_le_bytes(*bytes),
        Order::Big => u32::from_be_bytes(*bytes),
    })
}

fn opcode(word: u32) -> u32 {
    word >> 26
}

/// Whether the word at `at` is the first of two. A prefix cannot be the last word of a block: what stands there is data, or
/// was never run, and hides nothing behind it.
fn is_prefix(at: Address, word: u32) -> bool {
    opcode(word) == 1 && at.0 % BLOCK != BLOCK - WORD as u64
}

/// Bytes of the instruction that `bytes`, at `at`, begin with; `None` where they end inside it.
pub(crate) fn length(isa: Isa, at: Address, bytes: &[u8]) -> Option<usize> {
    let len = if is_prefix(at, word(isa, bytes)?) { 2 * WORD } else { WORD };
    (bytes.len() >= len).then_some(len)
}

/// The instruction that begins at `at`; `bytes` may go on behind it. `None` for what is none: at no multiple of 4, or cut short.
pub(crate) fn decode(isa: Isa, at: Address, bytes: &[u8]) -> Option<Decoded> {
    let len = length(isa, at, bytes).filter(|_| at.0.is_multiple_of(WORD as u64))?;
    let first = word(isa, bytes)?;
    let place = Place { isa, at };
    let kind = match len {
        WORD => place.kind(first),
        _ => place.prefixed(first, word(isa, bytes.get(WORD..)?)?),
    };
    Some(Decoded { len, kind, is_padding: len == WORD && PADDING.contains(&first) })
}

/// `nop`, and the two that end a group of instructions (`ori 1,1,0`, `ori 2,2,0`), with which assemblers align.
const PADDING: [u32; 3] = [0x6000_0000, 0x6021_0000, 0x6042_0000];

/// What planning asks of one instruction.
pub(crate) fn inspect(isa: Isa, at: Address, bytes: &[u8]) -> Option<Insn> {
    let decoded = decode(isa, at, bytes)?;
    let flow = match decoded.kind {
        Kind::Branch { links: true, .. } => Flow::Call,
        Kind::Branch { condition, .. } if !condition.is_always() => Flow::Conditional,
        Kind::Branch { .. } | Kind::Faults | Kind::Breakpoint | EVENT => Flow::Leaves,
        Kind::Syscall | Kind::SyscallVectored => Flow::Syscall,
        _ => Flow::Next,
    };
    Some(Insn {
        len: decoded.len,
        flow,
        is_landing_pad: false,
        is_return: matches!(
            decoded.kind,
            Kind::Branch { to: To::Link { is_return: true }, links: false, .. }
        ),
        is_padding: decoded.is_padding,
    })
}

/// The address that the instruction refers to relative to its own.
pub(crate) fn reference(isa: Isa, at: Address, bytes: &[u8]) -> Option<Address> {
    match decode(isa, at, bytes)?.kind {
        Kind::Branch { to: To::Address(to), .. } if !is_absolute(word(isa, bytes)?) => Some(to),
        Kind::AddressOf { address, .. } | Kind::Relative { address, .. } => Some(address),
        _ => None,
    }
}

/// The bit AA of `b` and `bc`.
fn is_absolute(word: u32) -> bool {
    word & 2 != 0
}

/// The bit LK.
fn links(word: u32) -> bool {
    word & 1 != 0
}

const UNALLOCATED: Kind = Kind::Refused("its opcode is not allocated, and may become that of branches");
const UNKNOWN: Kind = Kind::Refused("it is not known, and its encoding is among those of branches");
const EVENT: Kind = Kind::Refused("it goes to where the event was, which is not among the registers");
const TRANSACTION: Kind = Kind::Refused("a breakpoint's interrupt makes a transaction fail");
const INVALID: Kind = Kind::Refused("it is of an invalid form: relative to itself, and to a register");
const CROSSES: Kind =
    Kind::Refused("a prefixed instruction over a boundary of 64 bytes ends in an alignment interrupt");

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

    /// By the primary opcode.
    fn kind(&self, word: u32) -> Kind {
        let to = field(word, 21, 5);
        let is_one_register = field(word, 16, 5) == field(word, 11, 5);
        match opcode(word) {
            // An instruction of zeros only is illegal for ever ("Illegal Instruction Class"); `attn` is the service
            // processor's.
            0 if word == 0 || field(word, 1, 10) == 256 => Kind::Faults,
            0 | 5 | 9 | 22 => UNALLOCATED,
            1 => CROSSES,
            2 | 3 if is_always_taken(to, false) => Kind::Breakpoint,
            16 => Kind::Branch {
                to: self.target(word, u64::from(word & 0xfffc), 16),
                condition: condition(word),
                links: links(word),
            },
            17 => system_call(word),
            18 => Kind::Branch {
                to: self.target(word, u64::from(word & 0x03ff_fffc), 26),
                condition: Condition::ALWAYS,
                links: links(word),
            },
            19 => self.extended19(word),
            24 if word == 0x6000_0000 => Kind::Nothing,
            31 if matches!(field(word, 1, 10), 4 | 68) && is_always_taken(to, is_one_register) => {
                Kind::Breakpoint
            }
            31 => extended31(word),
            _ => Kind::Plain,
        }
    }

    fn target(&self, word: u32, distance: u64, bits: u32) -> To {
        let distance = signed(distance, bits);
        To::Address(if is_absolute(word) {
            self.isa.wrap(Address(distance.cast_unsigned()))
        } else {
            self.relative(distance)
        })
    }

    /// Primary opcode 19, by the extended opcode: branches to registers, `addpcis`, and what deals with CR.
    fn extended19(&self, word: u32) -> Kind {
        let branch = |to| Kind::Branch { to, condition: condition(word), links: links(word) };
        match field(word, 1, 10) {
            _ if field(word, 1, 5) == 2 => self.address_behind(word),
            16 => branch(To::Link { is_return: field(word, 11, 2) == 0 }),
            528 => branch(To::Count),
            560 => branch(To::Tar),
            146 => EVENT,
            // rfid, rfmci, rfdi, rfi, rfci, rfscv, rfgi, hrfid, urfid, stop, doze, nap, sleep, rvwinkle
            18 | 38 | 39 | 50 | 51 | 82 | 102 | 274 | 306 | 370 | 402 | 434 | 466 | 498 => Kind::Faults,
            // mcrf; crnor, crandc, crxor, crnand, crand, creqv, crorc, cror; isync
            0 | 33 | 129 | 193 | 225 | 257 | 289 | 417 | 449 | 150 => Kind::Plain,
            _ => UNKNOWN,
        }
    }

    /// `addpcis`: the address behind it and a number of 16 bits in the upper half of a word.
    fn address_behind(&self, word: u32) -> Kind {
        let upper = field(word, 6, 10) << 6 | field(word, 16, 5) << 1 | word & 1;
        let distance = WORD as i64 + signed(u64::from(upper) << 16, 32);
        Kind::AddressOf { into: field(word, 21, 5), address: self.relative(distance) }
    }

    /// A prefixed instruction, by the prefix's type (1.6.3) and the suffix's primary opcode. Types 0 and 2 have R, the others
    /// no addresses.
    fn prefixed(&self, prefix: u32, suffix: u32) -> Kind {
        let (kind, is_relative) = (field(prefix, 24, 2), field(prefix, 20, 1) == 1);
        if !matches!(kind, 0 | 2) || !is_relative {
            return Kind::Plain;
        }
        if field(suffix, 16, 5) != 0 {
            return INVALID;
        }
        let distance = signed(u64::from(field(prefix, 0, 18)) << 16 | u64::from(field(suffix, 0, 16)), 34);
        let address = self.relative(distance);
        let data = field(suffix, 21, 5);
        let relative = |count| Kind::Relative { address, data, count };
        match (kind, opcode(suffix)) {
            (2, 14) => Kind::AddressOf { into: data, address },
            // plwz, plbz, pstw, pstb, plhz, plha, psth; plwa, pld, pstd
            (2, 32 | 34 | 36 | 38 | 40 | 42 | 44) | (0, 41 | 57 | 61) => relative(1),
            // `plq` to the registers 0 and 1 is illegal, for RTp = RA (its description): with another RA it would not be.
            (0, 56) if data == 0 => Kind::Plain,
            // plq, pstq
            (0, 56 | 60) => relative(2),
            // plfs, plfd, pstfs, pstfd; plxsd, plxssp, pstxsd, pstxssp, plxv, pstxv, plxvp, pstxvp
            (2, 48 | 50 | 52 | 54) | (0, 42 | 43 | 46 | 47 | 50 | 51 | 54 | 55 | 58 | 62) => relative(0),
            _ => Kind::Refused("it is not known, and it may be relative to itself"),
        }
    }
}

fn condition(word: u32) -> Condition {
    Condition { bo: field(word, 21, 5), bi: field(word, 16, 5) }
}

/// Whether a trap's field TO has a result of every comparison in it: less, greater, equal; less and greater without signs
/// (3.3.11). A register compared with itself is equal.
fn is_always_taken(to: u32, is_one_register: bool) -> bool {
    to & 0b11100 == 0b11100 || to & 0b00111 == 0b00111 || is_one_register && to & 0b00100 != 0
}

/// Primary opcode 17. Linux has vector 0 of `scv` only, and does not promise what is left behind others
/// (Documentation/arch/powerpc/syscall64-abi.rst).
fn system_call(word: u32) -> Kind {
    match (word & 3, field(word, 5, 7)) {
        (2, _) => Kind::Syscall,
        (1, 0) => Kind::SyscallVectored,
        (1, _) => {
            Kind::Refused("the kernel knows no such system call, and what it leaves in LR is not known")
        }
        _ => UNKNOWN,
    }
}

/// Primary opcode 31, by the extended opcode of the form X.
fn extended31(word: u32) -> Kind {
    match field(word, 1, 10) {
        // lbarx, lharx, lwarx, ldarx, lqarx; copy
        52 | 116 | 20 | 84 | 276 | 774 => Kind::LoadReserve,
        // stbcx., sthcx., stwcx., stdcx., stqcx.; paste.
        694 | 726 | 150 | 214 | 182 | 902 => Kind::StoreConditional,
        // tbegin., tend., tabort., tabortwc., tabortdc., tabortwci., tabortdci., tsr.
        654 | 686 | 910 | 782 | 814 | 846 | 878 | 750 => TRANSACTION,
        _ => Kind::Plain,
    }
}
