//! Random instructions of each class.

use insn::Isa;
use insn::isa::Order;
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
    on: On,
}

/// See [`Form::on`].
#[derive(PartialEq, Eq)]
enum On {
    Both,
    Only64,
}

impl Form {
    /// The instruction with any operands.
    pub(super) fn random(&self, rng: &mut TestRng) -> u32 {
        self.fixed | rng.next_u32() & self.free
    }

    pub(super) fn is_on(&self, isa: Isa) -> bool {
        self.on == On::Both || isa.abi().word == 8
    }
}

/// The bytes of a word.
pub(super) fn encode(isa: Isa, word: u32) -> [u8; 4] {
    if isa.abi().order == Order::Little { word.to_le_bytes() } else { word.to_be_bytes() }
}

const RS: u32 = 0x03e0_0000;
const RT: u32 = 0x001f_0000;
const RD: u32 = 0x0000_f800;
const SA: u32 = 0x0000_07c0;
const LOW: u32 = 0xffff;
const R3: u32 = RS | RT | RD;
const I: u32 = RS | RT | LOW;

const fn form(name: &'static str, fixed: u32, free: u32) -> Form {
    Form { name, fixed, free, on: On::Both }
}

const fn wide(name: &'static str, fixed: u32, free: u32) -> Form {
    Form { name, fixed, free, on: On::Only64 }
}

/// Instructions that control passes through.
pub(super) const STRAIGHT: &[Form] = &[
    form("nop", 0, 0),
    form("sll", 0x0000_0000, RT | RD | SA),
    form("srl", 0x0000_0002, RT | RD | SA),
    form("sra", 0x0000_0003, RT | RD | SA),
    form("rotr", 0x0020_0002, RT | RD | SA),
    form("sllv", 0x0000_0004, R3),
    form("srav", 0x0000_0007, R3),
    form("movz", 0x0000_000a, R3),
    form("movn", 0x0000_000b, R3),
    form("movf and movt", 0x0000_0001, RS | RD | 0x001d_0000),
    form("mfhi", 0x0000_0010, RD),
    form("mthi", 0x0000_0011, RS),
    form("mflo", 0x0000_0012, RD),
    form("mtlo", 0x0000_0013, RS),
    form("mult", 0x0000_0018, RS | RT),
    form("multu", 0x0000_0019, RS | RT),
    form("add and addu", 0x0000_0020, R3 | 1),
    form("sub and subu", 0x0000_0022, R3 | 1),
    form("and, or, xor, nor", 0x0000_0024, R3 | 3),
    form("slt and sltu", 0x0000_002a, R3 | 1),
    form("teq", 0x0000_0034, RS | RT | RD | SA),
    form("tlt", 0x0000_0032, RS | RT),
    form("sync", 0x0000_000f, 0),
    form("tgei", 0x0408_0000, RS | LOW),
    form("addiu", 0x2400_0000, I),
    form("slti", 0x2800_0000, I),
    form("sltiu", 0x2c00_0000, I),
    form("andi", 0x3000_0000, I),
    form("ori", 0x3400_0000, I),
    form("xori", 0x3800_0000, I),
    form("lui", 0x3c00_0000, RT | LOW),
    form("madd and maddu", 0x7000_0000, RS | RT | 1),
    form("mul", 0x7000_0002, R3),
    form("msub", 0x7000_0004, RS | RT),
    form("seb", 0x7c00_0420, RT | RD),
    form("seh", 0x7c00_0620, RT | RD),
    form("wsbh", 0x7c00_00a0, RT | RD),
    form("ext", 0x7c00_0000, RS | RT | 0x0000_3800 | SA),
    form("rdhwr of the thread", 0x7c00_e83b, RT),
    form("mfc1", 0x4400_0000, RT | RD),
    form("cfc1", 0x4440_f800, RT),
    form("mtc1", 0x4480_0000, RT | RD),
    form("add.s", 0x4600_0000, RT | RD | SA),
    form("mul.d", 0x4620_0002, RT | RD | SA),
    form("div.s", 0x4600_0003, RT | RD | SA),
    form("mov.d", 0x4620_0006, RD | SA),
    form("movcf.s", 0x4600_0011, RD | SA | 0x001d_0000),
    form("cvt.d.w", 0x4680_0021, RD | SA),
    form("trunc.w.d", 0x4620_000d, RD | SA),
    form("c.cond.s", 0x4600_0030, RT | RD | 0x70f),
    form("c.cond.d", 0x4620_0030, RT | RD | 0x70f),
    wide("daddiu", 0x6400_0000, I),
    wide("daddu", 0x0000_002d, R3),
    wide("dsubu", 0x0000_002f, R3),
    wide("dsll and dsll32", 0x0000_0038, RT | RD | SA | 4),
    wide("dsrlv", 0x0000_0016, R3),
    wide("dmult", 0x0000_001c, RS | RT),
    wide("dext", 0x7c00_0003, RS | RT | 0x0000_3800 | SA),
    wide("dsbh", 0x7c00_00a4, RT | RD),
    wide("dmtc1", 0x44a0_0000, RT | RD),
];

