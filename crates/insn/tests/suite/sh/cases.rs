//! Random instructions of each class: those that the emulator has, outside of privileged mode, in the mode of floating point that
//! the ABI begins with. It ends at any other, at `fipr` and `ftrv` among them, which it has in the wrong mode.

use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::execution::pick;

/// Where the register is by which an instruction finds its memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    None,
    /// In bits 8 to 11.
    N,
    /// In bits 4 to 7.
    M,
    /// In both: two places.
    Both,
    /// There, and r0 is added.
    IndexedN,
    IndexedM,
    Gbr,
    /// GBR, and r0 is added.
    IndexedGbr,
}

/// Encodings with the same fixed bits.
pub(super) struct Form {
    pub(super) name: &'static str,
    fixed: u16,
    /// The bits that are not.
    free: u16,
    pub(super) base: Base,
}

impl Form {
    /// The instruction with any operands.
    pub(super) fn random(&self, rng: &mut TestRng) -> u16 {
        let [low, high, ..] = rng.next_u32().to_le_bytes();
        self.fixed | u16::from_le_bytes([low, high]) & self.free
    }
}

/// Fields that are not fixed in the formats (3.3).
const N: u16 = 0x0f00;
const M: u16 = 0x00f0;
const NM: u16 = N | M;
const NI: u16 = 0x0fff;
const NMD: u16 = 0x0fff;
const MD: u16 = 0x00ff;
const D: u16 = 0x00ff;
const D12: u16 = 0x0fff;

const fn form(name: &'static str, fixed: u16, free: u16) -> Form {
    at(name, fixed, free, Base::None)
}

const fn at(name: &'static str, fixed: u16, free: u16, base: Base) -> Form {
    Form { name, fixed, free, base }
}

/// Instructions that control passes through.
pub(super) const STRAIGHT: &[Form] = &[
    form("nop", 0x0009, 0),
    form("clrt", 0x0008, 0),
    form("sett", 0x0018, 0),
    form("clrmac", 0x0028, 0),
    form("clrs", 0x0048, 0),
    form("sets", 0x0058, 0),
    form("div0u", 0x0019, 0),
    form("synco", 0x00ab, 0),
    form("movt", 0x0029, N),
    form("sts mach", 0x000a, N),
    form("sts macl", 0x001a, N),
    form("sts pr", 0x002a, N),
    form("sts fpul", 0x005a, N),
    form("sts fpscr", 0x006a, N),
    form("stc gbr", 0x0012, N),
    form("mul.l", 0x0007, NM),
    form("div0s", 0x2007, NM),
    form("tst", 0x2008, NM),
    form("and", 0x2009, NM),
    form("xor", 0x200a, NM),
    form("or", 0x200b, NM),
    form("cmp/str", 0x200c, NM),
    form("xtrct", 0x200d, NM),
    form("mulu.w", 0x200e, NM),
    form("muls.w", 0x200f, NM),
    form("cmp/eq", 0x3000, NM),
    form("cmp/hs", 0x3002, NM),
    form("cmp/ge", 0x3003, NM),
    form("div1", 0x3004, NM),
    form("dmulu.l", 0x3005, NM),
    form("cmp/hi", 0x3006, NM),
    form("cmp/gt", 0x3007, NM),
    form("sub", 0x3008, NM),
    form("subc", 0x300a, NM),
    form("subv", 0x300b, NM),
    form("add", 0x300c, NM),
    form("dmuls.l", 0x300d, NM),
    form("addc", 0x300e, NM),
    form("addv", 0x300f, NM),
    form("shll", 0x4000, N),
    form("dt", 0x4010, N),
    form("shal", 0x4020, N),
    form("shlr", 0x4001, N),
    form("cmp/pz", 0x4011, N),
    form("shar", 0x4021, N),
    form("rotl", 0x4004, N),
    form("rotcl", 0x4024, N),
    form("rotr", 0x4005, N),
    form("cmp/pl", 0x4015, N),
    form("rotcr", 0x4025, N),
    form("shll2", 0x4008, N),
    form("shll8", 0x4018, N),
    form("shll16", 0x4028, N),
    form("shlr2", 0x4009, N),
    form("shlr8", 0x4019, N),
    form("shlr16", 0x4029, N),
    form("lds mach", 0x400a, N),
    form("lds macl", 0x401a, N),
    form("lds pr", 0x402a, N),
    form("lds fpul", 0x405a, N),
    form("lds fpscr", 0x406a, N),
    form("ldc gbr", 0x401e, N),
    form("shad", 0x400c, NM),
    form("shld", 0x400d, NM),
    form("mov", 0x6003, NM),
    form("not", 0x6007, NM),
    form("swap.b", 0x6008, NM),
    form("swap.w", 0x6009, NM),
    form("negc", 0x600a, NM),
    form("neg", 0x600b, NM),
    form("extu.b", 0x600c, NM),
    form("extu.w", 0x600d, NM),
    form("exts.b", 0x600e, NM),
    form("exts.w", 0x600f, NM),
    form("add #", 0x7000, NI),
    form("cmp/eq #", 0x8800, D),
    form("tst #", 0xc800, D),
    form("and #", 0xc900, D),
    form("xor #", 0xca00, D),
    form("or #", 0xcb00, D),
    form("mov #", 0xe000, NI),
    form("fadd", 0xf000, NM),
    form("fsub", 0xf001, NM),
    form("fmul", 0xf002, NM),
    form("fdiv", 0xf003, NM),
    form("fcmp/eq", 0xf004, NM),
    form("fcmp/gt", 0xf005, NM),
    form("fmov", 0xf00c, NM),
    form("fmac", 0xf00e, NM),
    form("fsts", 0xf00d, N),
    form("flds", 0xf01d, N),
    form("float", 0xf02d, N),
    form("ftrc", 0xf03d, N),
    form("fneg", 0xf04d, N),
    form("fabs", 0xf05d, N),
    form("fsqrt", 0xf06d, N),
    form("fldi0", 0xf08d, N),
    form("fldi1", 0xf09d, N),
    form("frchg", 0xfbfd, 0),
    form("fschg", 0xf3fd, 0),
];

