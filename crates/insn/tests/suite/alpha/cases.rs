//! Random instructions of each class.

use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::execution::pick;

/// Function codes of an opcode (appendix C).
type Functions = (u32, &'static [u32]);

/// Integer operations.
const INTEGER: &[Functions] = &[
    (0x10, &[0x00, 0x02, 0x09, 0x0b, 0x0f, 0x12, 0x1b, 0x1d, 0x20, 0x22, 0x29, 0x2b, 0x2d, 0x32, 0x3b, 0x3d]),
    (0x10, &[0x40, 0x49, 0x4d, 0x60, 0x69, 0x6d]),
    (0x11, &[0x00, 0x08, 0x14, 0x16, 0x20, 0x24, 0x26, 0x28, 0x40, 0x44, 0x46, 0x48, 0x61, 0x64, 0x66, 0x6c]),
    (0x12, &[0x02, 0x06, 0x0b, 0x12, 0x16, 0x1b, 0x22, 0x26, 0x2b, 0x30, 0x31, 0x32, 0x34, 0x36, 0x39, 0x3b]),
    (0x12, &[0x3c, 0x52, 0x57, 0x5a, 0x62, 0x67, 0x6a, 0x72, 0x77, 0x7a]),
    (0x13, &[0x00, 0x20, 0x30, 0x40, 0x60]),
];

/// Of 1C, which have no first operand, and those of multimedia, which have.
const COUNTS: &[u32] = &[0x00, 0x01, 0x30, 0x32, 0x33];
const MULTIMEDIA: &[u32] = &[0x31, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f];

/// Floating-point operations.
const FLOATING: &[Functions] = &[
    (
        0x15,
        &[0x080, 0x081, 0x082, 0x083, 0x0a0, 0x0a1, 0x0a2, 0x0a5, 0x0a6, 0x0ac, 0x0bc, 0x0be, 0x480, 0x5a0],
    ),
    (
        0x16,
        &[0x080, 0x081, 0x082, 0x083, 0x0a0, 0x0a1, 0x0a2, 0x0a3, 0x0a4, 0x0a5, 0x0a6, 0x0a7, 0x0ac, 0x0af],
    ),
    (
        0x16,
        &[0x0bc, 0x0be, 0x000, 0x040, 0x0c0, 0x020, 0x060, 0x0e0, 0x180, 0x1a0, 0x1a3, 0x1ac, 0x1af, 0x2ac],
    ),
    (
        0x16,
        &[0x580, 0x5a0, 0x5a2, 0x5a3, 0x5a4, 0x5a5, 0x5a6, 0x5a7, 0x5ac, 0x5af, 0x6ac, 0x780, 0x7a3, 0x7bc],
    ),
    (0x17, &[0x010, 0x020, 0x021, 0x022, 0x02a, 0x02b, 0x02c, 0x02d, 0x02e, 0x02f, 0x030, 0x130, 0x530]),
];

/// Square roots, and moves between the two sets of registers.
const ROOTS: &[u32] = &[0x08a, 0x08b, 0x0aa, 0x0ab, 0x58b, 0x5ab];
const TO_FLOATING: &[u32] = &[0x004, 0x014, 0x024];
const TO_INTEGER: &[u32] = &[0x70, 0x78];

/// Loads and stores, and LDA and LDAH.
const MEMORY: &[u32] = &[
    0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2c,
    0x2d,
];
const ADDRESSES: &[u32] = &[0x08, 0x09];
/// TRAPB, EXCB, MB, WMB, FETCH, FETCH_M, ECB, WH64.
const MISCELLANEOUS: &[u32] = &[0x0000, 0x0400, 0x4000, 0x4400, 0x8000, 0xa000, 0xe800, 0xf800];
/// `bugchk`, `imb`, `rdunique`, `wrunique`, `gentrap`.
const PALCODE: &[u32] = &[0x81, 0x86, 0x9e, 0x9f, 0xaa];
/// LDx_L, STx_C.
const LOCKED: &[u32] = &[0x2a, 0x2b, 0x2e, 0x2f];

/// Kinds of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Integer,
    Floating,
    Memory,
    Miscellaneous,
    Branch,
    FloatingBranch,
    Jump,
    Palcode,
    Locked,
    /// Any word with any opcode.
    Any,
}

