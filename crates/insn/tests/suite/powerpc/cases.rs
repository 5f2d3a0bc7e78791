//! Random instructions of each class.

use insn::Isa;
use insn::isa::Order;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// How an instruction finds its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Not at all.
    None,
    /// At a register and a distance, which these bits hold.
    Distance(u32),
    /// At the sum of two registers.
    Indexed,
    /// At a distance from itself (or a register), half of which is in the prefix.
    Prefixed,
}

/// See [`Form::on`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    All,
    /// The processor of 32 bits lacks it.
    Only64,
    /// In the other order it is an alignment interrupt, of which the emulator dies.
    OnlyBig,
}

/// Encodings with the same fixed bits.
pub(super) struct Form {
    /// What it is called.
    pub(super) name: &'static str,
    /// The prefix.
    prefix: Option<u32>,
    /// The bits that are fixed; the bits that are not.
    fixed: u32,
    free: u32,
    /// See [`Reach`].
    pub(super) reach: Reach,
    /// Which instruction sets have it.
    on: On,
}

impl Form {
    /// The instruction with any operands.
    pub(super) fn words(&self, rng: &mut TestRng) -> Vec<u32> {
        self.prefix.into_iter().chain([self.fixed | rng.next_u32() & self.free]).collect()
    }

    pub(super) fn is_on(&self, isa: Isa) -> bool {
        match self.on {
            On::All => true,
            On::Only64 => isa != Isa::PowerPc,
            On::OnlyBig => isa != Isa::PowerPc64Le,
        }
    }
}

/// In the order of the instruction set's code.
pub(super) fn encode(isa: Isa, word: u32) -> [u8; 4] {
    match isa.abi().order {
        Order::Little => word.to_le_bytes(),
        Order::Big => word.to_be_bytes(),
    }
}

/// Fields that are not fixed (Book I, 1.6): three registers, two of them; the bit Rc or LK; a number of 16 bits.
const TAB: u32 = 0x03ff_f800;
const TA: u32 = 0x03ff_0000;
const RC: u32 = 1;
const D: u32 = 0x03ff_ffff;
const DS: u32 = 0x03ff_fffc;
const DQ: u32 = 0x03ff_fff0;
const TABC: u32 = 0x03ff_ffc0;

const fn form(name: &'static str, fixed: u32, free: u32) -> Form {
    Form { name, prefix: None, fixed, free, reach: Reach::None, on: On::All }
}

const fn wide(name: &'static str, fixed: u32, free: u32) -> Form {
    Form { on: On::Only64, ..form(name, fixed, free) }
}

/// With the extended opcode of primary opcode 31.
const fn x31(name: &'static str, extended: u32, free: u32) -> Form {
    form(name, 31 << 26 | extended << 1, free)
}

const fn at_distance(name: &'static str, opcode: u32) -> Form {
    Form { reach: Reach::Distance(0xffff), ..form(name, opcode << 26, D) }
}

const fn wide_at_distance(name: &'static str, fixed: u32, free: u32) -> Form {
    Form { reach: Reach::Distance(free & 0xffff), ..wide(name, fixed, free) }
}

const fn indexed(name: &'static str, extended: u32) -> Form {
    Form { reach: Reach::Indexed, ..x31(name, extended, TAB) }
}

const fn wide_indexed(name: &'static str, extended: u32, free: u32) -> Form {
    Form { on: On::Only64, reach: Reach::Indexed, ..x31(name, extended, free) }
}

/// A prefix of that type (1.6.3), with R = 1 or 0, before that primary opcode.
const fn prefixed(name: &'static str, kind: u32, relative: u32, opcode: u32) -> Form {
    let operands = if relative == 1 { 0x03e0_ffff } else { D };
    Form {
        prefix: Some(1 << 26 | kind << 24 | relative << 20),
        reach: Reach::Prefixed,
        ..wide(name, opcode << 26, operands)
    }
}