/// Those of them that access memory at a register and a distance.
pub(super) const MEMORY: &[Form] = &[
    form("lb", 0x8000_0000, I),
    form("lh", 0x8400_0000, I),
    form("lwl", 0x8800_0000, I),
    form("lw", 0x8c00_0000, I),
    form("lbu", 0x9000_0000, I),
    form("lhu", 0x9400_0000, I),
    form("lwr", 0x9800_0000, I),
    form("sb", 0xa000_0000, I),
    form("sh", 0xa400_0000, I),
    form("swl", 0xa800_0000, I),
    form("sw", 0xac00_0000, I),
    form("swr", 0xb800_0000, I),
    form("lwc1", 0xc400_0000, I),
    form("ldc1", 0xd400_0000, I),
    form("swc1", 0xe400_0000, I),
    form("sdc1", 0xf400_0000, I),
    form("pref", 0xcc00_0000, I),
    wide("lwu", 0x9c00_0000, I),
    wide("ld", 0xdc00_0000, I),
    wide("ldl", 0x6800_0000, I),
    wide("sd", 0xfc00_0000, I),
    wide("sdr", 0xb400_0000, I),
];

/// Branches by registers, and jumps.
pub(super) const BRANCHES: &[Form] = &[
    form("j", 0x0800_0000, 0x03ff_ffff),
    form("jal", 0x0c00_0000, 0x03ff_ffff),
    form("jr", 0x0000_0008, RS),
    form("jalr", 0x0000_0009, RS | RD),
    form("jalr.hb", 0x0000_0409, RS | RD),
    form("beq", 0x1000_0000, I),
    form("bne", 0x1400_0000, I),
    form("blez", 0x1800_0000, RS | LOW),
    form("bgtz", 0x1c00_0000, RS | LOW),
    form("bltz and bgez", 0x0400_0000, RS | LOW | 0x0001_0000),
    form("bltzal and bgezal", 0x0410_0000, RS | LOW | 0x0001_0000),
];

/// Those that leave out what is in their delay slot.
pub(super) const LIKELY: &[Form] = &[
    form("beql", 0x5000_0000, I),
    form("bnel", 0x5400_0000, I),
    form("blezl", 0x5800_0000, RS | LOW),
    form("bgtzl", 0x5c00_0000, RS | LOW),
    form("bltzl and bgezl", 0x0402_0000, RS | LOW | 0x0001_0000),
    form("bltzall and bgezall", 0x0412_0000, RS | LOW | 0x0001_0000),
];

/// By bits of a coprocessor.
pub(super) const ELSEWHERE: &[Form] = &[form("bc1t and its like", 0x4500_0000, 0x001f_0000 | LOW)];

/// Those of ASEs that not every processor has.
pub(super) const DSP: Form = form("bposge32", 0x041c_0000, LOW);
pub(super) const VECTORS: &[Form] = &[
    form("bz.v", 0x4560_0000, RT | LOW),
    form("bnz.v", 0x45e0_0000, RT | LOW),
    form("bz and bnz of one width", 0x4700_0000, RT | LOW | 0x00e0_0000),
];

/// What begins and ends exclusive sequences.
pub(super) const EXCLUSIVE: &[Form] = &[
    form("ll", 0xc000_0000, I),
    form("sc", 0xe000_0000, I),
    wide("lld", 0xd000_0000, I),
    wide("scd", 0xf000_0000, I),
];

/// What enters the kernel.
pub(super) const TRAPS: &[Form] = &[
    form("syscall", 0x0000_000c, 0x03ff_ffc0),
    form("break", 0x0000_000d, 0x03ff_ffc0),
    form("break of few codes", 0x0000_000d, 0x000f_0000),
];

/// Those of Release 6.
pub(super) const RELEASE6: &[Form] = &[
    form("nal and bal", 0x0410_0000, LOW | 0x0001_0000),
    form("POP06", 0x1800_0000, I),
    form("POP07", 0x1c00_0000, I),
    form("POP26", 0x5800_0000, I),
    form("POP27", 0x5c00_0000, I),
    form("PCREL", 0xec00_0000, RS | RT | LOW),
    form("bc1eqz", 0x4520_0000, RT | LOW),
    form("bc1nez", 0x45a0_0000, RT | LOW),
];

/// Any bits with this major opcode.
pub(super) fn any_word(rng: &mut TestRng, opcode: u32) -> u32 {
    rng.next_u32() >> 6 | opcode << 26
}
