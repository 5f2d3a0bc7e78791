//! Random instructions of each class.

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
}

impl Form {
    /// The instruction with any operands.
    pub(super) fn random(&self, rng: &mut TestRng) -> u32 {
        self.fixed | rng.next_u32() & self.free
    }
}

const fn form(name: &'static str, fixed: u32, free: u32) -> Form {
    Form { name, fixed, free }
}

/// Instructions of general registers that control passes through.
pub(super) const STRAIGHT: &[Form] = &[
    form("add and sub, immediate", 0x1100_0000, 0xe07f_ffff),
    form("and, immediate, and its like", 0x1200_0000, 0xe07f_ffff),
    form("movz and its like", 0x1280_0000, 0xe07f_ffff),
    form("sbfm and its like", 0x1300_0000, 0xe07f_ffff),
    form("extr", 0x1380_0000, 0x803f_7fff),
    form("extr x", 0x93c0_0000, 0x001f_ffff),
    form("and and its like", 0x0a00_0000, 0xe0ff_ffff),
    form("add and sub", 0x0b00_0000, 0xe0df_ffff),
    form("add and sub, extended", 0x0b20_0000, 0xe01f_ffff),
    form("adc and sbc", 0x1a00_0000, 0xe01f_03ff),
    form("ccmp", 0x3a40_0000, 0xc01f_fbef),
    form("csel and its like", 0x1a80_0000, 0xc01f_f7ff),
    form("udiv and sdiv", 0x1ac0_0800, 0x801f_07ff),
    form("lslv and its like", 0x1ac0_2000, 0x801f_0fff),
    form("crc32", 0x1ac0_4000, 0x801f_1fff),
    form("rbit and its like", 0x5ac0_0000, 0x8000_17ff),
    form("madd and msub", 0x1b00_0000, 0x801f_ffff),
    form("smaddl and its like", 0x9b20_0000, 0x009f_ffff),
    form("smulh and umulh", 0x9b40_7c00, 0x009f_03ff),
    form("pacia and its like", 0xdac1_0000, 0x0000_1fff),
    form("paciza and its like", 0xdac1_23e0, 0x0000_1c1f),
    form("xpaci and xpacd", 0xdac1_43e0, 0x0000_041f),
    form("pacga", 0x9ac0_3000, 0x001f_03ff),
    form("hints", 0xd503_201f, 0x0000_0fe0),
    form("mrs nzcv", 0xd53b_4200, 0x0000_001f),
    form("msr nzcv", 0xd51b_4200, 0x0000_001f),
    form("mrs fpcr and fpsr", 0xd53b_4400, 0x0000_003f),
    form("mrs tpidr_el0", 0xd53b_d040, 0x0000_001f),
    form("mrs ctr_el0", 0xd53b_0020, 0x0000_001f),
    form("cfinv, xaflag, axflag", 0xd500_401f, 0x0000_0060),
    form("clrex", 0xd503_305f, 0x0000_0f00),
    form("dsb, dmb", 0xd503_309f, 0x0000_0f20),
    form("isb", 0xd503_30df, 0x0000_0f00),
];

/// Those of vector registers.
pub(super) const VECTOR: &[Form] = &[
    form("fadd and its like", 0x1e20_0800, 0x005f_f3ff),
    form("fcsel", 0x1e20_0c00, 0x005f_f3ff),
    form("fmadd and its like", 0x1f00_0000, 0x007f_ffff),
    form("scvtf and fcvtzs", 0x1e22_0000, 0x8041_03ff),
    form("fmov, general", 0x9e66_0000, 0x0001_03ff),
    form("three registers", 0x0e20_0400, 0x60df_fbff),
    form("two registers", 0x0e20_0800, 0x60c1_f3ff),
    form("immediate", 0x0f00_0400, 0x6007_fbff),
    form("shifted", 0x0f08_0400, 0x6077_fbff),
    form("tbl and tbx", 0x0e00_0000, 0x401f_73ff),
    form("zip and its like", 0x0e00_0800, 0x40df_73ff),
    form("dup and ins", 0x0e00_0400, 0x601f_7bff),
];