/// Those that access memory.
pub(super) const MEMORY: &[Form] = &[
    at("mov.b to @(r0,Rn)", 0x0004, NM, Base::IndexedN),
    at("mov.w to @(r0,Rn)", 0x0005, NM, Base::IndexedN),
    at("mov.l to @(r0,Rn)", 0x0006, NM, Base::IndexedN),
    at("mov.b @(r0,Rm)", 0x000c, NM, Base::IndexedM),
    at("mov.w @(r0,Rm)", 0x000d, NM, Base::IndexedM),
    at("mov.l @(r0,Rm)", 0x000e, NM, Base::IndexedM),
    at("mac.l", 0x000f, NM, Base::Both),
    at("mac.w", 0x400f, NM, Base::Both),
    at("pref", 0x0083, N, Base::N),
    at("ocbp", 0x00a3, N, Base::N),
    at("ocbwb", 0x00b3, N, Base::N),
    at("movca.l", 0x00c3, N, Base::N),
    at("mov.l to @(disp,Rn)", 0x1000, NMD, Base::N),
    at("mov.b to @Rn", 0x2000, NM, Base::N),
    at("mov.w to @Rn", 0x2001, NM, Base::N),
    at("mov.l to @Rn", 0x2002, NM, Base::N),
    at("mov.b to @-Rn", 0x2004, NM, Base::N),
    at("mov.w to @-Rn", 0x2005, NM, Base::N),
    at("mov.l to @-Rn", 0x2006, NM, Base::N),
    at("sts.l mach", 0x4002, N, Base::N),
    at("sts.l macl", 0x4012, N, Base::N),
    at("sts.l pr", 0x4022, N, Base::N),
    at("sts.l fpul", 0x4052, N, Base::N),
    at("sts.l fpscr", 0x4062, N, Base::N),
    at("stc.l gbr", 0x4013, N, Base::N),
    at("lds.l mach", 0x4006, N, Base::N),
    at("lds.l macl", 0x4016, N, Base::N),
    at("lds.l pr", 0x4026, N, Base::N),
    at("lds.l fpul", 0x4056, N, Base::N),
    at("ldc.l gbr", 0x4017, N, Base::N),
    at("tas.b", 0x401b, N, Base::N),
    at("movua.l", 0x40a9, N, Base::N),
    at("movua.l @Rm+", 0x40e9, N, Base::N),
    at("mov.l @(disp,Rm)", 0x5000, NMD, Base::M),
    at("mov.b @Rm", 0x6000, NM, Base::M),
    at("mov.w @Rm", 0x6001, NM, Base::M),
    at("mov.l @Rm", 0x6002, NM, Base::M),
    at("mov.b @Rm+", 0x6004, NM, Base::M),
    at("mov.w @Rm+", 0x6005, NM, Base::M),
    at("mov.l @Rm+", 0x6006, NM, Base::M),
    at("mov.b to @(disp,Rm)", 0x8000, MD, Base::M),
    at("mov.w to @(disp,Rm)", 0x8100, MD, Base::M),
    at("mov.b @(disp,Rm)", 0x8400, MD, Base::M),
    at("mov.w @(disp,Rm)", 0x8500, MD, Base::M),
    at("mov.b to @(disp,gbr)", 0xc000, D, Base::Gbr),
    at("mov.w to @(disp,gbr)", 0xc100, D, Base::Gbr),
    at("mov.l to @(disp,gbr)", 0xc200, D, Base::Gbr),
    at("mov.b @(disp,gbr)", 0xc400, D, Base::Gbr),
    at("mov.w @(disp,gbr)", 0xc500, D, Base::Gbr),
    at("mov.l @(disp,gbr)", 0xc600, D, Base::Gbr),
    at("tst.b", 0xcc00, D, Base::IndexedGbr),
    at("and.b", 0xcd00, D, Base::IndexedGbr),
    at("xor.b", 0xce00, D, Base::IndexedGbr),
    at("or.b", 0xcf00, D, Base::IndexedGbr),
    at("fmov.s @(r0,Rm)", 0xf006, NM, Base::IndexedM),
    at("fmov.s to @(r0,Rn)", 0xf007, NM, Base::IndexedN),
    at("fmov.s @Rm", 0xf008, NM, Base::M),
    at("fmov.s @Rm+", 0xf009, NM, Base::M),
    at("fmov.s to @Rn", 0xf00a, NM, Base::N),
    at("fmov.s to @-Rn", 0xf00b, NM, Base::N),
];