pub(super) const CLASSES: [Class; 10] = [
    Class::Integer,
    Class::Floating,
    Class::Memory,
    Class::Miscellaneous,
    Class::Branch,
    Class::FloatingBranch,
    Class::Jump,
    Class::Palcode,
    Class::Locked,
    Class::Any,
];

const RA: u32 = 31 << 21;
const RB: u32 = 31 << 16;
const LITERAL: u32 = 1 << 12;

impl Class {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Floating => "floating point",
            Self::Memory => "memory",
            Self::Miscellaneous => "miscellaneous",
            Self::Branch => "branch",
            Self::FloatingBranch => "floating-point branch",
            Self::Jump => "jump",
            Self::Palcode => "PALcode",
            Self::Locked => "locked",
            Self::Any => "any",
        }
    }

    /// An instruction of it, with any operands.
    pub(super) fn random(self, rng: &mut TestRng) -> u32 {
        let any = rng.next_u32();
        match self {
            Self::Integer => integer(any, rng),
            Self::Floating => floating(any, rng),
            Self::Memory => {
                opcode(*pick(rng, if any.is_multiple_of(8) { ADDRESSES } else { MEMORY })) | any >> 6
            }
            Self::Miscellaneous => opcode(0x18) | any & (RA | RB) | pick(rng, MISCELLANEOUS),
            Self::Branch => {
                opcode(*pick(rng, &[0x30, 0x34, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f])) | any >> 6
            }
            Self::FloatingBranch => opcode(*pick(rng, &[0x31, 0x32, 0x33, 0x35, 0x36, 0x37])) | any >> 6,
            Self::Jump => opcode(0x1a) | any >> 6,
            Self::Palcode => *pick(rng, PALCODE),
            Self::Locked => opcode(*pick(rng, LOCKED)) | any >> 6,
            Self::Any => any,
        }
    }
}

fn opcode(number: u32) -> u32 {
    number << 26
}

/// Register operands, or a literal.
fn operands(any: u32) -> u32 {
    let free = if any & LITERAL == 0 { RA | RB | 31 } else { RA | 0x1f_e000 | LITERAL | 31 };
    any & free
}

fn integer(any: u32, rng: &mut TestRng) -> u32 {
    match rng.random_range(0..8) {
        0 => opcode(0x1c) | pick(rng, COUNTS) << 5 | operands(any) | RA,
        1 => opcode(0x1c) | pick(rng, MULTIMEDIA) << 5 | operands(any),
        _ => {
            let (number, functions) = pick(rng, INTEGER);
            opcode(*number) | pick(rng, functions) << 5 | operands(any)
        }
    }
}

fn floating(any: u32, rng: &mut TestRng) -> u32 {
    let registers = any & (RA | RB | 31);
    match rng.random_range(0..8) {
        0 => opcode(0x14) | pick(rng, ROOTS) << 5 | registers | RA,
        1 => opcode(0x14) | pick(rng, TO_FLOATING) << 5 | registers | RB,
        2 => opcode(0x1c) | pick(rng, TO_INTEGER) << 5 | registers | RB,
        _ => {
            let (number, functions) = pick(rng, FLOATING);
            opcode(*number) | pick(rng, functions) << 5 | registers
        }
    }
}

/// Whether it may use floating-point registers.
pub(super) fn is_floating(word: u32) -> bool {
    matches!(word >> 26, 0x14..=0x17 | 0x1c | 0x20..=0x27 | 0x31..=0x33 | 0x35..=0x37)
}

/// The register by which the instruction finds its memory, and the distance from it.
pub(super) fn base(word: u32) -> Option<(usize, i64)> {
    let is_memory = matches!(word >> 26, 0x0a..=0x0f | 0x20..=0x2f);
    is_memory.then_some(((word >> 16 & 31) as usize, i64::from((word << 16).cast_signed() >> 16)))
}
