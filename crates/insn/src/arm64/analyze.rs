//! What an instruction is to a tracer: where control goes, and whether it may run elsewhere.
//!
//! Sections are those of the Arm Architecture Reference Manual for A-profile, DDI 0487; encodings are its C4.1. The program
//! counter is known to few instructions: ADR and ADRP, the branches, the loads of literals, and the signing of return addresses
//! of FEAT_PAuth_LR. So these spaces of the main encoding table go to a slot as they are, whether an extension has defined an
//! encoding or not (undefined or privileged, it traps there as it does in place): SME (`op0` = 0000, bit 31 set), SVE (0010),
//! data processing (100x but ADR and ADRP; x101, x111 but those that sign), loads and stores (x1x0 but literals and what is
//! refused below), and of branches, exceptions and system instructions (101x) the system instructions (bits 31:24 = 0xd5).
//! Refused are
//!
//! - what is not known in the rest of the space of branches: it may be a branch of a future extension;
//! - exclusive loads and stores: the monitor is cleared by the exception return from any breakpoint or step (B2.9,
//!   "Synchronization and semaphores"), so that the store fails, and the loop that they belong to comes to the breakpoint
//!   again, for ever;
//! - the main part and the epilogue of a memory copy or set: where a thread comes to a processor of another implementation they
//!   trap, and the kernel sets the PC back by 4 or 8 to the prologue (`arm64_mops_reset_regs`,
//!   arch/arm64/include/asm/traps.h), which in front of a slot does not lie. The prologue never does that: it goes to a slot;
//! - what signs with its own address, and breakpoints.

use crate::address::Address;
use crate::decode::{Flow, Insn};
use crate::field::{field, signed};

/// Every instruction's bytes.
pub(crate) const LEN: usize = 4;

/// A general register; 31 is the zero register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    /// Holds the return address.
    pub(crate) const LINK: Self = Self(30);
    /// Reads as 0, and forgets what is written.
    pub(crate) const ZERO: Self = Self(31);
}

/// When a branch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    /// The condition code (C1.2.4).
    Flags(u32),
    /// The bit of the register is 1 (or 0).
    Bit {
        register: Register,
        bit: u32,
        is_set: bool,
    },
    /// The register compared with another or with a number, as numbers of so many bits.
    Compare {
        register: Register,
        with: Operand,
        test: Test,
        bits: u32,
    },
}

/// What a register is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    Register(Register),
    Number(u32),
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    Higher,
    HigherOrSame,
    Lower,
}

/// What a branch to a register is: each leaves something else in PSTATE.BTYPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Jump,
    Call,
    Return,
}

/// How an instruction is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Does not know where it is, and goes on behind itself.
    Plain,
    /// `nop`, and what is nothing outside of guarded pages: `bti`.
    Nothing,
    /// `b`, `bl` and the conditional ones.
    Branch { condition: Condition, to: Address, links: bool },
    /// `br`, `blr`, `ret`.
    BranchRegister { register: Register, via: Via },
    /// Such a branch whose target is authenticated before: `authenticates` is the instruction that does this alone, in the
    /// register, with the number lent in a register of its field Rn if it takes one.
    Authenticated { authenticates: u32, register: Register, lent: Option<Address>, via: Via },
    /// The return address is authenticated with an address relative to the PC; `authenticates` is as above.
    AuthenticatesLink { authenticates: u32, lent: Address },
    /// `adr`, `adrp`.
    AddressOf { into: Register, address: Address },
    /// A load of a literal; `load` is the one that finds it through the register of its field Rn.
    Literal { load: u32, into: Option<Register>, address: Address },
    /// `svc`.
    Syscall,
    /// Never goes on: what is undefined, or undefined for programs.
    Faults,
    /// Begins an exclusive access.
    LoadExclusive,
    /// Ends one.
    StoreExclusive,
    /// Has the next instruction sign with its own address.
    SignsNext,
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
            Self::Authenticated { register: Register::ZERO, .. } => {
                Some("it authenticates the zero register")
            }
            _ => None,
        }
    }
}

fn register(word: u32, low: u32) -> Register {
    Register(field(word, low, 5))
}

/// The signed field, as a distance.
fn distance(word: u32, low: u32, bits: u32) -> i64 {
    signed(u64::from(field(word, low, bits)), bits)
}

/// A branch's target: the field counts instructions.
fn target(at: Address, word: u32, low: u32, bits: u32) -> Address {
    Address(at.0.wrapping_add_signed(4 * distance(word, low, bits)))
}