/// Instructions that control passes through.
pub(super) const STRAIGHT: &[Form] = &[
    form("mulli", 7 << 26, D),
    form("subfic", 8 << 26, D),
    form("cmpli", 10 << 26, 0x039f_ffff),
    form("cmpi", 11 << 26, 0x039f_ffff),
    form("addic", 12 << 26, D),
    form("addic.", 13 << 26, D),
    form("addi", 14 << 26, D),
    form("addis", 15 << 26, D),
    form("rlwimi", 20 << 26, D),
    form("rlwinm", 21 << 26, D),
    form("rlwnm", 23 << 26, D),
    form("ori", 24 << 26, D),
    form("oris", 25 << 26, D),
    form("xori", 26 << 26, D),
    form("xoris", 27 << 26, D),
    form("andi.", 28 << 26, D),
    form("andis.", 29 << 26, D),
    wide("rldicl and its like", 30 << 26, D),
    form("mcrf", 19 << 26, 0x039c_0000),
    form("crnor", 19 << 26 | 33 << 1, TAB),
    form("crxor", 19 << 26 | 193 << 1, TAB),
    form("cror", 19 << 26 | 449 << 1, TAB),
    form("isync", 0x4c00_012c, 0),
    form("tdi", 2 << 26, D),
    form("twi", 3 << 26, D),
    x31("tw", 4, TAB),
    x31("td", 68, TAB),
    x31("cmp", 0, 0x039f_f800),
    x31("cmpl", 32, 0x039f_f800),
    x31("subfc", 8, TAB | 0x401),
    x31("addc", 10, TAB | 0x401),
    x31("add", 266, TAB | 0x401),
    x31("adde", 138, TAB | 0x401),
    x31("addme", 234, TA | 0x401),
    x31("neg", 104, TA | 0x401),
    x31("mullw", 235, TAB | 0x401),
    x31("mulhwu", 11, TAB | RC),
    x31("divw", 491, TAB | 0x401),
    x31("and", 28, TAB | RC),
    x31("nor", 124, TAB | RC),
    x31("xor", 316, TAB | RC),
    x31("orc", 412, TAB | RC),
    x31("slw", 24, TAB | RC),
    x31("sraw", 792, TAB | RC),
    x31("srawi", 824, TAB | RC),
    x31("cntlzw", 26, TA | RC),
    x31("extsb", 954, TA | RC),
    x31("isel", 15, TABC),
    x31("mfcr", 19, 0x03e0_0000),
    x31("mtcrf", 144, 0x03ef_f000),
    x31("mflr", 8 << 15 | 339, 0x03e0_0000),
    x31("mtlr", 8 << 15 | 467, 0x03e0_0000),
    x31("mfctr", 9 << 15 | 339, 0x03e0_0000),
    x31("mtctr", 9 << 15 | 467, 0x03e0_0000),
    x31("mfxer", 1 << 15 | 339, 0x03e0_0000),
    x31("mtxer", 1 << 15 | 467, 0x03e0_0000),
    x31("sync", 598, 0x0060_0000),
    x31("mtmsr", 146, 0x03e0_0000),
    x31("mfmsr", 83, 0x03e0_0000),
    wide("modsd and its like", 31 << 26 | 777 << 1, TAB),
    wide("mulld", 31 << 26 | 233 << 1, TAB | 0x401),
    wide("divdu", 31 << 26 | 457 << 1, TAB | 0x401),
    wide("sld", 31 << 26 | 27 << 1, TAB | RC),
    wide("cnttzd", 31 << 26 | 570 << 1, TA | RC),
    wide("setb", 31 << 26 | 128 << 1, 0x03fc_0000),
    wide("setbc", 31 << 26 | 384 << 1, TA),
    wide("mfvsrd", 31 << 26 | 51 << 1, TA | 1),
    wide("mtvsrdd", 31 << 26 | 435 << 1, TAB | 1),
    form("fadd and its like", 63 << 26 | 16, TABC | 0xf),
    form("fmadd and its like", 63 << 26 | 28 << 1, TABC | 7),
    form("fadds and its like", 59 << 26 | 16, TABC | 0xf),
    form("fcmpu", 63 << 26, 0x039f_f800),
    form("fctiwz", 63 << 26 | 15 << 1, 0x03e0_f801),
    form("fmr", 63 << 26 | 72 << 1, 0x03e0_f801),
    form("mffs", 63 << 26 | 583 << 1, 0x03e0_0001),
    form("of opcode 4", 4 << 26, D),
    wide("of opcode 60", 60 << 26, D),
    wide("of opcode 63", 63 << 26, D),
];

