//! Random instructions of each class. (Which operation codes there are besides binutils tells: `objdump.rs`.)

use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// How an instruction finds its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    None,
    /// By a base, perhaps an index, and 12 bits.
    Near {
        index: bool,
    },
    /// The same and 20 bits.
    Far {
        index: bool,
    },
    /// By two bases and 12 bits each.
    Two,
    /// By its own address.
    Relative,
}

/// Encodings with the same fixed bits: 6 bytes, of which the first 2 or 4 may be all.
pub(super) struct Form {
    pub(super) name: &'static str,
    fixed: u64,
    free: u64,
    pub(super) reach: Reach,
}

impl Form {
    /// The instruction with any operands.
    pub(super) fn bytes(&self, rng: &mut TestRng) -> Vec<u8> {
        encode(self.fixed | rng.next_u64() & self.free)
    }
}

/// The first 2, 4 or 6 of 6 bytes.
pub(super) fn encode(word: u64) -> Vec<u8> {
    let bytes = &word.to_be_bytes()[2..];
    let len = [2, 4, 4, 6][usize::from(bytes[0] >> 6)];
    bytes[..len].to_vec()
}

/// All operands of the format's: what lies between the first byte and, where `last` is not 0, the sixth.
const OPERANDS_2: u64 = 0x00ff_0000_0000;
const OPERANDS_4: u64 = 0x00ff_ffff_0000;
const OPERANDS_6: u64 = 0x00ff_ffff_ff00;

const fn form(name: &'static str, fixed: u64, free: u64, reach: Reach) -> Form {
    Form { name, fixed, free, reach }
}

const fn rr(name: &'static str, code: u64) -> Form {
    form(name, code << 40, OPERANDS_2, Reach::None)
}

const fn rre(name: &'static str, code: u64) -> Form {
    form(name, code << 32, 0x00ff_0000, Reach::None)
}

const fn rrf(name: &'static str, code: u64) -> Form {
    form(name, code << 32, 0xffff_0000, Reach::None)
}

const fn ri(name: &'static str, code: u64) -> Form {
    form(name, (code >> 4) << 40 | (code & 0xf) << 32, 0x00f0_ffff_0000, Reach::None)
}

const fn ril(name: &'static str, code: u64, reach: Reach) -> Form {
    form(name, (code >> 4) << 40 | (code & 0xf) << 32, 0x00f0_ffff_ffff, reach)
}

const fn rie(name: &'static str, code: u64) -> Form {
    form(name, 0xec << 40 | code, OPERANDS_6, Reach::None)
}

/// Formats RX, RS, SI, by whether they have an index.
const fn near(name: &'static str, code: u64, index: bool) -> Form {
    form(name, code << 40, OPERANDS_4, Reach::Near { index })
}

/// Formats RXY, RSY, SIY.
const fn far(name: &'static str, first: u64, last: u64) -> Form {
    form(name, first << 40 | last, OPERANDS_6, Reach::Far { index: first == 0xe3 })
}

const fn ss(name: &'static str, code: u64) -> Form {
    form(name, code << 40, 0x00ff_ffff_ffff, Reach::Two)
}

const fn sil(name: &'static str, code: u64) -> Form {
    form(name, code << 32, 0xffff_ffff, Reach::Near { index: false })
}