/// The kind of the instruction with which `bytes`, at `at`, begin. `None` for what is no instruction: at no multiple of 4, cut
/// short, or in a space that C4.1 has as reserved or unallocated.
pub(crate) fn decode(at: Address, bytes: &[u8]) -> Option<Kind> {
    let word = word(bytes).filter(|_| at.0.is_multiple_of(4))?;
    match field(word, 25, 4) {
        // The permanently undefined, beside the reserved ones; SME.
        0b0000 if word >> 16 == 0 => Some(Kind::Faults),
        0b0000 if word >> 31 == 1 => Some(Kind::Plain),
        0b0000 | 0b0001 | 0b0011 => None,
        0b1000 | 0b1001 => Some(immediate(at, word)),
        0b1010 | 0b1011 => Some(branch(at, word)),
        0b0100 | 0b0110 | 0b1100 | 0b1110 => Some(memory(at, word)),
        0b0101 | 0b1101 => Some(signature(word)),
        _ => Some(Kind::Plain),
    }
}

/// Instructions are little-endian words, whatever the order of data (B2.6.2).
pub(crate) fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<LEN>().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Data processing with an immediate.
fn immediate(at: Address, word: u32) -> Kind {
    let into = register(word, 0);
    match field(word, 24, 5) {
        0b10000 => {
            let distance = distance(word, 5, 19) << 2 | i64::from(field(word, 29, 2));
            let address = match word >> 31 {
                0 => at.0.wrapping_add_signed(distance),
                _ => (at.0 & !0xfff).wrapping_add_signed(distance << 12),
            };
            Kind::AddressOf { into, address: Address(address) }
        }
        // `autiasppc`, `autibsppc`.
        _ if word >> 22 == 0b11_1100_1110 && into == Register::ZERO => Kind::AuthenticatesLink {
            authenticates: authenticates_link(field(word, 21, 1)),
            lent: behind(at, word),
        },
        _ => Kind::Plain,
    }
}

/// `autiasppcr` or `autibsppcr`, whose field Rn is to be filled in.
fn authenticates_link(key: u32) -> u32 {
    0xdac1_901e | key << 10
}

/// The address that `autiasppc` and `retaasppc` name: at or before their own.
fn behind(at: Address, word: u32) -> Address {
    Address(at.0.wrapping_sub(4 * u64::from(field(word, 5, 16))))
}

/// Data processing with registers: FEAT_PAuth_LR has instructions of one source that sign or authenticate with two
/// modifiers.
fn signature(word: u32) -> Kind {
    if word >> 16 != 0xdac1 || word >> 15 & 1 == 0 {
        return Kind::Plain;
    }
    match field(word, 10, 5) {
        // The modifiers are registers: `pacia171615`, `autiasppcr`, `autia171615`.
        0b00010..=0b00101 | 0b01110 | 0b01111 => Kind::Plain,
        _ => Kind::Refused("it signs with its own address"),
    }
}

/// Branches, exceptions and system instructions.
fn branch(at: Address, word: u32) -> Kind {
    let condition = match (word >> 24, field(word, 24, 7)) {
        (_, 0x14..=0x17) => {
            let (to, links) = (target(at, word, 0, 26), word >> 31 == 1);
            return Kind::Branch { condition: Condition::Always, to, links };
        }
        // `b.cond`; `bc.cond` is the same with a hint.
        (0x54, _) => Some((Condition::Flags(field(word, 0, 4)), target(at, word, 5, 19))),
        (_, 0x34 | 0x35) => Some((zero(word), target(at, word, 5, 19))),
        (_, 0x36 | 0x37) => Some((bit(word), target(at, word, 5, 14))),
        (_, 0x74 | 0x75) => compare(word).map(|condition| (condition, target(at, word, 5, 9))),
        (0xd4, _) => return exception(word),
        (0xd5, _) => return system(word),
        (0x55, _) => return return_by_address(at, word).unwrap_or(UNKNOWN),
        (0xd6 | 0xd7, _) => return branch_register(word).unwrap_or(UNKNOWN),
        _ => None,
    };
    condition.map_or(UNKNOWN, |(condition, to)| Kind::Branch { condition, to, links: false })
}

const UNKNOWN: Kind = Kind::Refused("it is not known, and its encoding is among those of branches");

/// `cbz`, `cbnz`.
fn zero(word: u32) -> Condition {
    Condition::Compare {
        register: register(word, 0),
        with: Operand::Number(0),
        test: if word >> 24 & 1 == 0 { Test::Equal } else { Test::NotEqual },
        bits: if word >> 31 == 0 { 32 } else { 64 },
    }
}

/// `tbz`, `tbnz`.
fn bit(word: u32) -> Condition {
    Condition::Bit {
        register: register(word, 0),
        bit: (field(word, 31, 1) << 5 | field(word, 19, 5)),
        is_set: word >> 24 & 1 == 1,
    }
}

