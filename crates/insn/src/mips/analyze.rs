//! What an instruction is to a tracer: where control goes, and whether it may run elsewhere.
//!
//! Tables are those of "MIPS Architecture For Programmers", volume II-A (MD00086 and MD00087, revisions 5.04 and 6.06), appendix A,
//! "Instruction Bit Encodings". The program counter is known to few: J, JAL and JALX, JR and JALR (SPECIAL), the branches in
//! REGIMM, in BEQ to BGTZL and in the coprocessors' BC, and of Release 6 the compact branches and PCREL. So whatever else lies in the
//! other encodings goes to a slot as it is, whether it is defined or not (undefined or privileged, it traps there as it does in
//! place): all of SPECIAL, COP0, COP1X, SPECIAL2, MSA, SPECIAL3, and all immediates, loads and stores. Traps (`teq`), `break 6` and
//! `break 7` are seen as the slot's fault.
//!
//! Release 6 gave encodings of older releases to its branches, Cavium's and Loongson's processors have others' encodings too, and
//! the bytes do not tell the processor (the ELF header's EF_MIPS_ARCH does, which is not asked here). What is a branch on any
//! and something else on another is refused: ADDI and DADDI (POP10, POP30: `beqc`, `bnec` and their like), the loads and stores of
//! coprocessor 2 (`bc`, `balc`, `beqzc`, `bnezc`, `jic`, `jialc`; Octeon's `bbit`), JALX (DAUI). Where an encoding was free before
//! (POP06, POP07, POP26, POP27 with another second register than 0; PCREL), it is Release 6's. Refused are, besides,
//!
//! - what REGIMM and COP1 leave free: branches may come there;
//! - `ll`, `sc` and their like (also those that Release 6 moved to SPECIAL3): ERET, by which the kernel leaves each trap, clears
//!   LLbit, so that the store fails, and its loop comes to the breakpoint again, for ever;
//! - breakpoints: `sdbbp`, and `break` with every code that raises SIGTRAP;
//! - branches that overwrite the register that they go by, which is unpredictable;
//! - branches whose delay slot holds something that cannot run alone: another branch, a system call, `ll` or `sc`.
//!
//! The conditions of coprocessors and of the DSP ASE (`bc1t`, `bc1eqz`, `bz.v`, `bposge32`) are not in the register set. Such a branch
//! runs in the slot itself, where it chooses between two lent registers (`xol.rs`). On a processor without floating point the
//! kernel emulates it there as it does in place, and what is in its delay slot (`mips_dsemul`, arch/mips/math-emu/dsemul.c).
//! `rdhwr $29` that the kernel emulates is read by it where the exception was: in the slot (`do_ri`, arch/mips/kernel/traps.c).
//!
//! MIPS16 and microMIPS are other instruction sets, whose addresses are odd: nothing decodes there.

use crate::address::Address;
use crate::decode::{Flow, Insn};
use crate::field::{field, signed};
use crate::isa::{Isa, Order, RegisterSlot};
use crate::mips::abi;

/// Bytes of an instruction.
pub(crate) const WORD: usize = 4;

/// One of the registers $0 to $31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u8);

impl Register {
    pub(crate) const ZERO: Self = Self(0);
    const RA: Self = Self(31);

    /// The five bits from `low` on.
    fn at(word: u32, low: u32) -> Self {
        Self((word >> low & 0x1f) as u8)
    }

    /// Where it lies in the register set; $0 lies nowhere.
    pub(crate) fn slot(self, isa: Isa) -> Option<RegisterSlot> {
        (self != Self::ZERO).then(|| abi::general(isa.abi().word, usize::from(self.0)))
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

/// When a branch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// If this is so of the general registers.
    Of { test: Test, left: Register, right: Register },
    /// If something is so that is not in the register set.
    Elsewhere,
}

impl Condition {
    const ALWAYS: Self = Self::Of { test: Test::Equal, left: Register::ZERO, right: Register::ZERO };