/// Those that access memory near the address in their field Rn.
pub(super) const MEMORY: &[Form] = &[
    form("ldr and str, offset", 0x3900_0000, 0xc4c0_7fff),
    form("ldr and str, unscaled or with writeback", 0x3800_0000, 0xc4df_ffff),
    form("ldr and str, register", 0x3820_0800, 0xc4df_f3ff),
    form("ldp and stp", 0x2800_0000, 0xc5ff_ffff),
    form("ldadd and its like", 0x3820_0000, 0xc0df_f3ff),
    form("cas", 0x08a0_7c00, 0xc05f_83ff),
    form("casp", 0x0820_7c00, 0x405f_83ff),
    form("ldar and stlr", 0x089f_7c00, 0xc040_83ff),
    form("ldapur and stlur", 0x1900_0000, 0xc0df_f3ff),
    form("ld1 and its like", 0x0c00_0000, 0x4040_ffff),
    form("ld1 with writeback", 0x0c80_0000, 0x405f_ffff),
    form("ld1, single", 0x0d00_0000, 0x4060_ffff),
    form("ld1, single, with writeback", 0x0d80_0000, 0x407f_ffff),
];

/// Loads of literals.
pub(super) const LITERAL: &[Form] = &[
    form("ldr and prfm, literal", 0x1800_0000, 0xc0ff_ffff),
    form("ldr v, literal", 0x1c00_0000, 0xc0ff_ffff),
];

/// What is emulated.
pub(super) const BRANCHES: &[Form] = &[
    form("b and bl", 0x1400_0000, 0x83ff_ffff),
    form("b.cond", 0x5400_0000, 0x00ff_ffef),
    form("cbz and cbnz", 0x3400_0000, 0x81ff_ffff),
    form("tbz and tbnz", 0x3600_0000, 0x81ff_ffff),
    form("br and blr", 0xd61f_0000, 0x0020_03e0),
    form("ret", 0xd65f_0000, 0x0000_03e0),
    form("adr and adrp", 0x1000_0000, 0xe0ff_ffff),
    form("bti", 0xd503_241f, 0x0000_00c0),
];

/// Branches that authenticate.
pub(super) const AUTHENTICATED: &[Form] = &[
    form("braaz and its like", 0xd61f_081f, 0x0020_07e0),
    form("braa and its like", 0xd71f_0800, 0x0020_07ff),
    form("retaa and retab", 0xd65f_0bff, 0x0000_0400),
];

/// What begins and ends exclusive sequences.
pub(super) const EXCLUSIVE: &[Form] =
    &[form("ldxr and stxr", 0x0800_0000, 0xc05f_ffff), form("ldxp and stxp", 0x8820_0000, 0x405f_ffff)];

/// What enters the kernel or is refused, and system instructions with any operands.
pub(super) const OTHERS: &[Form] = &[
    form("bc.cond", 0x5400_0010, 0x00ff_ffef),
    form("exceptions", 0xd400_0000, 0x00ff_ffff),
    form("svc", 0xd400_0001, 0x001f_ffe0),
    form("hvc and smc", 0xd400_0002, 0x001f_ffe1),
    form("brk and hlt", 0xd420_0000, 0x0000_ffe0),
    form("hlt", 0xd440_0000, 0x001f_ffe0),
    form("udf", 0x0000_0000, 0x0000_ffff),
    form("eret and its like", 0xd69f_03e0, 0x0020_0c1f),
    form("mrs and msr", 0xd510_0000, 0x002f_ffff),
    form("sys and sysl", 0xd508_0000, 0x0027_ffff),
    form("pstate", 0xd500_401f, 0x0007_0fe0),
    form("cpy and set", 0x1900_0400, 0x04df_f3ff),
    form("data processing, one source", 0xdac1_0000, 0x0000_ffff),
    form("tstart and ttest", 0xd523_3060, 0x0000_011f),
    form("tcommit", 0xd503_307f, 0),
    form("branch, register", 0xd600_0000, 0x01ff_ffff),
];

/// Any bits within each of the spaces of the main encoding table.
pub(super) fn any_word(rng: &mut TestRng, space: u32) -> u32 {
    rng.next_u32() & !(0xf << 25) | space << 25
}

/// Whether it is among the loads and stores but those of literals, or `dc zva`: it finds its memory by its field Rn, or Rt.
pub(super) fn uses_memory(word: u32) -> bool {
    let is_literal = word >> 24 & 0b111011 == 0b011000;
    word >> 27 & 1 == 1 && word >> 25 & 1 == 0 && !is_literal
}

/// Whether it may use vector registers: those of them that load and store, and what is done with them.
pub(super) fn uses_vectors(word: u32) -> bool {
    matches!(word >> 25 & 0xf, 0b0110 | 0b1110 | 0b0111 | 0b1111) || word & 0xffe0_f000 == 0xd520_4000
}

/// Whether it is a branch that authenticates.
pub(super) fn is_authenticated(word: u32) -> bool {
    word >> 25 == 0b110_1011 && word >> 11 & 1 == 1
}
