//! What an instruction is to a tracer: where control goes, and whether it may run elsewhere.
//!
//! Instructions and formats are those of "z/Architecture Principles of Operation", SA22-7832-13. An instruction has 2, 4 or 6
//! bytes, as the first two bits say (chapter 5, "Instruction Formats"). The instruction address in the PSW is known to the branches, to
//! what is relative to itself (the formats with RI of 16 bits and more), and to what stores a PSW or takes one. Branches lie
//! scattered among the operation codes (BRANCH ON COUNT is 06, 46, A7-6, B946, E346 and CC-6), so what a processor may have beyond
//! those that are known here could be one: operation codes that are not assigned are refused, as the kernel's kprobes do
//! (`probe_is_prohibited_opcode`, arch/s390/kernel/kprobes.c). Excepted are those that begin with E6, E7, ED (vectors, floating
//! point, decimals), B3 (floating point), E5, C2 and C8: none of them branches. Refused are further
//!
//! - EXECUTE and EXECUTE RELATIVE LONG: what they execute lies elsewhere, and may be a branch;
//! - what changes the addressing mode: BASSM, BSM, SAM24, SAM31;
//! - what branches by tables of the system's or by a PSW in memory: PROGRAM CALL and its like, RESUME PROGRAM, TRAP;
//! - loads that may branch to the handler of guarded storage (chapter 4, "Guarded-Storage Facility"), which is told where they are;
//! - TRANSACTION BEGIN and TRANSACTION END: a breakpoint's interruption aborts the transaction (chapter 5, "Transactional-Execution
//!   Facility");
//! - breakpoints: 0001 is the kernel's for debuggers, 0002 that of its uprobes.
//!
//! Not told from the bytes: a program in another addressing mode than that of 64 bits.

use crate::address::Address;
use crate::decode::{Flow, Insn};
use crate::field::signed;

/// The number of a general register.
pub(crate) type Register = u8;

/// How wide the numbers are that a branch computes with, and where they lie in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// The low 32 bits.
    Low,
    /// The high 32 bits.
    High,
    /// All 64.
    Wide,
}

/// What a register is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    Register(Register),
    /// As wide as the register.
    Number(u64),
}

/// When a branch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Always,
    /// By the condition code: bit 8 of the mask is for 0, bit 1 for 3.
    Condition(u8),
    /// The register, less one, is not zero.
    Count {
        register: Register,
        width: Width,
    },
    /// The register and an increment are more than a limit (`is_high`), or not: the increment is in `step`, the limit in the odd
    /// register of its pair, or in itself.
    Index {
        register: Register,
        step: Register,
        width: Width,
        is_high: bool,
    },
    /// By a comparison: bit 8 of the mask is for equal, 4 for low, 2 for high.
    Compare {
        register: Register,
        with: With,
        width: Width,
        is_signed: bool,
        mask: u8,
    },
}

/// Where a branch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// There.
    Address(Address),
    /// To the sum of two registers, 0 standing for none, and a number.
    Sum { base: Register, index: Register, displacement: i64 },
    /// To what memory holds there.
    Memory { base: Register, index: Register, displacement: i64 },
    /// Nowhere: BRANCH AND SAVE and its like without a second register.
    Nowhere,
}

/// How an instruction is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes on behind itself and does not know where it is.
    Plain,
    /// Has no effect but on what is fetched ahead: hints, and branches on no condition.
    Nothing,
    /// Never goes on: not for programs, or no instruction for ever.
    Faults,
    Breakpoint,
    Syscall,
    /// A branch of any kind, and what it leaves the address behind itself in.
    Branch {
        to: To,
        test: Test,
        link: Option<Register>,
    },
    /// `larl`.
    AddressOf {
        into: Register,
        address: Address,
    },
    /// A load, a store or a comparison of what is at the address, which is a multiple of `align`; the operation code of what does
    /// the same with a base register (in the format RXY).
    Relative {
        address: Address,
        data: Register,
        code: u8,
        align: u64,
    },
    /// `clhrl`, `clghrl`: there is none with a base register.
    CompareHalfword {
        address: Address,
        register: Register,
        width: Width,
    },
    /// `exrl`.
    Execute {
        target: Address,
    },
    TransactionBegin,
    TransactionEnd,
    /// Cannot run elsewhere for another reason.
    Refused(&'static str),
    /// The same, and it does not go on behind itself.
    Leaves(&'static str),
}

impl Kind {
    /// Why no breakpoint may take its place, or it may not run elsewhere.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Breakpoint => Some("it is a breakpoint, which belongs to a debugger"),
            Self::Execute { .. } => Some("what it executes lies elsewhere, and may be a branch"),
            Self::TransactionBegin => Some("the breakpoint behind its slot would abort what it begins"),
            Self::TransactionEnd => {
                Some("the interruption of a breakpoint in front of it aborts its transaction")
            }
            Self::Relative { address, align, .. } if !address.0.is_multiple_of(align) => {
                Some("what it refers to is not aligned, which is a specification exception")
            }
            Self::Refused(why) | Self::Leaves(why) => Some(why),
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

/// Bytes of the instruction that `bytes` begin with.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    Some(match bytes.first()? >> 6 {
        0b00 => 2,
        0b11 => 6,
        _ => 4,
    })
}