/// FEAT_CMPBR: `cbgt` and its like compare registers, bytes and halfwords of them, or one with a number.
fn compare(word: u32) -> Option<Condition> {
    let wide = if word >> 31 == 0 { 32 } else { 64 };
    let is_number = word >> 24 & 1 == 1;
    let test = match (field(word, 21, 3), is_number) {
        (0b000, _) => Test::Greater,
        (0b001, false) => Test::GreaterOrEqual,
        (0b001, true) => Test::Less,
        (0b010, _) => Test::Higher,
        (0b011, false) => Test::HigherOrSame,
        (0b011, true) => Test::Lower,
        (0b110, _) => Test::Equal,
        (0b111, _) => Test::NotEqual,
        _ => return None,
    };
    let (with, bits) = match (is_number, field(word, 14, 2), wide) {
        (true, 0b00 | 0b10, _) => (Operand::Number(field(word, 15, 6)), wide),
        (false, 0b00, _) => (Operand::Register(register(word, 16)), wide),
        (false, 0b10, 32) => (Operand::Register(register(word, 16)), 8),
        (false, 0b11, 32) => (Operand::Register(register(word, 16)), 16),
        _ => return None,
    };
    Some(Condition::Compare { register: register(word, 0), with, test, bits })
}

/// Exception generation.
fn exception(word: u32) -> Kind {
    match (field(word, 21, 3), field(word, 0, 5)) {
        (0b000, 0b00001) => Kind::Syscall,
        // `hvc`, `smc`, `dcps1` to `dcps3`: undefined for programs.
        (0b000, 0b00010 | 0b00011) | (0b101, 0b00001..=0b00011) => Kind::Faults,
        (0b001, 0b00000) => Kind::Refused("it is a breakpoint, which belongs to a debugger"),
        (0b010, 0b00000) => Kind::Refused("it halts for an external debugger, or calls a semihosting one"),
        (0b011, 0b00000) => Kind::Refused(TRANSACTION),
        _ => UNKNOWN,
    }
}

/// `tstart`, `tcommit`, `tcancel`: an exception in between undoes it.
const TRANSACTION: &str = "it begins or ends a hardware transaction";

/// Hints, barriers, PSTATE, system instructions and registers.
fn system(word: u32) -> Kind {
    match word {
        0xd503_201f => Kind::Nothing,
        _ if is_landing_pad(word) && field(word, 5, 7) >= 32 => Kind::Nothing,
        0xd503_24ff => Kind::SignsNext,
        0xd503_307f => Kind::Refused(TRANSACTION),
        _ if word & !0x1f == 0xd523_3060 => Kind::Refused(TRANSACTION),
        _ => Kind::Plain,
    }
}

/// `bti`, and `paciasp` and `pacibsp`, which are landing pads too (their own pages, chapter C6.2).
fn is_landing_pad(word: u32) -> bool {
    let hint = field(word, 5, 7);
    word & !0xfe0 == 0xd503_201f && matches!(hint, 25 | 27 | 32 | 34 | 36 | 38)
}

/// `retaasppc`, `retabsppc`.
fn return_by_address(at: Address, word: u32) -> Option<Kind> {
    (word >> 22 == 0b01_0101_0100 && register(word, 0) == Register::ZERO).then(|| Kind::Authenticated {
        authenticates: authenticates_link(field(word, 21, 1)),
        register: Register::LINK,
        lent: Some(behind(at, word)),
        via: Via::Return,
    })
}

/// Unconditional branches to registers.
fn branch_register(word: u32) -> Option<Kind> {
    let (to, modifier) = (register(word, 5), register(word, 0));
    let (opcode, kind) = (field(word, 21, 4), field(word, 10, 6));
    let via = match opcode & 0b0111 {
        0b0000 => Via::Jump,
        0b0001 => Via::Call,
        0b0010 => Via::Return,
        // `eret`, `drps` and their like.
        0b0100 | 0b0101 if opcode < 8 => {
            let is_return = field(word, 16, 5) == 0b11111 && kind < 4 && to == Register::ZERO;
            return is_return.then_some(Kind::Faults);
        }
        _ => return None,
    };
    let authenticated = |authenticates: u32, register| {
        let authenticates = authenticates | (kind & 1) << 10;
        Some(Kind::Authenticated { authenticates, register, lent: None, via })
    };
    match (field(word, 16, 5), opcode >> 3, kind, via) {
        (0b11111, 0, 0b000000, _) if modifier.0 == 0 => Some(Kind::BranchRegister { register: to, via }),
        // `retaa` takes the stack pointer for a modifier, `retaasppcr` a register as well.
        (0b11111, 0, 0b000010 | 0b000011, Via::Return) if to == Register::ZERO => match modifier {
            Register::ZERO => authenticated(AUTIA | 31 << 5 | 30, Register::LINK),
            _ => Some(Kind::Authenticated {
                authenticates: authenticates_link(kind & 1) | modifier.0 << 5,
                register: Register::LINK,
                lent: None,
                via,
            }),
        },
        // `braaz`, `blraaz`.
        (0b11111, 0, 0b000010 | 0b000011, Via::Jump | Via::Call) if modifier == Register::ZERO => {
            authenticated(AUTIZA | to.0, to)
        }
        // `braa`, `blraa`: here 31 is the stack pointer, as it is for `autia`.
        (0b11111, 1, 0b000010 | 0b000011, Via::Jump | Via::Call) => {
            authenticated(AUTIA | modifier.0 << 5 | to.0, to)
        }
        _ => None,
    }
}

