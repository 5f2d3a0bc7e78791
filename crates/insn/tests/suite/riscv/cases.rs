//! Random instructions of each class.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// Encodings with the same fixed bits.
pub(super) struct Form {
    /// What it is called.
    pub(super) name: &'static str,
    /// The bits that are fixed.
    pub(super) fixed: u32,
    /// The bits that are not.
    pub(super) free: u32,
    /// Which instruction sets have it.
    pub(super) on: On,
}

/// See [`Form::on`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Both,
    Only64,
}

impl Form {
    /// The instruction with any operands.
    pub(super) fn random(&self, rng: &mut TestRng) -> Vec<u8> {
        encode(self.fixed | rng.next_u32() & self.free)
    }

    pub(super) fn is_on(&self, isa: Isa) -> bool {
        self.on == On::Both || isa == Isa::RiscV64
    }
}

/// As many bytes as the low bits say.
pub(super) fn encode(word: u32) -> Vec<u8> {
    let len = if word & 3 == 3 { 4 } else { 2 };
    word.to_le_bytes()[..len].to_vec()
}

/// Fields that are not fixed in the formats (2.2), the third function field of floating point, a rounding mode, among them.
const R: u32 = 0x01ff_8f80;
const R2: u32 = 0x000f_8f80;
const I: u32 = 0xffff_8f80;
const S: u32 = 0xffff_8f80;
const U: u32 = 0xffff_ff80;
const SHIFT32: u32 = 0x01ff_8f80;
const SHIFT64: u32 = 0x03ff_8f80;
const FR: u32 = R | 0x7000;
const FR2: u32 = R2 | 0x7000;
const FR4: u32 = FR | 0xf800_0000;
const AMO: u32 = R | 0x0600_0000;
const LR: u32 = R2 | 0x0600_0000;

const fn form(name: &'static str, fixed: u32, free: u32) -> Form {
    Form { name, fixed, free, on: On::Both }
}

const fn wide(name: &'static str, fixed: u32, free: u32) -> Form {
    Form { name, fixed, free, on: On::Only64 }
}

/// Instructions that control passes through: chapter 24's listings.
pub(super) const STRAIGHT: &[Form] = &[
    form("lui", 0x37, U),
    form("addi", 0x13, I),
    form("slti", 0x2013, I),
    form("sltiu", 0x3013, I),
    form("xori", 0x4013, I),
    form("ori", 0x6013, I),
    form("andi", 0x7013, I),
    form("slli", 0x1013, SHIFT32),
    form("srli", 0x5013, SHIFT32),
    form("srai", 0x4000_5013, SHIFT32),
    wide("slli64", 0x1013, SHIFT64),
    wide("srai64", 0x4000_5013, SHIFT64),
    form("add", 0x33, R),
    form("sub", 0x4000_0033, R),
    form("sll", 0x1033, R),
    form("slt", 0x2033, R),
    form("sltu", 0x3033, R),
    form("xor", 0x4033, R),
    form("srl", 0x5033, R),
    form("sra", 0x4000_5033, R),
    form("or", 0x6033, R),
    form("and", 0x7033, R),
    form("mul and div", 0x0200_0033, R | 0x7000),
    wide("addiw", 0x1b, I),
    wide("slliw", 0x101b, SHIFT32),
    wide("sraiw", 0x4000_501b, SHIFT32),
    wide("addw", 0x3b, R),
    wide("subw", 0x4000_003b, R),
    wide("mulw", 0x0200_003b, R),
    wide("divw and remw", 0x0200_403b, R | 0x3000),
    form("sh1add", 0x2000_2033, R),
    form("andn", 0x4000_7033, R),
    form("rol", 0x6000_1033, R),
    form("clz", 0x6000_1013, R2),
    form("fadd.s", 0x53, FR),
    form("fadd.d", 0x0200_0053, FR),
    form("fmul.d", 0x1200_0053, FR),
    form("fdiv.s", 0x1800_0053, FR),
    form("fsgnj.d", 0x2200_0053, R | 0x3000),
    form("fmin.s", 0x2800_0053, R | 0x1000),
    form("feq.d", 0xa200_2053, R),
    form("fcvt.w.d", 0xc200_0053, FR2),
    form("fcvt.d.w", 0xd200_0053, FR2),
    form("fmv.x.w", 0xe000_0053, R2),
    form("fmv.w.x", 0xf000_0053, R2),
    wide("fmv.d.x", 0xf200_0053, R2),
    form("fmadd.s", 0x43, FR4),
    form("fnmsub.d", 0x0200_004b, FR4),
    form("fence", 0x0f, 0x0ff0_0000),
    form("fence.i", 0x100f, 0),
    form("csrrw fflags", 0x0010_1073, R2),
    form("csrrs frm", 0x0020_2073, R2),
    form("csrrci fcsr", 0x0030_7073, R2),
];