/// The instruction that begins at `at`; `bytes` may go on behind it. `None` for what is none: at an odd address, or cut short.
pub(crate) fn decode(at: Address, bytes: &[u8]) -> Option<Decoded> {
    let len = length(bytes).filter(|_| at.0.is_multiple_of(2))?;
    let bytes = bytes.get(..len)?;
    let mut fields = [0; 6];
    fields[..len].copy_from_slice(bytes);
    let kind = Place { at, bytes: fields }.kind();
    Some(Decoded { len, kind, is_padding: PADDING.contains(&bytes) })
}

/// What assemblers and compilers align with: `bcr 0,%r7`, `bcr 0,%r0`, `bc 0,0`, `brcl 0,.`.
const PADDING: [&[u8]; 4] = [&[0x07, 0x07], &[0x07, 0x00], &[0x47, 0, 0, 0], &[0xc0, 0x04, 0, 0, 0, 0]];

/// What planning asks of one instruction.
pub(crate) fn inspect(at: Address, bytes: &[u8]) -> Option<Insn> {
    let decoded = decode(at, bytes)?;
    let flow = match decoded.kind {
        Kind::Branch { to: To::Nowhere, .. } => Flow::Next,
        Kind::Branch { link: Some(_), .. } => Flow::Call,
        Kind::Branch { test: Test::Always, .. } | Kind::Faults | Kind::Breakpoint | Kind::Leaves(_) => {
            Flow::Leaves
        }
        Kind::Branch { .. } => Flow::Conditional,
        Kind::Syscall => Flow::Syscall,
        _ => Flow::Next,
    };
    // By convention r14 has the return address.
    let is_return = matches!(
        decoded.kind,
        Kind::Branch { to: To::Sum { base: 14, index: 0, displacement: 0 }, test: Test::Always, link: None }
    );
    Some(Insn { len: decoded.len, flow, is_landing_pad: false, is_return, is_padding: decoded.is_padding })
}

/// The address that the instruction refers to relative to its own.
pub(crate) fn reference(at: Address, bytes: &[u8]) -> Option<Address> {
    match decode(at, bytes)?.kind {
        Kind::Branch { to: To::Address(address), .. }
        | Kind::AddressOf { address, .. }
        | Kind::Relative { address, .. }
        | Kind::CompareHalfword { address, .. }
        | Kind::Execute { target: address } => Some(address),
        _ => None,
    }
}

/// Operation codes that are assigned: of the first byte, or of that which tells more.
struct Codes([u64; 4]);

impl Codes {
    fn have(&self, code: u8) -> bool {
        self.0[usize::from(code >> 6)] >> (code & 0x3f) & 1 == 1
    }
}

// Appendix B, "Lists of Instructions", and what arch/s390/tools/opcodes.txt has besides.
const FIRST: Codes =
    Codes([0xffff_ffff_ffff_fcf3, 0xff03_ff81_fff3_ffff, 0xeece_f3a0_0fff_fffd, 0x3f0f_ffee_feff_11f5]);
const OF_B2: Codes =
    Codes([0x1fff_ffff_0717_2ff7, 0x33d0_0008_e5f5_fff3, 0x2307_e0e0_3200_c0f1, 0x9501_3133_0000_0000]);
