//! Random instructions by class.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// A class of instructions: some bits are fixed, others are any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) name: &'static str,
    /// Of an instruction of 32 bits in T32 the first halfword is the upper one.
    word: u32,
    any: u32,
    len: usize,
    /// Where the number of the register stands by which it finds its memory, and that of an index.
    pub(super) base: Option<u32>,
    pub(super) index: Option<u32>,
}

const fn a32(name: &'static str, word: u32, any: u32) -> Form {
    Form { name, word, any, len: 4, base: None, index: None }
}

const fn t32(name: &'static str, word: u32, any: u32) -> Form {
    Form { name, word, any, len: 4, base: None, index: None }
}

const fn t16(name: &'static str, word: u32, any: u32) -> Form {
    Form { name, word, any, len: 2, base: None, index: None }
}

impl Form {
    const fn base(self, low: u32) -> Self {
        Self { base: Some(low), ..self }
    }

    const fn index(self, low: u32) -> Self {
        Self { index: Some(low), ..self }
    }

    /// An instruction of the class; those of A32 have any condition, as often as not the one that always holds.
    pub(super) fn random(&self, isa: Isa, rng: &mut TestRng) -> u32 {
        let word = self.word & !self.any | rng.next_u32() & self.any;
        match (isa, self.word >> 28) {
            (Isa::Thumb, _) | (_, 0xf) => word,
            _ if rng.random() => word & 0x0fff_ffff | 0xe << 28,
            _ => word & 0x0fff_ffff | rng.random_range(0..15) << 28,
        }
    }

    pub(super) fn bytes(&self, isa: Isa, word: u32) -> Vec<u8> {
        encode(isa, word, self.len)
    }
}

pub(super) fn encode(isa: Isa, word: u32, len: usize) -> Vec<u8> {
    let word = if isa == Isa::Thumb && len == 4 { word.rotate_left(16) } else { word };
    word.to_le_bytes()[..len].to_vec()
}

/// With any of r15, where a class says nothing else.
pub(super) const A32: &[Form] = &[
    a32("data processing", 0xe000_0000, 0x01ff_ff6f),
    a32("data processing, shifted by a register", 0xe000_0010, 0x01ff_ff6f),
    a32("data processing, immediate", 0xe200_0000, 0x01ff_ffff),
    a32("r15 and a register", 0xe08f_0000, 0x0040_f00f),
    a32("r15 and a number", 0xe20f_0000, 0x01f0_ffff),
    a32("to r15", 0xe000_f000, 0x01ef_0f6f),
    a32("to r15, immediate", 0xe200_f000, 0x01ef_0fff),
    a32("mov", 0xe1a0_0000, 0x0000_f00f),
    a32("multiplication", 0xe000_0090, 0x00ff_ff0f),
    a32("halfwords", 0xe100_0080, 0x006f_ff6f),
    a32("movw and movt", 0xe300_0000, 0x004f_ffff),
    a32("media", 0xe600_0010, 0x01ff_ffef),
    a32("hints", 0xe320_f000, 0x0000_0003),
    a32("mrs", 0xe10f_0000, 0x0000_f000),
    a32("msr", 0xe128_f000, 0x0000_000f),
    a32("clz", 0xe16f_0f10, 0x0000_f00f),
    a32("b and bl", 0xea00_0000, 0x01ff_ffff),
    a32("blx", 0xfa00_0000, 0x01ff_ffff),
    a32("bx", 0xe12f_ff10, 0x0000_000f),
    a32("blx, register", 0xe12f_ff30, 0x0000_000f),
    a32("ldr and str", 0xe400_0000, 0x03ff_f0ff).base(16),
    a32("ldr pc", 0xe410_f000, 0x03af_00ff).base(16),
    a32("str pc", 0xe400_f000, 0x03af_00ff).base(16),
    a32("ldr and str, register", 0xe600_0000, 0x01ff_f00f).base(16).index(0),
    a32("ldr pc, register", 0xe610_f000, 0x01af_000f).base(16).index(0),
    a32("ldr, literal", 0xe51f_0000, 0x00c0_f0ff),
    a32("str, literal", 0xe58f_0008, 0x0040_f010),
    a32("extra", 0xe040_0090, 0x01bf_ff6f).base(16),
    a32("extra, register", 0xe000_0090, 0x01bf_f06f).base(16).index(0),
    a32("extra, literal", 0xe15f_00b0, 0x0080_ff4f),
    a32("ldrd, literal", 0xe14f_00d0, 0x0080_ef0f),
    a32("ldm and stm", 0xe800_0000, 0x01bf_ffff).base(16),
    a32("pop with r15", 0xe810_8000, 0x01af_7fff).base(16),
    a32("push with r15", 0xe800_8000, 0x01af_7fff).base(16),
    a32("vldr and vstr", 0xed00_0a00, 0x00ff_f11f).base(16),
    a32("vldr, literal", 0xed1f_0a00, 0x00c0_f13f),
    a32("vldm and vstm", 0xec80_0b02, 0x003f_f002).base(16),
    a32("vldm, literal", 0xec9f_0b02, 0x0040_f002),
    a32("vld1", 0xf420_070f, 0x006f_f0c0).base(16),
    a32("pld", 0xf510_f000, 0x00cf_00ff),
];