/// Those of them that access memory.
pub(super) const MEMORY: &[Form] = &[
    at_distance("lwz", 32),
    at_distance("lwzu", 33),
    at_distance("lbz", 34),
    at_distance("lbzu", 35),
    at_distance("stw", 36),
    at_distance("stwu", 37),
    at_distance("stb", 38),
    at_distance("lhz", 40),
    at_distance("lha", 42),
    at_distance("lhau", 43),
    at_distance("sth", 44),
    Form { on: On::OnlyBig, ..at_distance("lmw", 46) },
    Form { on: On::OnlyBig, ..at_distance("stmw", 47) },
    at_distance("lfs", 48),
    at_distance("lfd", 50),
    at_distance("lfdu", 51),
    at_distance("stfs", 52),
    at_distance("stfd", 54),
    indexed("lwzx", 23),
    indexed("lbzux", 119),
    indexed("stwx", 151),
    indexed("sthux", 439),
    indexed("lwbrx", 534),
    Form { on: On::OnlyBig, ..indexed("lswx", 533) },
    Form { on: On::OnlyBig, ..indexed("lswi", 597) },
    Form { on: On::OnlyBig, ..indexed("stswx", 661) },
    indexed("lfdx", 599),
    indexed("lvx", 103),
    indexed("lvsl", 6),
    indexed("stvx", 231),
    indexed("stvebx", 135),
    Form { reach: Reach::Indexed, ..x31("dcbz", 1014, 0x001f_f800) },
    Form { reach: Reach::Indexed, ..x31("icbi", 982, 0x001f_f800) },
    Form { reach: Reach::Indexed, ..x31("dcbf", 86, 0x001f_f800) },
    wide_at_distance("ld, ldu, lwa", 58 << 26, DS | 3),
    wide_at_distance("std, stdu, stq", 62 << 26, DS | 3),
    wide_at_distance("lq", 56 << 26, DQ),
    wide_at_distance("lxvp", 6 << 26, DQ | 1),
    wide_at_distance("lxv", 61 << 26 | 1, DQ | 8),
    wide_at_distance("stxv", 61 << 26 | 5, DQ | 8),
    wide_indexed("ldbrx", 532, TAB),
    wide_indexed("lxvd2x", 844, TAB | 1),
    wide_indexed("stxvw4x", 908, TAB | 1),
    wide_indexed("lxvx", 268, TAB | 1),
    wide_indexed("ldat", 614, TAB),
    wide_indexed("lwat", 582, TAB),
    wide_indexed("stdat", 742, TAB),
    prefixed("plwz", 2, 0, 32),
    prefixed("pstd", 0, 0, 61),
    prefixed("plwz of itself", 2, 1, 32),
    prefixed("plbz of itself", 2, 1, 34),
    prefixed("pstw of itself", 2, 1, 36),
    prefixed("pstb of itself", 2, 1, 38),
    prefixed("plhz of itself", 2, 1, 40),
    prefixed("plha of itself", 2, 1, 42),
    prefixed("psth of itself", 2, 1, 44),
    prefixed("plfs of itself", 2, 1, 48),
    prefixed("plfd of itself", 2, 1, 50),
    prefixed("pstfs of itself", 2, 1, 52),
    prefixed("pstfd of itself", 2, 1, 54),
    prefixed("plwa of itself", 0, 1, 41),
    prefixed("plxsd of itself", 0, 1, 42),
    prefixed("plxssp of itself", 0, 1, 43),
    prefixed("pstxsd of itself", 0, 1, 46),
    prefixed("pstxssp of itself", 0, 1, 47),
    prefixed("plxv of itself", 0, 1, 50),
    prefixed("plxv of itself", 0, 1, 51),
    prefixed("pstxv of itself", 0, 1, 54),
    prefixed("pstxv of itself", 0, 1, 55),
    prefixed("plq of itself", 0, 1, 56),
    prefixed("pld of itself", 0, 1, 57),
    prefixed("plxvp of itself", 0, 1, 58),
    prefixed("pstq of itself", 0, 1, 60),
    prefixed("pstd of itself", 0, 1, 61),
    prefixed("pstxvp of itself", 0, 1, 62),
];

/// Prefixed instructions without memory.
pub(super) const PREFIXED: &[Form] = &[
    Form { reach: Reach::None, ..prefixed("paddi", 2, 0, 14) },
    Form { prefix: Some(0x0501_2345), ..wide("xxspltiw", 32 << 26 | 3 << 17, 0x03e1_ffff) },
    Form { prefix: Some(0x0500_0000), ..wide("xxblendvd", 33 << 26 | 3 << 4, 0x03ff_ffcf) },
    Form { prefix: Some(0x0700_0000), ..wide("pnop", 0, 0) },
];

/// What is emulated, or goes where a register says.
pub(super) const BRANCHES: &[Form] = &[
    form("b", 18 << 26, D),
    form("bc", 16 << 26, D),
    form("bc that counts", 16 << 26 | 2 << 24, D),
    form("bclr", 19 << 26 | 16 << 1, 0x03ff_1801),
    form("bcctr", 19 << 26 | 528 << 1, 0x03ff_1801),
    wide("bctar", 19 << 26 | 560 << 1 | 0x0280_0000, 0x017f_1801),
    wide("addpcis", 19 << 26 | 2 << 1, TA | 0xffc1),
    wide("addpcis", 19 << 26 | 2 << 1, TA | 0xffc1),
    Form { reach: Reach::None, ..prefixed("paddi of itself", 2, 1, 14) },
];