const OF_B9: Codes =
    Codes([0xdf03_ffe3_ffdf_ffff, 0x00fc_33f3_0e0e_0e4e, 0xe00f_dc17_ffff_efff, 0x2ff5_3fff_af7d_af01]);
const OF_E3: Codes =
    Codes([0xdf57_c473_fffc_ff5c, 0x1fef_03ff_dffb_33c0, 0x0000_0000_b3f3_c3ff, 0x0000_0000_0011_addd]);
const OF_EB: Codes =
    Codes([0x4003_b87b_3050_bc10, 0x4402_4407_00f6_1030, 0x0000_0000_0d41_c403, 0x05dc_05df_f013_0001]);
const OF_EC: Codes = Codes([0, 0xf0cf_0030_22f2_4074, 0, 0xf0c0_0030_0f00_0000]);

const UNKNOWN: Kind = Kind::Refused("it is not known, and it may be a branch");
const MODE: Kind = Kind::Leaves("it may change the addressing mode, in which a slot could not be reached");
const SYSTEM: Kind = Kind::Leaves("where it goes the system's tables say, or a PSW in memory");
const GUARDED: Kind =
    Kind::Refused("it may branch to the handler of guarded storage, which is told its address");

/// An instruction and where it lies.
struct Place {
    at: Address,
    /// Zeros behind what is shorter.
    bytes: [u8; 6],
}

impl Place {
    /// The half of a byte: R1 (or M1) is 2, what follows it 3, and so on.
    fn nibble(&self, index: usize) -> u8 {
        self.bytes[index / 2] >> (4 * (1 - index % 2)) & 0xf
    }