    fn of(test: Test, left: Register, right: Register) -> Self {
        Self::Of { test, left, right }
    }

    /// Whether it is met whatever the registers hold.
    pub(crate) fn is_always(self) -> bool {
        matches!(self, Self::Of { test: Test::Equal | Test::NotLess | Test::NotLessUnsigned, left, right } if left == right)
    }
}

/// Where a branch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Address(Address),
    Register(Register),
}

/// What becomes of the instruction behind a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    /// It is carried out before control goes on elsewhere.
    Always,
    /// It is if the branch is taken: the branch is a likely one.
    IfTaken,
    /// There is no delay slot: the branch is a compact one.
    None,
}

/// A branch or jump of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) condition: Condition,
    pub(crate) to: To,
    /// Where the return address is left, taken or not.
    pub(crate) link: Register,
    pub(crate) delay: Delay,
}

/// How an instruction is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes on behind itself, or traps, and does not know where it is.
    Plain,
    /// Nothing at all.
    Nothing,
    /// Never goes on.
    Faults,
    Syscall,
    Branch(Branch),
    /// `addiupc`, `auipc`, `aluipc`.
    AddressOf {
        into: Register,
        address: Address,
    },
    /// `lwpc`, `lwupc`, `ldpc`: `load` is the load of that kind with a register.
    Relative {
        into: Register,
        address: Address,
        load: u32,
    },
    LoadLinked,
    StoreConditional,
    /// A breakpoint of somebody else's.
    Breakpoint,
    /// The bytes do not tell what it is, or nobody knows; it may have a delay slot.
    Unclear {
        why: &'static str,
        may_delay: bool,
    },
}

impl Kind {
    /// Why no breakpoint may take its place.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Breakpoint => Some("it is a breakpoint, which belongs to a debugger"),
            Self::LoadLinked => {
                Some("a trap behind it ends what it begins, so its store would fail each time")
            }
            Self::StoreConditional => Some("a trap in front of it makes it fail"),
            Self::Branch(branch) if branch.is_unpredictable() => {
                Some("it leaves its return address in the register that it goes by, which is unpredictable")
            }
            Self::Unclear { why, .. } => Some(why),
            _ => None,
        }
    }

    /// Whether it may run where it is put, alone.
    pub(crate) fn is_movable(self) -> bool {
        matches!(self, Self::Plain | Self::Nothing | Self::Faults)
    }

    /// Whether the instruction behind it is, or may be, its delay slot.
    pub(crate) fn may_delay(self) -> bool {
        match self {
            Self::Branch(branch) => branch.delay != Delay::None,
            Self::Unclear { may_delay, .. } => may_delay,
            _ => false,
        }
    }
}

impl Branch {
    /// A branch without link, with a delay slot.
    fn to(condition: Condition, to: Address) -> Self {
        Self { condition, to: To::Address(to), link: Register::ZERO, delay: Delay::Always }
    }

    fn links(self, link: Register) -> Self {
        Self { link, ..self }
    }

    fn delays(self, delay: Delay) -> Self {
        Self { delay, ..self }
    }

    /// "Such an instruction does not have the same effect when re-executed" (JALR, BGEZAL); without a delay slot it has.
    fn is_unpredictable(self) -> bool {
        let goes_by = match (self.condition, self.to) {
            (_, To::Register(base)) => base,
            (Condition::Of { left, .. }, _) => left,
            (Condition::Elsewhere, _) => Register::ZERO,
        };
        self.delay != Delay::None && self.link != Register::ZERO && self.link == goes_by
    }
}

/// The word that `bytes` begin with: code has the order of data.
pub(crate) fn word(isa: Isa, bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| match isa.abi().order {
        Order::Little => u32::from_le_bytes(*bytes),
        Order::Big => u32::from_be_bytes(*bytes),
    })
}