pub(super) const T32: &[Form] = &[
    t16("any, low registers", 0x0000, 0x3fff),
    t16("data processing", 0x4000, 0x03ff),
    t16("add, cmp, mov", 0x4400, 0x03ff),
    t16("mov to r15", 0x4687, 0x0078),
    t16("add to r15", 0x4487, 0x0078),
    t16("mov and add from r15", 0x4478, 0x0287),
    t16("bx and blx", 0x4700, 0x00f8),
    t16("ldr, literal", 0x4800, 0x07ff),
    t16("ldr and str", 0x6000, 0x1fff).base(3),
    t16("ldrh and strh", 0x8000, 0x0fff).base(3),
    t16("ldr and str, register", 0x5000, 0x0fff).base(3).index(6),
    t16("adr and add", 0xa000, 0x0fff),
    t16("add and sub of sp", 0xb000, 0x00ff),
    t16("extend", 0xb200, 0x00ff),
    t16("cbz and cbnz", 0xb100, 0x0aff),
    t16("ldm and stm", 0xc000, 0x0fff).base(8),
    t16("hints", 0xbf00, 0x0030),
    t16("it", 0xbf01, 0x00ef),
    t16("b, condition", 0xd000, 0x0fff),
    t16("b", 0xe000, 0x07ff),
    t32("shifted register", 0xea00_0000, 0x01ff_7fff),
    t32("modified immediate", 0xf000_0000, 0x05ff_7fff),
    t32("plain immediate", 0xf200_0000, 0x05ff_7fff),
    t32("adr", 0xf20f_0000, 0x04a0_7fff),
    t32("bl", 0xf000_d000, 0x07ff_2fff),
    t32("blx", 0xf000_c000, 0x07ff_2ffe),
    t32("b", 0xf000_9000, 0x07ff_2fff),
    t32("b, condition", 0xf000_8000, 0x047f_2fff),
    t32("registers", 0xfa00_f000, 0x01ff_0fff),
    t32("multiplication", 0xfb00_0000, 0x01ff_ffff),
    t32("ldr and str", 0xf880_0000, 0x017f_f0ff).base(16),
    t32("ldr and str, written back", 0xf840_0800, 0x013f_f77f).base(16),
    t32("ldr and str, register", 0xf800_0000, 0x017f_f03f).base(16).index(0),
    t32("ldr pc", 0xf8d0_f000, 0x000f_00ff).base(16),
    t32("ldr pc, written back", 0xf850_f800, 0x000f_077f).base(16),
    t32("ldr pc, register", 0xf850_f000, 0x000f_003f).base(16).index(0),
    t32("ldr, literal", 0xf81f_0000, 0x01e0_f0ff),
    t32("ldr pc, literal", 0xf85f_f000, 0x0080_00ff),
    t32("ldrd and strd", 0xe940_0000, 0x00bf_ff3f).base(16),
    t32("ldrd, literal", 0xe95f_0000, 0x0080_ff3f),
    t32("ldm and stm", 0xe880_0000, 0x003f_5fff).base(16),
    t32("ldm with r15", 0xe890_8000, 0x002f_1fff).base(16),
    t32("ldmdb with r15", 0xe910_8000, 0x002f_1fff).base(16),
    t32("tbb and tbh", 0xe8d0_f000, 0x000f_001f).base(16).index(0),
    t32("tbb and tbh behind themselves", 0xe8df_f000, 0x0000_001f).index(0),
    t32("vldr and vstr", 0xed00_0a00, 0x00df_f11f).base(16),
    t32("vldr, literal", 0xed1f_0a00, 0x00c0_f13f),
    t32("vldm and vstm", 0xec80_0b02, 0x003f_f002).base(16),
    t32("vld1", 0xf920_070f, 0x006f_f0c0).base(16),
    t32("pld", 0xf810_f000, 0x01ef_00ff),
];

pub(super) fn forms(isa: Isa) -> &'static [Form] {
    if isa == Isa::Thumb { T32 } else { A32 }
}

/// Any bits.
pub(super) fn any(isa: Isa, rng: &mut TestRng) -> Vec<u8> {
    let word = rng.next_u32();
    let word = if isa == Isa::Thumb && rng.random() {
        word | 0b111 << 29 | 1 << (27 + rng.random_range(0..2))
    } else {
        word
    };
    let is_long = isa == Isa::Arm || word >> 27 >= 0b11101;
    if is_long { encode(isa, word, 4) } else { encode(isa, word >> 16, 2) }
}
