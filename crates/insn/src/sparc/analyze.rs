//! What an instruction is to a tracer: where control goes, and whether it may run elsewhere.
//!
//! Chapters are those of "The SPARC Architecture Manual, Version 9" (SAV-09, appendix A and E), of Version 8 where that is named. The
//! program counter is known to few instructions: `call` (op = 1), the branches (op = 0, but for `sethi` and `illtrap`), and of op = 2
//! `jmpl`, `return`, `rd %pc`, and traps. So whatever else lies in op = 2 and op = 3 (appendix E, tables 32 and 33: arithmetic,
//! windows, floating point, what is left to implementations; loads and stores) goes to a slot as it is, whether an encoding
//! is defined there or not: undefined or privileged, it traps there as it does in place. There is no load-locked: `casa`, `swap`
//! and `ldstub` are one instruction each. Refused are
//!
//! - branches of coprocessors (V8), in whose place (op2 = 7) V9 has nothing and Fujitsu's HPC-ACE prefixes of the next
//!   instructions; what is reserved within the branches;
//! - breakpoints: the traps of debuggers, of the kernel's probes, and of its debugger;
//! - traps with which the kernel shows a program its PC, or sets it: `getcontext`, `setcontext` (0x6e, 0x6f), and those that a
//!   program may have handlers of its own for (0x12 to 0x1f; `tl0_resv112`, arch/sparc/kernel/ttable_64.S); traps whose number is
//!   in registers; system calls of programs of the other width, and on a condition;
//! - in 32 bits, branches by what is no part of the registers of 32 bits: %xcc, %fcc1 to %fcc3, whole 64 bits of a register;
//! - branches whose delay slot holds a branch or a system call: `xol.rs`.
//!
//! Not told from the bytes: whether the processor knows V9, or the compare-and-branch instructions of the "Oracle SPARC
//! Architecture 2011" (7.19). Code for processors that do not know them has none of them, so they are carried out: a program
//! that tried one to see what happens would not see it. Nor is told whether a prefix of HPC-ACE stands before an instruction.

use crate::address::Address;
use crate::decode::{Flow, Insn};
use crate::field::{field, signed};
use crate::isa::{Isa, RegisterSlot};
use crate::sparc::abi;

/// Bytes of an instruction.
pub(crate) const LEN: usize = 4;

pub(crate) const NOP: u32 = 0x0100_0000;

/// One of the registers r0 to r31 of the running window: %g0 to %g7, %o0 to %o7, %l0 to %l7, %i0 to %i7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(u32);

impl Register {
    pub(crate) const ZERO: Self = Self(0);
    const O7: Self = Self(15);
    const I7: Self = Self(31);

    fn rd(word: u32) -> Self {
        Self(field(word, 25, 5))
    }

    fn rs1(word: u32) -> Self {
        Self(field(word, 14, 5))
    }

    /// Where it lies in the register set; %g0 is always 0, whatever the set has there.
    pub(crate) fn slot(self, isa: Isa) -> Option<RegisterSlot> {
        (self != Self::ZERO).then(|| abi::general(isa.abi().word, self.0 as usize))
    }
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    Register(Register),
    Number(i64),
}

impl Operand {
    /// A register, or a signed number of so many bits (i = 1).
    fn of(word: u32, bits: u32) -> Self {
        match field(word, 13, 1) {
            0 => Self::Register(Register(field(word, 0, 5))),
            _ => Self::Number(signed(u64::from(word), bits)),
        }
    }
}

/// When a branch is taken. Numbers of conditions are those of the field `cond` or `rcond` (A.3 to A.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// By the condition codes of integers: %icc, or %xcc.
    Integer {
        condition: u32,
        is_extended: bool,
    },
    /// By one of %fcc0 to %fcc3.
    Float {
        condition: u32,
        codes: u32,
    },
    /// By a register's sign and whether it is 0.
    Sign {
        condition: u32,
        of: Register,
    },
    /// By what condition codes a comparison would leave.
    Compared {
        condition: u32,
        is_extended: bool,
        left: Register,
        right: Operand,
    },
}

/// Where a branch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// There.
    Address(Address),
    /// To a sum.
    Sum(Register, Operand),
}

/// When the instruction behind a branch is done before it goes anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    Always,
    /// Where the branch is taken: its annul bit is set.
    IfTaken,
    /// It has no delay slot, or is unconditional and annuls it.
    Never,
}

/// A branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) to: To,
    pub(crate) when: When,
    pub(crate) delay: Delay,
    /// Has its own address afterwards.
    pub(crate) link: Register,
    /// Whether it goes back to the window before, in which the delay slot is done.
    pub(crate) restores: bool,
}

/// How an instruction is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes on behind itself and does not know where it is.
    Plain,
    /// Nothing at all.
    Nothing,
    /// Never goes on: not for programs, or no instruction for ever.
    Faults,
    /// A branch of any kind.
    Branch(Branch),
    /// `rd %pc`: a register has the instruction's address.
    AddressOf(Register),
    /// The trap that calls the kernel.
    Syscall,
    /// Cannot run elsewhere.
    Refused(&'static str),
}