/// Control passes through them, and they use no memory.
pub(super) const STRAIGHT: &[Form] = &[
    rr("spm", 0x04),
    rr("lr", 0x18),
    rr("ltr", 0x12),
    rr("lcr", 0x13),
    rr("xr", 0x17),
    rr("cr", 0x19),
    rr("ar", 0x1a),
    rr("mr", 0x1c),
    rr("dr", 0x1d),
    rr("slr", 0x1f),
    rr("ldr", 0x28),
    rr("ler", 0x38),
    rr("bcr that serialises", 0x07),
    form("bcr 15,0", 0x07f0 << 32, 0, Reach::None),
    form("sam64", 0x010e << 32, 0, Reach::None),
    form("tam", 0x010b << 32, 0, Reach::None),
    rre("lgr", 0xb904),
    rre("agr", 0xb908),
    rre("slgr", 0xb90b),
    rre("msgr", 0xb90c),
    rre("dsgr", 0xb90d),
    rre("lrvgr", 0xb90f),
    rre("lgfr", 0xb914),
    rre("cgr", 0xb920),
    rre("clgr", 0xb921),
    rre("cgfr", 0xb930),
    rre("ngr", 0xb980),
    rre("xgr", 0xb982),
    rre("flogr", 0xb983),
    rre("llgcr", 0xb984),
    rre("mlgr", 0xb986),
    rre("dlgr", 0xb987),
    rre("alcgr", 0xb988),
    rre("slbgr", 0xb989),
    rre("epsw", 0xb98d),
    rre("ipm", 0xb222),
    rre("ear", 0xb24f),
    rre("sar", 0xb24e),
    rre("msr", 0xb252),
    rrf("cgrt", 0xb960),
    rrf("clrt", 0xb973),
    rrf("popcnt", 0xb9e1),
    rrf("locgr", 0xb9e2),
    rrf("selgr", 0xb9e3),
    rrf("ngrk", 0xb9e4),
    rrf("agrk", 0xb9e8),
    rrf("slrk", 0xb9fb),
    rre("adbr", 0xb31a),
    rre("aebr", 0xb30a),
    rre("mdbr", 0xb31c),
    rre("ddbr", 0xb31d),
    rre("sqdbr", 0xb315),
    rre("cdbr", 0xb319),
    rre("ltdbr", 0xb312),
    rrf("cdfbra", 0xb395),
    rrf("cfdbra", 0xb399),
    rre("ldgr", 0xb3c1),
    rre("lgdr", 0xb3cd),
    ri("tmlh", 0xa70),
    ri("tmhl", 0xa73),
    ri("lhi", 0xa78),
    ri("lghi", 0xa79),
    ri("ahi", 0xa7a),
    ri("aghi", 0xa7b),
    ri("mghi", 0xa7d),
    ri("cghi", 0xa7f),
    ri("iihh", 0xa50),
    ri("nill", 0xa57),
    ri("oilh", 0xa5a),
    ri("llihl", 0xa5d),
    ril("lgfi", 0xc01, Reach::None),
    ril("xilf", 0xc07, Reach::None),
    ril("iihf", 0xc08, Reach::None),
    ril("nihf", 0xc0a, Reach::None),
    ril("llilf", 0xc0f, Reach::None),
    ril("msgfi", 0xc20, Reach::None),
    ril("agfi", 0xc28, Reach::None),
    ril("clgfi", 0xc2e, Reach::None),
    ril("aih", 0xcc8, Reach::None),
    ril("clih", 0xccf, Reach::None),
    rie("lochi", 0x42),
    rie("locghi", 0x46),
    rie("risblg", 0x51),
    // Of `rnsbg` and its like some make the emulator's translator abort.
    rie("risbg", 0x55),
    rie("risbgn", 0x59),
    form("cgit", 0xec << 40 | 0x70, 0x00f0_ffff_f000, Reach::None),
    form("clfit", 0xec << 40 | 0x73, 0x00f0_ffff_f000, Reach::None),
    rie("ahik", 0xd8),
    rie("aghik", 0xd9),
    rie("alghsik", 0xdb),
    form("srl", 0x88 << 40, OPERANDS_4, Reach::None),
    form("sla", 0x8b << 40, OPERANDS_4, Reach::None),
    form("srda", 0x8e << 40, OPERANDS_4, Reach::None),
    form("la", 0x41 << 40, OPERANDS_4, Reach::None),
    form("lae", 0x51 << 40, OPERANDS_4, Reach::None),
    form("lay", 0xe3 << 40 | 0x71, OPERANDS_6, Reach::None),
    form("srag", 0xeb << 40 | 0x0a, OPERANDS_6, Reach::None),
    form("sllg", 0xeb << 40 | 0x0d, OPERANDS_6, Reach::None),
    form("rllg", 0xeb << 40 | 0x1c, OPERANDS_6, Reach::None),
    form("slak", 0xeb << 40 | 0xdd, OPERANDS_6, Reach::None),
    form("va", 0xe7 << 40 | 0xf3, 0x00ff_f000_3e00, Reach::None),
    form("vn", 0xe7 << 40 | 0x68, 0x00ff_f000_0e00, Reach::None),
    form("vperm", 0xe7 << 40 | 0x8c, 0x00ff_f000_fe00, Reach::None),
    form("vfa", 0xe7 << 40 | 0x30e3, 0x00ff_f000_0e00, Reach::None),
    form("vlgv", 0xe7 << 40 | 0x21, 0x00ff_0007_3400, Reach::None),
    form("vlvg", 0xe7 << 40 | 0x22, 0x00ff_0007_3800, Reach::None),
    form("ssm", 0x80 << 40, OPERANDS_4, Reach::None),
    form("lctlg", 0xeb << 40 | 0x2f, OPERANDS_6, Reach::None),
    form("no instruction", 0, 0x00fc_0000_0000, Reach::None),
];