/// What is emulated: relative to the PC, and branches without a delay slot.
pub(super) const EMULATED: &[Form] = &[
    form("bt", 0x8900, D),
    form("bf", 0x8b00, D),
    form("mov.w @(disp,pc)", 0x9000, NI),
    form("mov.l @(disp,pc)", 0xd000, NI),
    form("mova", 0xc700, D),
];

/// Branches with one.
pub(super) const DELAYED: &[Form] = &[
    form("bt/s", 0x8d00, D),
    form("bf/s", 0x8f00, D),
    form("bra", 0xa000, D12),
    form("bsr", 0xb000, D12),
    form("braf", 0x0023, N),
    form("bsrf", 0x0003, N),
    form("jmp", 0x402b, N),
    form("jsr", 0x400b, N),
    form("rts", 0x000b, 0),
];

/// Whether an instruction uses what the register set has not: floating point, FPUL, FPSCR.
pub(super) fn uses_floats(word: u16) -> bool {
    let special = [0x005a, 0x006a, 0x405a, 0x406a, 0x4052, 0x4062, 0x4056, 0x4066];
    word >> 12 == 0xf || special.contains(&(word & 0xf0ff))
}

/// An instruction that goes on behind itself.
pub(super) fn straight(rng: &mut TestRng) -> (&'static Form, u16) {
    let form = if rng.random_range(0..3) == 0 { pick(rng, MEMORY) } else { pick(rng, STRAIGHT) };
    (form, form.random(rng))
}