/// The instruction that begins at `at`; `bytes` may go on behind it.
pub(crate) fn decode(isa: Isa, at: Address, bytes: &[u8]) -> Option<Kind> {
    let word = word(isa, bytes).filter(|_| at.0.is_multiple_of(WORD as u64))?;
    Some(Place { isa, at }.kind(word))
}

/// What planning asks of one instruction.
pub(crate) fn inspect(isa: Isa, at: Address, bytes: &[u8]) -> Option<Insn> {
    let kind = decode(isa, at, bytes)?;
    let flow = match kind {
        Kind::Branch(branch) if branch.link != Register::ZERO => Flow::Call,
        Kind::Branch(branch) if branch.condition.is_always() => Flow::Leaves,
        Kind::Branch(_) => Flow::Conditional,
        Kind::Faults => Flow::Leaves,
        Kind::Syscall => Flow::Syscall,
        _ => Flow::Next,
    };
    let is_return =
        matches!(kind, Kind::Branch(Branch { to: To::Register(Register::RA), link: Register::ZERO, .. }));
    Some(Insn { len: WORD, flow, is_landing_pad: false, is_return, is_padding: kind == Kind::Nothing })
}

/// The address that the instruction refers to relative to its own.
pub(crate) fn reference(isa: Isa, at: Address, bytes: &[u8]) -> Option<Address> {
    match decode(isa, at, bytes)? {
        Kind::Branch(Branch { to: To::Address(to), .. }) => Some(to),
        Kind::AddressOf { address, .. } | Kind::Relative { address, .. } => Some(address),
        _ => None,
    }
}

const fn unclear(why: &'static str) -> Kind {
    Kind::Unclear { why, may_delay: false }
}

const fn delaying(why: &'static str) -> Kind {
    Kind::Unclear { why, may_delay: true }
}

const ADDITION_OR_BRANCH: Kind =
    unclear("it is an addition or, on a processor of Release 6, a branch: its bytes do not tell");
const ACCESS_OR_BRANCH: Kind = delaying(
    "it is a load or store of a coprocessor or, on processors of Release 6 and Cavium's, a branch: its bytes do not tell",
);
const JUMP_OR_ADDITION: Kind = delaying(
    "it goes on in another instruction set or, on a processor of Release 6, is an addition: its bytes do not tell",
);
const RESERVED: Kind = delaying("its encoding is reserved, for branches perhaps");

/// Where an instruction lies.
struct Place {
    isa: Isa,
    at: Address,
}

impl Place {
    fn relative(&self, distance: i64) -> Address {
        self.isa.wrap(self.at.offset(distance))
    }

    /// The target of a branch: so many words, in the low 16 bits, from behind it.
    fn target(&self, word: u32) -> Address {
        self.relative(WORD as i64 + signed(u64::from(word & 0xffff) << 2, 18))
    }

    fn compare(&self, word: u32, test: Test, left: Register, right: Register) -> Branch {
        Branch::to(Condition::of(test, left, right), self.target(word))
    }

    fn elsewhere(&self, word: u32, delay: Delay) -> Kind {
        Kind::Branch(Branch::to(Condition::Elsewhere, self.target(word)).delays(delay))
    }