/// The same with memory.
pub(super) const MEMORY: &[Form] = &[
    near("sth", 0x40, true),
    near("stc", 0x42, true),
    near("ic", 0x43, true),
    near("lh", 0x48, true),
    near("ch", 0x49, true),
    near("mh", 0x4c, true),
    near("st", 0x50, true),
    near("n", 0x54, true),
    near("cl", 0x55, true),
    near("l", 0x58, true),
    near("a", 0x5a, true),
    near("m", 0x5c, true),
    near("d", 0x5d, true),
    near("std", 0x60, true),
    near("ld", 0x68, true),
    near("ste", 0x70, true),
    near("ms", 0x71, true),
    near("stm", 0x90, false),
    near("tm", 0x91, false),
    near("mvi", 0x92, false),
    near("ts", 0x93, false),
    near("cli", 0x95, false),
    near("xi", 0x97, false),
    near("lm", 0x98, false),
    near("stam", 0x9b, false),
    near("lam", 0x9a, false),
    near("cs", 0xba, false),
    near("cds", 0xbb, false),
    near("clm", 0xbd, false),
    near("stcm", 0xbe, false),
    near("icm", 0xbf, false),
    far("ltg", 0xe3, 0x02),
    far("lg", 0xe3, 0x04),
    far("ag", 0xe3, 0x08),
    far("dsg", 0xe3, 0x0d),
    far("lrvg", 0xe3, 0x0f),
    far("lgf", 0xe3, 0x14),
    far("lgh", 0xe3, 0x15),
    far("cg", 0xe3, 0x20),
    far("stg", 0xe3, 0x24),
    far("strvg", 0xe3, 0x2f),
    far("pfd", 0xe3, 0x36),
    far("ly", 0xe3, 0x58),
    far("stcy", 0xe3, 0x72),
    far("mlg", 0xe3, 0x86),
    far("alcg", 0xe3, 0x88),
    far("stpq", 0xe3, 0x8e),
    far("lpq", 0xe3, 0x8f),
    far("llgc", 0xe3, 0x90),
    far("lat", 0xe3, 0x9f),
    far("lmg", 0xeb, 0x04),
    far("stmg", 0xeb, 0x24),
    far("csg", 0xeb, 0x30),
    far("cdsg", 0xeb, 0x3e),
    far("mviy", 0xeb, 0x52),
    far("agsi", 0xeb, 0x7a),
    far("locg", 0xeb, 0xe2),
    far("stocg", 0xeb, 0xe3),
    far("laag", 0xeb, 0xe8),
    far("lao", 0xeb, 0xf6),
    sil("mvghi", 0xe548),
    sil("chsi", 0xe55c),
    sil("clfhsi", 0xe55d),
    ss("mvc", 0xd2),
    ss("nc", 0xd4),
    ss("clc", 0xd5),
    ss("xc", 0xd7),
    ss("tr", 0xdc),
    ss("trt", 0xdd),
    ss("unpk", 0xf3),
    ss("ap", 0xfa),
    form("vl", 0xe7 << 40 | 0x06, 0x00ff_ffff_0800, Reach::Near { index: true }),
    form("vst", 0xe7 << 40 | 0x0e, 0x00ff_ffff_0800, Reach::Near { index: true }),
    form("adb", 0xed << 40 | 0x1a, 0x00ff_ffff_0000, Reach::Near { index: true }),
    form("stfpc", 0xb29c << 32, 0xffff_0000, Reach::Near { index: false }),
    ril("llhrl", 0xc42, Reach::Relative),
    ril("lghrl", 0xc44, Reach::Relative),
    ril("lhrl", 0xc45, Reach::Relative),
    ril("llghrl", 0xc46, Reach::Relative),
    ril("sthrl", 0xc47, Reach::Relative),
    ril("lgrl", 0xc48, Reach::Relative),
    ril("stgrl", 0xc4b, Reach::Relative),
    ril("lgfrl", 0xc4c, Reach::Relative),
    ril("lrl", 0xc4d, Reach::Relative),
    ril("llgfrl", 0xc4e, Reach::Relative),
    ril("strl", 0xc4f, Reach::Relative),
    ril("cghrl", 0xc64, Reach::Relative),
    ril("chrl", 0xc65, Reach::Relative),
    ril("clghrl", 0xc66, Reach::Relative),
    ril("clhrl", 0xc67, Reach::Relative),
    ril("cgrl", 0xc68, Reach::Relative),
    ril("clgrl", 0xc6a, Reach::Relative),
    ril("cgfrl", 0xc6c, Reach::Relative),
    ril("crl", 0xc6d, Reach::Relative),
    ril("clgfrl", 0xc6e, Reach::Relative),
    ril("clrl", 0xc6f, Reach::Relative),
];