/// `autia Xd, Xn|SP`; bit 10 is the key.
const AUTIA: u32 = 0xdac1_1000;
/// `autiza Xd`.
const AUTIZA: u32 = 0xdac1_33e0;

/// Loads and stores.
fn memory(at: Address, word: u32) -> Kind {
    match (field(word, 24, 6), field(word, 21, 1)) {
        (0b011000 | 0b011100, _) => literal(at, word),
        // Bit 23 is clear for exclusive accesses, bit 21 set for pairs. Sizes of pairs are 32 and 64 bits; with the others it is
        // a compare-and-swap of pairs.
        (0b001000, is_pair) if word >> 23 & 1 == 0 && (is_pair == 0 || word >> 31 == 1) => exclusive(word),
        // FEAT_LSUI: the same without privileges.
        (0b001001, 0) if word >> 23 & 1 == 0 && word >> 31 == 1 => exclusive(word),
        (0b011001 | 0b011101, 0) if word >> 30 == 0 && field(word, 10, 2) == 0b01 => copy_or_set(word),
        _ => Kind::Plain,
    }
}

fn exclusive(word: u32) -> Kind {
    if word >> 22 & 1 == 1 { Kind::LoadExclusive } else { Kind::StoreExclusive }
}

/// Load register (literal). The loads that find the same through a register have an unsigned offset, 0 here.
fn literal(at: Address, word: u32) -> Kind {
    let (load, is_general) = match (word >> 30, field(word, 26, 1)) {
        (0b00, 0) => (0xb940_0000, true),  // ldr Wt
        (0b01, 0) => (0xf940_0000, true),  // ldr Xt
        (0b10, 0) => (0xb980_0000, true),  // ldrsw
        (_, 0) => (0xf980_0000, false),    // prfm
        (0b00, _) => (0xbd40_0000, false), // ldr St
        (0b01, _) => (0xfd40_0000, false), // ldr Dt
        (0b10, _) => (0x3dc0_0000, false), // ldr Qt
        _ => return Kind::Refused("it is not known, and its encoding is among those of literal loads"),
    };
    let into = register(word, 0);
    Kind::Literal { load: load | into.0, into: is_general.then_some(into), address: target(at, word, 5, 19) }
}

/// Memory copy and memory set: prologue, main part and epilogue are told by bits 23:22, or 15:14 where those are 11.
fn copy_or_set(word: u32) -> Kind {
    let part = match field(word, 22, 2) {
        0b11 => field(word, 14, 2),
        part => part,
    };
    match part {
        0b01 | 0b10 => {
            Kind::Refused("where it must begin anew, the kernel goes back to what lies in front of it")
        }
        _ => Kind::Plain,
    }
}

/// See [`crate::decode::inspect`].
pub(crate) fn inspect(at: Address, bytes: &[u8]) -> Option<Insn> {
    let kind = decode(at, bytes)?;
    let word = word(bytes)?;
    let flow = match kind {
        Kind::Branch { links: true, .. } => Flow::Call,
        Kind::Branch { condition: Condition::Always, .. } => Flow::Leaves,
        Kind::Branch { .. } => Flow::Conditional,
        Kind::BranchRegister { via: Via::Call, .. } | Kind::Authenticated { via: Via::Call, .. } => {
            Flow::Call
        }
        Kind::BranchRegister { .. } | Kind::Authenticated { .. } | Kind::Faults => Flow::Leaves,
        Kind::Syscall => Flow::Syscall,
        _ => Flow::Next,
    };
    Some(Insn {
        len: LEN,
        flow,
        is_landing_pad: is_landing_pad(word),
        is_return: matches!(
            kind,
            Kind::BranchRegister { via: Via::Return, .. } | Kind::Authenticated { via: Via::Return, .. }
        ),
        is_padding: word == 0xd503_201f || word == 0,
    })
}

/// See [`crate::decode::reference`].
pub(crate) fn reference(at: Address, bytes: &[u8]) -> Option<Address> {
    match decode(at, bytes)? {
        Kind::Branch { to, .. } => Some(to),
        Kind::AddressOf { address, .. } | Kind::Literal { address, .. } => Some(address),
        Kind::Authenticated { lent, .. } => lent,
        Kind::AuthenticatesLink { lent, .. } => Some(lent),
        _ => None,
    }
}