    /// By the major opcode (table A.2).
    fn kind(&self, word: u32) -> Kind {
        let (rs, rt) = (Register::at(word, 21), Register::at(word, 16));
        let compare = |test| self.compare(word, test, rs, rt);
        match word >> 26 {
            0o00 => special(word),
            0o01 => self.register_immediate(word),
            0o02 => Kind::Branch(self.jump(word)),
            0o03 => Kind::Branch(self.jump(word).links(Register::RA)),
            0o04 => Kind::Branch(compare(Test::Equal)),
            0o05 => Kind::Branch(compare(Test::NotEqual)),
            opcode @ (0o06 | 0o07 | 0o26 | 0o27) => Kind::Branch(self.ordered(word, opcode)),
            0o10 | 0o30 => ADDITION_OR_BRANCH,
            0o21 => self.coprocessor1(word),
            0o22 => match field(word, 21, 5) {
                0b01000 => self.elsewhere(word, likely(word)),
                0b01001 | 0b01101 => self.elsewhere(word, Delay::Always), // bc2eqz, bc2nez
                _ => Kind::Plain,
            },
            0o24 => Kind::Branch(compare(Test::Equal).delays(Delay::IfTaken)),
            0o25 => Kind::Branch(compare(Test::NotEqual).delays(Delay::IfTaken)),
            0o34 if field(word, 0, 6) == 0b11_1111 => Kind::Breakpoint, // sdbbp
            0o35 => JUMP_OR_ADDITION,
            0o37 => match field(word, 0, 6) {
                0b11_0110 | 0b11_0111 => Kind::LoadLinked,
                0b10_0110 | 0b10_0111 => Kind::StoreConditional,
                _ => Kind::Plain,
            },
            0o60 | 0o64 => Kind::LoadLinked,
            0o70 | 0o74 => Kind::StoreConditional,
            0o62 | 0o66 | 0o72 | 0o76 => ACCESS_OR_BRANCH,
            0o73 => self.relative_to_itself(word),
            _ => Kind::Plain,
        }
    }

    /// J and JAL: within the 256 MB of the delay slot.
    fn jump(&self, word: u32) -> Branch {
        const REGION: u64 = (1 << 28) - 1;
        let behind = self.relative(WORD as i64);
        let to = behind.0 & !REGION | u64::from(field(word, 0, 26)) << 2;
        Branch::to(Condition::ALWAYS, Address(to))
    }

    /// BLEZ and BGTZ with their likely forms; with a second register POP06 and its like, which have no delay slot.
    fn ordered(&self, word: u32, opcode: u32) -> Branch {
        let (rs, rt) = (Register::at(word, 21), Register::at(word, 16));
        let (is_less, is_upper) = (opcode & 1 == 1, opcode >= 0o20);
        let compare = |test, left, right| self.compare(word, test, left, right);
        let (test, unsigned) =
            if is_less { (Test::Less, Test::LessUnsigned) } else { (Test::NotLess, Test::NotLessUnsigned) };
        if rt == Register::ZERO {
            let delay = if is_upper { Delay::IfTaken } else { Delay::Always };
            // At most 0: 0 is not less. More than 0: 0 is less.
            return compare(test, Register::ZERO, rs).delays(delay);
        }
        let link = if is_upper { Register::ZERO } else { Register::RA };
        let branch = match rs {
            Register::ZERO => compare(test, Register::ZERO, rt).links(link),
            _ if rs == rt => compare(test, rt, Register::ZERO).links(link),
            _ => compare(if is_upper { test } else { unsigned }, rs, rt),
        };
        branch.delays(Delay::None)
    }

    /// REGIMM (table A.4), by the second register's field.
    fn register_immediate(&self, word: u32) -> Kind {
        let compare = |test| self.compare(word, test, Register::at(word, 21), Register::ZERO);
        match field(word, 16, 5) {
            0b00000 => Kind::Branch(compare(Test::Less)),
            0b00001 => Kind::Branch(compare(Test::NotLess)),
            0b00010 => Kind::Branch(compare(Test::Less).delays(Delay::IfTaken)),
            0b00011 => Kind::Branch(compare(Test::NotLess).delays(Delay::IfTaken)),
            0b10000 => Kind::Branch(compare(Test::Less).links(Register::RA)),
            0b10001 => Kind::Branch(compare(Test::NotLess).links(Register::RA)),
            0b10010 => Kind::Branch(compare(Test::Less).links(Register::RA).delays(Delay::IfTaken)),
            0b10011 => Kind::Branch(compare(Test::NotLess).links(Register::RA).delays(Delay::IfTaken)),
            0b11100 | 0b11101 => self.elsewhere(word, Delay::Always), // bposge32, bposge64
            // dahi; aset and aclr of the ASE MCU; tgei, tgeiu, tlti, tltiu, teqi, tnei; dati; synci
            0b00110 | 0b00111 | 0b01000..=0b01100 | 0b01110 | 0b11110 | 0b11111 => Kind::Plain,
            0b10111 => Kind::Faults, // sigrie
            _ => RESERVED,
        }
    }