/// What is emulated.
pub(super) const BRANCHES: &[Form] = &[
    rr("balr", 0x05),
    rr("bctr", 0x06),
    rr("bcr", 0x07),
    rr("basr", 0x0d),
    form("bal", 0x45 << 40, OPERANDS_4, Reach::None),
    form("bct", 0x46 << 40, OPERANDS_4, Reach::None),
    form("bc", 0x47 << 40, OPERANDS_4, Reach::None),
    form("bas", 0x4d << 40, OPERANDS_4, Reach::None),
    form("brxh", 0x84 << 40, OPERANDS_4, Reach::None),
    form("brxle", 0x85 << 40, OPERANDS_4, Reach::None),
    form("bxh", 0x86 << 40, OPERANDS_4, Reach::None),
    form("bxle", 0x87 << 40, OPERANDS_4, Reach::None),
    ri("brc", 0xa74),
    ri("bras", 0xa75),
    ri("brct", 0xa76),
    ri("brctg", 0xa77),
    rre("bctgr", 0xb946),
    // The emulator's distances have 32 bits (`gen_ri2`, target/s390x/tcg/translate.c of qemu 7.2).
    form("larl", 0xc0 << 40, 0x00f0_3fff_ffff, Reach::None),
    ril("brcl", 0xc04, Reach::None),
    ril("brasl", 0xc05, Reach::None),
    ril("pfdrl", 0xc62, Reach::None),
    ril("brcth", 0xcc6, Reach::None),
    form("bprp", 0xc5 << 40, 0x00ff_ffff_ffff, Reach::None),
    form("bpp", 0xc7 << 40, 0x00f0_ffff_ffff, Reach::None),
    form("bctg", 0xe3 << 40 | 0x46, OPERANDS_6, Reach::None),
    // At memory that is there: the emulator reads it whether the branch is taken or not.
    form("bic", 0xe3 << 40 | 1 << 28 | 0x47, 0x00f0_ffff_ff00, Reach::Far { index: false }),
    form("bxhg", 0xeb << 40 | 0x44, OPERANDS_6, Reach::None),
    form("bxleg", 0xeb << 40 | 0x45, OPERANDS_6, Reach::None),
    form("brxhg", 0xec << 40 | 0x44, 0x00ff_ffff_0000, Reach::None),
    form("brxlg", 0xec << 40 | 0x45, 0x00ff_ffff_0000, Reach::None),
    form("cgrj", 0xec << 40 | 0x64, 0x00ff_ffff_e000, Reach::None),
    form("clgrj", 0xec << 40 | 0x65, 0x00ff_ffff_e000, Reach::None),
    form("crj", 0xec << 40 | 0x76, 0x00ff_ffff_e000, Reach::None),
    form("clrj", 0xec << 40 | 0x77, 0x00ff_ffff_e000, Reach::None),
    form("cgij", 0xec << 40 | 0x7c, 0x00fe_ffff_ff00, Reach::None),
    form("clgij", 0xec << 40 | 0x7d, 0x00fe_ffff_ff00, Reach::None),
    form("cij", 0xec << 40 | 0x7e, 0x00fe_ffff_ff00, Reach::None),
    form("clij", 0xec << 40 | 0x7f, 0x00fe_ffff_ff00, Reach::None),
    form("cgrb", 0xec << 40 | 0xe4, 0x00ff_ffff_e000, Reach::None),
    form("clgrb", 0xec << 40 | 0xe5, 0x00ff_ffff_e000, Reach::None),
    form("crb", 0xec << 40 | 0xf6, 0x00ff_ffff_e000, Reach::None),
    form("clrb", 0xec << 40 | 0xf7, 0x00ff_ffff_e000, Reach::None),
    form("cgib", 0xec << 40 | 0xfc, 0x00fe_ffff_ff00, Reach::None),
    form("clgib", 0xec << 40 | 0xfd, 0x00fe_ffff_ff00, Reach::None),
    form("cib", 0xec << 40 | 0xfe, 0x00fe_ffff_ff00, Reach::None),
    form("clib", 0xec << 40 | 0xff, 0x00fe_ffff_ff00, Reach::None),
];