/// Those of them that access memory at a register and a distance, or at a register.
pub(super) const MEMORY: &[Form] = &[
    form("lb", 0x03, I),
    form("lh", 0x1003, I),
    form("lw", 0x2003, I),
    form("lbu", 0x4003, I),
    form("lhu", 0x5003, I),
    wide("ld", 0x3003, I),
    wide("lwu", 0x6003, I),
    form("sb", 0x23, S),
    form("sh", 0x1023, S),
    form("sw", 0x2023, S),
    wide("sd", 0x3023, S),
    form("flw", 0x2007, I),
    form("fld", 0x3007, I),
    form("fsw", 0x2027, S),
    form("fsd", 0x3027, S),
    form("amoadd.w", 0x202f, AMO),
    form("amoswap.w", 0x0800_202f, AMO),
    form("amoxor.w", 0x2000_202f, AMO),
    form("amomaxu.w", 0xe000_202f, AMO),
    wide("amoadd.d", 0x302f, AMO),
    wide("amomin.d", 0x8000_302f, AMO),
];

/// What is emulated.
pub(super) const BRANCHES: &[Form] = &[
    form("jal", 0x6f, U),
    form("jalr", 0x67, I),
    form("auipc", 0x17, U),
    form("beq and bne", 0x63, S | 0x1000),
    form("blt and its like", 0x4063, S | 0x3000),
];

/// What begins and ends exclusive sequences.
pub(super) const EXCLUSIVE: &[Form] = &[
    form("lr.w", 0x1000_202f, LR),
    form("sc.w", 0x1800_202f, AMO),
    wide("lr.d", 0x1000_302f, LR),
    wide("sc.d", 0x1800_302f, AMO),
];

/// What enters the kernel.
pub(super) const TRAPS: &[Form] = &[form("ecall", 0x73, 0), form("ebreak", 0x0010_0073, 0)];

/// Every encoding of 16 bits.
pub(super) fn compressed() -> impl Iterator<Item = u32> {
    (0..0x1_0000).filter(|half| half & 3 != 3)
}

/// One of them.
pub(super) fn any_half(rng: &mut TestRng) -> u32 {
    compressed().nth(rng.random_range(0..0xc000)).unwrap()
}

/// Any bits of 32 within each of the major opcodes.
pub(super) fn any_word(rng: &mut TestRng, opcode: u32) -> u32 {
    rng.next_u32() & !0x7f | opcode << 2 | 3
}

/// The major opcodes of instructions of 32 bits.
pub(super) fn opcodes() -> impl Iterator<Item = u32> {
    (0..32).filter(|opcode| opcode & 7 != 7)
}

/// The register by which the instruction finds its memory, and the distance from it: 0 for those of 16 bits, which reach at
/// most 511 bytes upwards.
pub(super) fn base(bytes: &[u8]) -> Option<(usize, i64)> {
    let word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    let upper = i64::from(word as i32 >> 20);
    let rs1 = (word >> 15 & 0x1f) as usize;
    let popular = 8 + (word >> 7 & 7) as usize;
    match (word & 3, word >> 2 & 0x1f, word >> 13) {
        (3, 0b00000 | 0b00001, _) => Some((rs1, upper)),
        (3, 0b01000 | 0b01001, _) => Some((rs1, upper & !0x1f | i64::from(word >> 7 & 0x1f))),
        (3, 0b01011 | 0b00011, _) => Some((rs1, 0)),
        (0, _, 1..) => Some((popular, 0)),
        (2, _, 1..=3 | 5..) => Some((2, 0)),
        _ => None,
    }
}