impl Branch {
    /// Whether it depends on what the registers of 32 bits do not have.
    fn needs_more(self) -> bool {
        match self.when {
            When::Always => false,
            When::Integer { is_extended, .. } | When::Compared { is_extended, .. } => is_extended,
            When::Float { codes, .. } => codes != 0,
            When::Sign { .. } => true,
        }
    }
}

impl Kind {
    /// Why no breakpoint may take its place.
    pub(crate) fn refusal(self, isa: Isa) -> Option<&'static str> {
        match self {
            Self::Refused(why) => Some(why),
            Self::Branch(branch) if isa == Isa::Sparc && branch.needs_more() => {
                Some("it depends on more than the 32 bits that are known of a register")
            }
            _ => None,
        }
    }

    /// The branch, if it is one that has a delay slot.
    pub(crate) fn delayed(self) -> Option<Branch> {
        match self {
            Self::Branch(branch) if branch.delay != Delay::Never => Some(branch),
            _ => None,
        }
    }
}

const RESERVED: Kind = Kind::Refused("its encoding is reserved, for branches perhaps");
const COPROCESSOR: Kind =
    Kind::Refused("it is a branch of a coprocessor's, or a prefix of the instructions behind it");
const BREAKPOINT: Kind = Kind::Refused("it is a breakpoint, which belongs to a debugger");
const CONTEXT: Kind = Kind::Refused("the kernel saves or sets the address at which it goes on");
const USER_TRAP: Kind =
    Kind::Refused("it is a trap for which the program may have a handler, which sees its address");
const ANY_TRAP: Kind = Kind::Refused("the number of its trap is in registers");
const OTHER_CALL: Kind =
    Kind::Refused("it calls the kernel on a condition, or as programs of another width do");

/// The instruction that `bytes` begin with.
pub(crate) fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_be_bytes)
}

/// The instruction that begins at `at`; `bytes` may go on behind it.
pub(crate) fn decode(isa: Isa, at: Address, bytes: &[u8]) -> Option<Kind> {
    let word = word(bytes).filter(|_| at.0.is_multiple_of(LEN as u64))?;
    let place = Place { isa, at };
    Some(match word >> 30 {
        0 => place.branch_or_sethi(word),
        1 => place.call(word),
        2 => place.arithmetic(word),
        _ => Kind::Plain,
    })
}

/// What planning asks of one instruction.
pub(crate) fn inspect(isa: Isa, at: Address, bytes: &[u8]) -> Option<Insn> {
    let kind = decode(isa, at, bytes)?;
    let flow = match kind {
        Kind::Branch(Branch { link, .. }) if link != Register::ZERO => Flow::Call,
        Kind::Branch(Branch { when: When::Always, .. }) | Kind::Faults => Flow::Leaves,
        Kind::Branch(_) => Flow::Conditional,
        Kind::Syscall => Flow::Syscall,
        _ => Flow::Next,
    };
    // Behind a call's delay slot, and there behind a word that tells the size of a structure, if one is returned (V8, D.4).
    let returns = |branch: Branch| {
        branch.link == Register::ZERO
            && matches!(branch.to, To::Sum(Register::O7 | Register::I7, Operand::Number(8 | 12)))
    };
    Some(Insn {
        len: LEN,
        flow,
        is_landing_pad: false,
        is_return: matches!(kind, Kind::Branch(branch) if returns(branch)),
        is_padding: word(bytes) == Some(NOP),
    })
}

/// The address that the instruction refers to relative to its own.
pub(crate) fn reference(isa: Isa, at: Address, bytes: &[u8]) -> Option<Address> {
    match decode(isa, at, bytes)? {
        Kind::Branch(Branch { to: To::Address(to), .. }) => Some(to),
        Kind::AddressOf(_) => Some(at),
        _ => None,
    }
}

/// Whether code begins with the trap that calls the kernel.
pub(crate) fn calls_the_kernel(isa: Isa, code: &[u8]) -> bool {
    decode(isa, Address(0), code) == Some(Kind::Syscall)
}

/// Where an instruction lies.
struct Place {
    isa: Isa,
    at: Address,
}

impl Place {
    /// Whether registers have more bits than the set.
    fn is_narrow(&self) -> bool {
        self.isa == Isa::Sparc
    }

    /// The address that many instructions from its own.
    fn relative(&self, distance: u32, bits: u32) -> To {
        To::Address(self.isa.wrap(self.at.offset(LEN as i64 * signed(u64::from(distance), bits))))
    }

    /// A.8.
    fn call(&self, word: u32) -> Kind {
        Kind::Branch(Branch {
            to: self.relative(field(word, 0, 30), 30),
            when: When::Always,
            delay: Delay::Always,
            link: Register::O7,
            restores: false,
        })
    }

