//! Random instructions of each class: those that the emulator has, outside of privileged mode. It ends at a division by zero and
//! at what is not aligned.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// Where an instruction is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Both,
    Only64,
}

/// Encodings with the same fixed bits.
pub(super) struct Form {
    pub(super) name: &'static str,
    fixed: u32,
    /// The bits that are not.
    free: u32,
    on: On,
}

impl Form {
    /// The instruction with any operands.
    pub(super) fn random(&self, rng: &mut TestRng) -> u32 {
        self.fixed | rng.next_u32() & self.free
    }

    pub(super) fn is_on(&self, isa: Isa) -> bool {
        self.on == On::Both || isa == Isa::Sparc64
    }
}

// Fields of the formats (V9, 6.2): registers, i and simm13; also without rd; no i, and rs2.
const RD: u32 = 0x1f << 25;
const RS1: u32 = 0x1f << 14;
const RS2: u32 = 0x1f;
const RI: u32 = RD | RS1 | 1 << 13 | 0x1fff;
const SHIFT32: u32 = RD | RS1 | 1 << 13 | 0x1f;
const SHIFT64: u32 = RD | RS1 | 1 << 13 | 0x103f;
const R3: u32 = RD | RS1 | RS2;
const R2: u32 = RD | RS2;

const fn op2(name: &'static str, op3: u32, free: u32) -> Form {
    Form { name, fixed: 2 << 30 | op3 << 19, free, on: On::Both }
}

const fn op3(name: &'static str, op3: u32) -> Form {
    Form { name, fixed: 3 << 30 | op3 << 19, free: RD, on: On::Both }
}

const fn float(name: &'static str, opf: u32, free: u32) -> Form {
    Form { name, fixed: 2 << 30 | 0x34 << 19 | opf << 5, free, on: On::Both }
}

const fn wide(form: Form) -> Form {
    Form { on: On::Only64, ..form }
}

const fn with(bits: u32, form: Form) -> Form {
    Form { fixed: form.fixed | bits, ..form }
}

/// Instructions that control passes through (V9, appendix A).
pub(super) const STRAIGHT: &[Form] = &[
    Form { name: "nop", fixed: 0x0100_0000, free: 0, on: On::Both },
    Form { name: "sethi", fixed: 4 << 22, free: RD | 0x3f_ffff, on: On::Both },
    op2("add", 0x00, RI),
    op2("and", 0x01, RI),
    op2("or", 0x02, RI),
    op2("xor", 0x03, RI),
    op2("sub", 0x04, RI),
    op2("andn", 0x05, RI),
    op2("xnor", 0x07, RI),
    op2("addc", 0x08, RI),
    wide(op2("mulx", 0x09, RI)),
    op2("umul", 0x0a, RI),
    op2("smul", 0x0b, RI),
    op2("subc", 0x0c, RI),
    wide(with(0x2001, op2("udivx", 0x0d, RD | RS1 | 0xffe))),
    with(0x2001, op2("udiv", 0x0e, RD | RS1 | 0xffe)),
    with(0x2001, op2("sdiv", 0x0f, RD | RS1 | 0xffe)),
    op2("addcc", 0x10, RI),
    op2("andcc", 0x11, RI),
    op2("xorcc", 0x13, RI),
    op2("subcc", 0x14, RI),
    op2("addccc", 0x18, RI),
    op2("umulcc", 0x1a, RI),
    op2("subccc", 0x1c, RI),
    with(0x2001, op2("sdivcc", 0x1f, RD | RS1 | 0xffe)),
    op2("taddcc", 0x20, RI),
    op2("tsubcc", 0x21, RI),
    op2("mulscc", 0x24, RI),
    op2("sll", 0x25, SHIFT32),
    op2("srl", 0x26, SHIFT32),
    op2("sra", 0x27, SHIFT32),
    wide(op2("sllx", 0x25, SHIFT64)),
    wide(op2("srax", 0x27, SHIFT64)),
    op2("rd %y", 0x28, RD),
    wide(with(2 << 14, op2("rd %ccr", 0x28, RD))),
    wide(with(3 << 14, op2("rd %asi", 0x28, RD))),
    with(15 << 14, op2("stbar", 0x28, 0)),
    // The condition codes of integers.
    wide(with(1 << 18, op2("movcc", 0x2c, RD | 0xf << 14 | 1 << 13 | 1 << 12 | 0x7ff))),
    // %fcc0 to %fcc3.
    wide(op2("movfcc", 0x2c, RD | 0xf << 14 | 1 << 13 | 3 << 11 | 0x7ff)),
    wide(with(0x2001, op2("sdivx", 0x2d, RD | RS1 | 0xffe))),
    wide(op2("popc", 0x2e, RD | 1 << 13 | RS2)),
    wide(with(1 << 10, op2("movrz", 0x2f, RD | RS1 | 1 << 13 | RS2))),
    op2("wr %y", 0x30, RS1 | 1 << 13 | 0x1fff),
    wide(with(2 << 25, op2("wr %ccr", 0x30, RS1 | 1 << 13 | 0x1fff))),
    float("fmovs", 0x01, R2),
    wide(float("fmovd", 0x02, R2)),
    float("fnegs", 0x05, R2),
    float("fabss", 0x09, R2),
    float("fsqrts", 0x29, R2),
    float("fadds", 0x41, R3),
    float("faddd", 0x42, R3),
    float("fsubd", 0x46, R3),
    float("fmuls", 0x49, R3),
    float("fmuld", 0x4a, R3),
    float("fdivs", 0x4d, R3),
    float("fdivd", 0x4e, R3),
    float("fitos", 0xc4, R2),
    float("fdtos", 0xc6, R2),
    float("fitod", 0xc8, R2),
    float("fstod", 0xc9, R2),
    float("fstoi", 0xd1, R2),
    float("fdtoi", 0xd2, R2),
    wide(float("fdtox", 0x82, R2)),
    wide(float("fxtod", 0x88, R2)),
    op2("fcmps", 0x35, RS1 | RS2).fixed_to(0x51 << 5),
    op2("fcmpd", 0x35, RS1 | RS2).fixed_to(0x52 << 5),
    wide(op2("fcmpd of any", 0x35, RS1 | RS2 | 3 << 25).fixed_to(0x52 << 5)),
    wide(op2("fmovdcc", 0x35, R2 | 0xf << 14).fixed_to(1 << 13 | 0x02 << 5)),
    wide(op2("alignaddr", 0x36, R3).fixed_to(0x18 << 5)),
    wide(op2("fpadd16", 0x36, R3).fixed_to(0x50 << 5)),
    wide(op2("fxor", 0x36, R3).fixed_to(0x6c << 5)),
];