    /// COP1, by the format (table A.12 and MSA's table of its own). BC1ANY2 and BC1EQZ share an encoding, and are alike here.
    fn coprocessor1(&self, word: u32) -> Kind {
        match field(word, 21, 5) {
            0b01000 => self.elsewhere(word, likely(word)),
            // bc1any2 or bc1eqz, bc1any4, bc1nez; bz.v, bnz.v; bz and bnz of the other widths
            0b01001 | 0b01010 | 0b01101 | 0b01011 | 0b01111 | 0b11000.. => {
                self.elsewhere(word, Delay::Always)
            }
            0b01100 | 0b01110 => RESERVED,
            _ => Kind::Plain,
        }
    }

    /// PCREL (Release 6, table A.6).
    fn relative_to_itself(&self, word: u32) -> Kind {
        let into = Register::at(word, 21);
        let words = || self.relative(signed(u64::from(field(word, 0, 19)) << 2, 21));
        let upper = || self.relative(signed(u64::from(field(word, 0, 16)) << 16, 32));
        let load = |opcode: u32, address| Kind::Relative { into, address, load: opcode << 26 };
        match field(word, 16, 5) {
            0b00000..=0b00111 => Kind::AddressOf { into, address: words() },
            0b01000..=0b01111 => load(0o43, words()), // lw
            0b10000..=0b10111 => load(0o47, words()), // lwu
            0b11000..=0b11011 => {
                let distance = signed(u64::from(field(word, 0, 18)) << 3, 21);
                load(0o67, self.isa.wrap(Address(self.at.0 & !7).offset(distance))) // ld
            }
            0b11110 => Kind::AddressOf { into, address: upper() },
            0b11111 => Kind::AddressOf { into, address: Address(upper().0 & !0xffff) },
            _ => RESERVED,
        }
    }
}

/// The flag `nd` of a coprocessor's branch.
fn likely(word: u32) -> Delay {
    if field(word, 17, 1) == 1 { Delay::IfTaken } else { Delay::Always }
}

/// SPECIAL (table A.3), by the function.
fn special(word: u32) -> Kind {
    let (base, link) = (Register::at(word, 21), Register::at(word, 11));
    let jump = |link| {
        let condition = Condition::ALWAYS;
        Kind::Branch(Branch { condition, to: To::Register(base), link, delay: Delay::Always })
    };
    match field(word, 0, 6) {
        _ if word == 0 => Kind::Nothing,
        // Of the hint's five bits only the first is known (the `.hb` forms).
        0b00_1000 if field(word, 11, 10) == 0 && field(word, 6, 4) == 0 => jump(Register::ZERO),
        0b00_1001 if field(word, 16, 5) == 0 && field(word, 6, 4) == 0 => jump(link),
        0b00_1000 | 0b00_1001 => RESERVED,
        0b00_1100 => Kind::Syscall,
        0b00_1101 => breakpoint(field(word, 6, 20)),
        0b00_1110 => Kind::Breakpoint, // sdbbp of Release 6
        _ => Kind::Plain,
    }
}

/// Assemblers put the code into the upper ten bits, or into the lower ones (`do_bp`, arch/mips/kernel/traps.c). BRK_OVERFLOW and
/// BRK_DIVZERO raise SIGFPE, all others SIGTRAP (`do_trap_or_bp`).
fn breakpoint(code: u32) -> Kind {
    let code = if code < 1 << 10 { code } else { (code & 0x3ff) << 10 | code >> 10 };
    if matches!(code, 6 | 7) { Kind::Faults } else { Kind::Breakpoint }
}