    /// op = 0, by op2 (appendix E, table 31).
    fn branch_or_sethi(&self, word: u32) -> Kind {
        let condition = field(word, 25, 4);
        let far = || self.relative(field(word, 0, 22), 22);
        let near = || self.relative(field(word, 0, 19), 19);
        let codes = field(word, 20, 2);
        match field(word, 22, 3) {
            0 => Kind::Faults,
            1 => match codes {
                0 => self.conditional(word, near(), When::Integer { condition, is_extended: false }),
                2 => self.conditional(word, near(), When::Integer { condition, is_extended: true }),
                _ => RESERVED,
            },
            2 => self.conditional(word, far(), When::Integer { condition, is_extended: false }),
            3 if field(word, 28, 1) == 1 => self.compare(word),
            3 => self.by_register(word),
            4 if word == NOP => Kind::Nothing,
            4 => Kind::Plain,
            5 => self.conditional(word, near(), When::Float { condition, codes }),
            6 => self.conditional(word, far(), When::Float { condition, codes: 0 }),
            _ => COPROCESSOR,
        }
    }

    /// Those with an annul bit and a field `cond`, in which 8 means always and 0 never (A.4 to A.7): without the annul bit that one
    /// does nothing, with it the next instruction is left out.
    fn conditional(&self, word: u32, to: To, when: When) -> Kind {
        let annuls = field(word, 29, 1) == 1;
        let (to, when, delay) = match (field(word, 25, 4), annuls) {
            (0, false) => return Kind::Nothing,
            (0, true) => (self.relative(2, 3), When::Always, Delay::Never),
            (8, false) => (to, When::Always, Delay::Always),
            (8, true) => (to, When::Always, Delay::Never),
            (_, false) => (to, when, Delay::Always),
            (_, true) => (to, when, Delay::IfTaken),
        };
        Kind::Branch(Branch { to, when, delay, link: Register::ZERO, restores: false })
    }

    /// Branch on contents of integer register with prediction (A.3).
    fn by_register(&self, word: u32) -> Kind {
        let condition = field(word, 25, 3);
        if condition & 3 == 0 {
            return RESERVED;
        }
        let distance = field(word, 20, 2) << 14 | field(word, 0, 14);
        Kind::Branch(Branch {
            to: self.relative(distance, 16),
            when: When::Sign { condition, of: Register::rs1(word) },
            delay: if field(word, 29, 1) == 1 { Delay::IfTaken } else { Delay::Always },
            link: Register::ZERO,
            restores: false,
        })
    }

    /// Compare and branch, without a delay slot ("Oracle SPARC Architecture 2011", 7.19).
    fn compare(&self, word: u32) -> Kind {
        let condition = field(word, 29, 1) << 3 | field(word, 25, 3);
        let is_extended = field(word, 21, 1) == 1;
        match condition & 7 {
            0 => RESERVED,
            _ => Kind::Branch(Branch {
                to: self.relative(field(word, 19, 2) << 8 | field(word, 5, 8), 10),
                when: When::Compared {
                    condition,
                    is_extended,
                    left: Register::rs1(word),
                    right: Operand::of(word, 5),
                },
                delay: Delay::Never,
                link: Register::ZERO,
                restores: false,
            }),
        }
    }

    /// op = 2, by op3 (appendix E, table 32).
    fn arithmetic(&self, word: u32) -> Kind {
        let to = To::Sum(Register::rs1(word), Operand::of(word, 13));
        let jump = |link, restores| {
            Kind::Branch(Branch { to, when: When::Always, delay: Delay::Always, link, restores })
        };
        match field(word, 19, 6) {
            0x28 if Register::rs1(word) == Register(5) => Kind::AddressOf(Register::rd(word)),
            0x38 => jump(Register::rd(word), false),
            0x39 => jump(Register::ZERO, true),
            0x3a => self.trap(word),
            // `done` and `retry` are privileged; V8 has no instruction there.
            0x3e if field(word, 25, 5) < 2 && !self.is_narrow() => Kind::Faults,
            _ => Kind::Plain,
        }
    }

    /// Trap on condition codes (A.61), by what arch/sparc/kernel/ttable_64.S and ttable_32.S have for its number.
    fn trap(&self, word: u32) -> Kind {
        let condition = field(word, 25, 4);
        if condition == 0 {
            return Kind::Plain; // never
        }
        let number = match (Register::rs1(word), Operand::of(word, 7)) {
            (Register::ZERO, Operand::Number(number)) => number & 0x7f,
            (Register::ZERO, Operand::Register(Register::ZERO)) => 0,
            _ => return ANY_TRAP,
        };
        let own = if self.is_narrow() { 0x10 } else { 0x6d };
        match number {
            1 | 0x70..=0x74 | 0x7d => BREAKPOINT,
            0x6e | 0x6f => CONTEXT,
            0x12..=0x1f => USER_TRAP,
            _ if number == own && condition == 8 => Kind::Syscall,
            0x10 | 0x11 | 0x6d => OTHER_CALL,
            _ => Kind::Plain,
        }
    }
}