impl Form {
    const fn fixed_to(self, bits: u32) -> Self {
        Self { fixed: self.fixed | bits, free: self.free & !bits, ..self }
    }
}

/// Those that change the window, and are done in the window where they are: a register is not another one then.
pub(super) const WINDOWS: &[Form] = &[op2("save", 0x3c, RI), op2("restore", 0x3d, RI)];

/// Those that access memory, at a register that is filled in: `point_to`.
pub(super) const MEMORY: &[Form] = &[
    op3("ld", 0x00),
    op3("ldub", 0x01),
    op3("lduh", 0x02),
    op3("ldd", 0x03),
    op3("st", 0x04),
    op3("stb", 0x05),
    op3("sth", 0x06),
    op3("std", 0x07),
    wide(op3("ldsw", 0x08)),
    op3("ldsb", 0x09),
    op3("ldsh", 0x0a),
    wide(op3("ldx", 0x0b)),
    op3("ldstub", 0x0d),
    wide(op3("stx", 0x0e)),
    op3("swap", 0x0f),
    op3("ldf", 0x20),
    op3("lddf", 0x23),
    op3("stf", 0x24),
    op3("stdf", 0x27),
    wide(op3("prefetch", 0x2d)),
    wide(op3("cas", 0x3c)),
    wide(op3("casx", 0x3e)),
];

/// Branches, calls, jumps, and what else is emulated.
pub(super) const EMULATED: &[Form] = &[
    Form { name: "bicc", fixed: 2 << 22, free: 0x3e3f_ffff, on: On::Both },
    Form { name: "fbfcc", fixed: 6 << 22, free: 0x3e3f_ffff, on: On::Both },
    wide(Form { name: "bpcc %icc", fixed: 1 << 22, free: 0x3e0f_ffff, on: On::Both }),
    wide(Form { name: "bpcc %xcc", fixed: 1 << 22 | 2 << 20, free: 0x3e0f_ffff, on: On::Both }),
    wide(Form { name: "fbpfcc", fixed: 5 << 22, free: 0x3e3f_ffff, on: On::Both }),
    wide(Form { name: "brz", fixed: 3 << 22 | 1 << 25, free: 0x283f_ffff, on: On::Both }),
    wide(Form { name: "brlz", fixed: 3 << 22 | 3 << 25, free: 0x283f_ffff, on: On::Both }),
    wide(Form { name: "brlez", fixed: 3 << 22 | 2 << 25, free: 0x283f_ffff, on: On::Both }),
    Form { name: "call", fixed: 1 << 30, free: 0x3fff_ffff, on: On::Both },
    op2("jmpl", 0x38, RI & !3),
    op2("jmpl", 0x38, RI & !3),
    wide(op2("return", 0x39, RS1 | 1 << 13 | 0x1ffc)),
    wide(op2("rd %pc", 0x28, RD).fixed_to(5 << 14)),
];

/// A load's or store's address: a register, and a number where it has one.
pub(super) fn point_to(word: u32, register: u32, distance: u32) -> u32 {
    let is_atomic = matches!(word >> 19 & 0x3f, 0x3c | 0x3e);
    // cas and casx: the address space of programs (0x80) is in the place of the number; rs2 is compared.
    let operand = if is_atomic { 0x80 << 5 | 9 } else { 1 << 13 | distance & 0x1fff };
    word & !(RS1 | 0x3fff) | register << 14 | operand
}

/// Whether an instruction uses the registers of floating point.
pub(super) fn uses_floats(word: u32) -> bool {
    match (word >> 30, word >> 19 & 0x3f) {
        (2, 0x34..=0x36) => true,
        (3, op3) => (0x20..0x28).contains(&op3),
        _ => false,
    }
}