    fn number(&self, from: usize, len: usize) -> u64 {
        self.bytes[from..from + len].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The address that far from the instruction's own, in halfwords: the second one's number.
    fn relative_short(&self) -> Address {
        self.at.offset(2 * signed(self.number(2, 2), 16))
    }

    /// The same: that of the second and third one.
    fn relative_long(&self) -> Address {
        self.at.offset(2 * signed(self.number(2, 4), 32))
    }

    /// The base register at the third byte, and 12 bits behind it.
    fn based(&self, index: Register) -> To {
        let displacement = (self.number(2, 2) & 0xfff).cast_signed();
        To::Sum { base: self.nibble(4), index, displacement }
    }

    /// The same with 8 more bits, a sign the first of them, in the fifth byte.
    fn far(&self) -> i64 {
        signed(u64::from(self.bytes[4]) << 12 | self.number(2, 2) & 0xfff, 20)
    }

    fn kind(&self) -> Kind {
        let [first, second, ..] = self.bytes;
        match first {
            0x00 if matches!(second, 1 | 2) => Kind::Breakpoint,
            0x00 => Kind::Faults,
            0x01 => control(second),
            0x05..=0x0d | 0x44..=0x47 | 0x4d | 0x84..=0x87 => self.short(),
            0x82 => Kind::Faults, // lpsw
            0xa7 => self.immediate(),
            0xb2 => control_b2(second),
            0xb9 => self.of_b9(),
            0xc0 | 0xc4 | 0xc6 | 0xcc => self.long(),
            // bprp, bpp: they say where a branch will be.
            0xc5 | 0xc7 => Kind::Nothing,
            0xe3 => self.of_e3(),
            0xe5 if matches!(second, 0x60 | 0x61) => Kind::TransactionBegin,
            0xeb => self.of_eb(),
            0xec => self.of_ec(),
            _ if FIRST.have(first) => Kind::Plain,
            _ => UNKNOWN,
        }
    }

    /// Branches of formats RR, RX, RS and RSI; `ex`.
    fn short(&self) -> Kind {
        let (one, two) = (self.nibble(2), self.nibble(3));
        let by_register = match two {
            0 => To::Nowhere,
            base => To::Sum { base, index: 0, displacement: 0 },
        };
        let index = |is_high| Test::Index { register: one, step: two, width: Width::Low, is_high };
        let count = Test::Count { register: one, width: Width::Low };
        match self.bytes[0] {
            0x05 | 0x0d => linked(by_register, one),
            0x06 => branch(by_register, count),
            0x07 if one == 0 => Kind::Nothing,
            0x07 if two == 0 => Kind::Plain, // with 14 or 15 it serialises
            0x07 => branch(by_register, condition(one)),
            0x0a => Kind::Syscall,
            0x0b | 0x0c => MODE,
            0x44 => Kind::Refused("what it executes lies elsewhere, and may be a branch"),
            0x45 | 0x4d => linked(self.based(two), one),
            0x46 => branch(self.based(two), count),
            0x47 => branch(self.based(two), condition(one)),
            0x84 => branch(To::Address(self.relative_short()), index(true)),
            0x85 => branch(To::Address(self.relative_short()), index(false)),
            0x86 => branch(self.based(0), index(true)),
            0x87 => branch(self.based(0), index(false)),
            code if FIRST.have(code) => Kind::Plain,
            _ => UNKNOWN,
        }
    }

    /// Format RI.
    fn immediate(&self) -> Kind {
        let register = self.nibble(2);
        let to = To::Address(self.relative_short());
        match self.nibble(3) {
            4 => branch(to, condition(register)),
            5 => linked(to, register),
            6 => branch(to, Test::Count { register, width: Width::Low }),
            7 => branch(to, Test::Count { register, width: Width::Wide }),
            _ => Kind::Plain,
        }
    }

    /// Format RIL, where some are relative.
    fn long(&self) -> Kind {
        let (register, address) = (self.nibble(2), self.relative_long());
        let relative = |code, align| Kind::Relative { address, data: register, code, align };
        match (self.bytes[0], self.nibble(3)) {
            (0xc0, 0) => Kind::AddressOf { into: register, address },
            (0xc0, 4) => branch(To::Address(address), condition(register)),
            (0xc0, 5) => linked(To::Address(address), register),
            (0xc0, 1 | 6..) => Kind::Plain,
            (0xc4, 0x2) => relative(0x95, 2), // llhrl: llh
            (0xc4, 0x4) => relative(0x15, 2), // lghrl: lgh
            (0xc4, 0x5) => relative(0x78, 2), // lhrl: lhy
            (0xc4, 0x6) => relative(0x91, 2), // llghrl: llgh
            (0xc4, 0x7) => relative(0x70, 2), // sthrl: sthy
            (0xc4, 0x8) => relative(0x04, 8), // lgrl: lg
            (0xc4, 0xb) => relative(0x24, 8), // stgrl: stg
            (0xc4, 0xc) => relative(0x14, 4), // lgfrl: lgf
            (0xc4, 0xd) => relative(0x58, 4), // lrl: ly
            (0xc4, 0xe) => relative(0x16, 4), // llgfrl: llgf
            (0xc4, 0xf) => relative(0x50, 4), // strl: sty
            (0xc6, 0x0) => Kind::Execute { target: address },
            (0xc6, 0x2) => Kind::Nothing,     // pfdrl
            (0xc6, 0x4) => relative(0x34, 2), // cghrl: cgh
            (0xc6, 0x5) => relative(0x79, 2), // chrl: chy
            (0xc6, 0x6) => Kind::CompareHalfword { address, register, width: Width::Wide },
            (0xc6, 0x7) => Kind::CompareHalfword { address, register, width: Width::Low },
            (0xc6, 0x8) => relative(0x20, 8), // cgrl: cg
            (0xc6, 0xa) => relative(0x21, 8), // clgrl: clg
            (0xc6, 0xc) => relative(0x30, 4), // cgfrl: cgf
            (0xc6, 0xd) => relative(0x59, 4), // crl: cy
            (0xc6, 0xe) => relative(0x31, 4), // clgfrl: clgf
            (0xc6, 0xf) => relative(0x55, 4), // clrl: cly
            (0xcc, 0x6) => branch(To::Address(address), Test::Count { register, width: Width::High }),
            // aih, alsih, alsihn, cih, clih
            (0xcc, 0x8 | 0xa | 0xb | 0xd | 0xf) => Kind::Plain,
            _ => UNKNOWN,
        }
    }

    /// Formats RRE and RRF: `bctgr` is the one branch, beside `pti`.
    fn of_b9(&self) -> Kind {
        let to = match self.nibble(7) {
            0 => To::Nowhere,
            base => To::Sum { base, index: 0, displacement: 0 },
        };
        match self.bytes[1] {
            0x46 => branch(to, Test::Count { register: self.nibble(6), width: Width::Wide }),
            0x9e => SYSTEM,
            code if OF_B9.have(code) => Kind::Plain,
            _ => UNKNOWN,
        }
    }

    /// Format RXY.
    fn of_e3(&self) -> Kind {
        let (register, index) = (self.nibble(2), self.nibble(3));
        let (base, displacement) = (self.nibble(4), self.far());
        match self.bytes[5] {
            0x46 => {
                let test = Test::Count { register, width: Width::Wide };
                branch(To::Sum { base, index, displacement }, test)
            }
            0x47 => branch(To::Memory { base, index, displacement }, condition(register)),
            0x48 | 0x4c => GUARDED,
            code if OF_E3.have(code) => Kind::Plain,
            _ => UNKNOWN,
        }
    }

    /// Formats RSY and SIY.
    fn of_eb(&self) -> Kind {
        let (register, step) = (self.nibble(2), self.nibble(3));
        let to = To::Sum { base: self.nibble(4), index: 0, displacement: self.far() };
        match self.bytes[5] {
            code @ (0x44 | 0x45) => {
                branch(to, Test::Index { register, step, width: Width::Wide, is_high: code == 0x44 })
            }
            0x71 => Kind::Faults, // lpswey
            code if OF_EB.have(code) => Kind::Plain,
            _ => UNKNOWN,
        }
    }

    /// Formats RIE, RRS and RIS: comparisons and branches in one.
    fn of_ec(&self) -> Kind {
        let (one, two) = (self.nibble(2), self.nibble(3));
        let code = self.bytes[5];
        let near = To::Address(self.relative_short());
        let width = if matches!(code, 0x64 | 0x65 | 0x7c | 0x7d | 0xe4 | 0xe5 | 0xfc | 0xfd) {
            Width::Wide
        } else {
            Width::Low
        };
        let is_signed = matches!(code, 0x64 | 0x76 | 0x7c | 0x7e | 0xe4 | 0xf6 | 0xfc | 0xfe);
        let registers = compare(one, With::Register(two), width, is_signed, self.nibble(8));
        let byte = u64::from(self.bytes[4]);
        let number = if is_signed { signed(byte, 8).cast_unsigned() } else { byte };
        let with_number = compare(one, With::Number(number), width, is_signed, two);
        match code {
            0x44 | 0x45 => branch(
                near,
                Test::Index { register: one, step: two, width: Width::Wide, is_high: code == 0x44 },
            ),
            0x64 | 0x65 | 0x76 | 0x77 => branch(near, registers),
            0x7c..=0x7f => branch(near, with_number),
            0xe4 | 0xe5 | 0xf6 | 0xf7 => branch(self.based(0), registers),
            0xfc..=0xff => branch(self.based(0), with_number),
            _ if OF_EC.have(code) => Kind::Plain,
            _ => UNKNOWN,
        }
    }
}

fn branch(to: To, test: Test) -> Kind {
    match test {
        Test::Condition(0) => Kind::Nothing,
        _ => Kind::Branch { to, test, link: None },
    }
}

fn linked(to: To, link: Register) -> Kind {
    Kind::Branch { to, test: Test::Always, link: Some(link) }
}

fn condition(mask: u8) -> Test {
    if mask == 0xf { Test::Always } else { Test::Condition(mask) }
}

fn compare(register: Register, with: With, width: Width, is_signed: bool, mask: u8) -> Test {
    Test::Compare { register, with, width, is_signed, mask }
}

/// Format E.
fn control(code: u8) -> Kind {
    match code {
        0x01 | 0xff => SYSTEM, // pr, trap2
        0x0c | 0x0d => MODE,
        // upt, ptff, sckpf, pfpo, tam, sam64
        0x02 | 0x04 | 0x07 | 0x0a | 0x0b | 0x0e => Kind::Plain,
        _ => UNKNOWN,
    }
}

/// Formats S and RRE under B2.
fn control_b2(code: u8) -> Kind {
    match code {
        // pc, pt, bakr, bsg, bsa, rp, trap4
        0x18 | 0x28 | 0x40 | 0x58 | 0x5a | 0x77 | 0xff => SYSTEM,
        0xb2 => Kind::Faults, // lpswe
        0xf8 => Kind::TransactionEnd,
        0xfc => Kind::Leaves("the interruption of a breakpoint in front of it aborts its transaction"),
        _ if OF_B2.have(code) => Kind::Plain,
        _ => UNKNOWN,
    }
}
