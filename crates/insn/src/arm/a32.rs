//! The encodings of A32 (DDI 0487, F4.1): where r15 is read and written.
//!
//! r15 reads as the address of the instruction and 8 (E1.2.3), and what stores it stores the same (`PCStoreValue`). What writes
//! it branches with bit 0 choosing the encoding, for results (`ALUWritePC`) and loads (`LoadWritePC`) alike: ARMv7.

use crate::address::Address;
use crate::arm::analyze::{
    ALWAYS, BREAKPOINT, Condition, EXCEPTION_RETURN, HALT, Kind, LINK, MALFORMED, Multiple, PC, Register,
    UNPREDICTABLE, is_set, offset, register, signed, with_register,
};
use crate::field::field;
use crate::isa::Isa;

/// Where the numbers of registers stand.
const RN: u32 = 16;
const RD: u32 = 12;
const RS: u32 = 8;
const RM: u32 = 0;

pub(crate) fn decode(at: Address, word: u32) -> Kind {
    if field(word, 28, 4) == 0b1111 {
        return unconditional(at, word);
    }
    match field(word, 25, 3) {
        0b000 if is_set(word, 7) && is_set(word, 4) => multiply_or_extra(at, word),
        0b000 if is_miscellaneous(word) => miscellaneous(word),
        0b000 if is_set(word, 4) => shifted_by_register(word),
        0b000 => data_processing(at, word, Some(RM)),
        0b001 if is_miscellaneous(word) => immediate(word),
        0b001 => data_processing(at, word, None),
        0b011 if is_set(word, 4) => media(word),
        0b010 | 0b011 => word_or_byte(at, word),
        0b100 => multiple(word),
        0b101 => branch(at, word),
        0b110 => coprocessor_memory(at, word),
        _ if is_set(word, 24) => Kind::Syscall,
        _ => coprocessor(word),
    }
}

/// What stands in the place of a comparison that sets no flags.
fn is_miscellaneous(word: u32) -> bool {
    field(word, 23, 2) == 0b10 && !is_set(word, 20)
}

fn names_pc(word: u32, fields: &[u32]) -> bool {
    fields.iter().any(|low| register(word, *low) == PC)
}

fn plain_without_pc(word: u32, fields: &[u32]) -> Kind {
    if names_pc(word, fields) { UNPREDICTABLE } else { Kind::Plain }
}

/// The instruction with registers lent to it in the place of r15, where it reads it and where it writes it.
fn through(at: Address, word: u32, reads: &[u32], writes: Option<u32>) -> Kind {
    let writes = writes.filter(|low| register(word, *low) == PC);
    if writes.is_none() && !names_pc(word, reads) {
        return Kind::Plain;
    }
    let mut free = free(word);
    let (first, second) = (free.next().unwrap_or(0), free.next().unwrap_or(1));
    let mut code = word;
    for low in reads.iter().filter(|low| register(word, **low) == PC) {
        code = with_register(code, *low, first);
    }
    if let Some(low) = writes {
        code = with_register(code, low, second);
    }
    let reads = names_pc(word, reads).then_some((first, offset(at, 8)));
    Kind::Through { code, reads, writes: writes.map(|_| second) }
}

/// Registers that the instruction does not name in any field (nor with the first of a pair): nine are left at least.
fn free(word: u32) -> impl Iterator<Item = Register> {
    let named = [RN, RD, RS, RM].map(|low| register(word, low));
    let second = named[1] + 1;
    (0..13).filter(move |register| !named.contains(register) && *register != second)
}

fn data_processing(at: Address, word: u32, operand: Option<u32>) -> Kind {
    let opcode = field(word, 21, 4);
    let (is_move, is_comparison) = (opcode == 0b1101 || opcode == 0b1111, opcode >> 2 == 0b10);
    if !is_comparison && register(word, RD) == PC {
        if is_set(word, 20) {
            return EXCEPTION_RETURN;
        }
        // `mov pc, REGISTER`; where the field that is none is not 0 the slot shows what comes of it.
        let is_move = opcode == 0b1101 && operand.is_some() && field(word, 4, 8) == 0;
        if is_move && register(word, RN) == 0 && register(word, RM) != PC {
            return Kind::BranchRegister { register: register(word, RM), links: false };
        }
    }
    let reads: Vec<u32> = (!is_move).then_some(RN).into_iter().chain(operand).collect();
    through(at, word, &reads, (!is_comparison).then_some(RD))
}

fn shifted_by_register(word: u32) -> Kind {
    match field(word, 21, 4) {
        0b1101 | 0b1111 => plain_without_pc(word, &[RD, RS, RM]),
        opcode if opcode >> 2 == 0b10 => plain_without_pc(word, &[RN, RS, RM]),
        _ => plain_without_pc(word, &[RN, RD, RS, RM]),
    }
}

/// Miscellaneous instructions, and multiplication of halfwords.
fn miscellaneous(word: u32) -> Kind {
    if is_set(word, 7) {
        // `smulw` and `smul` add nothing.
        let adds = match field(word, 21, 2) {
            0b01 => !is_set(word, 5),
            op => op != 0b11,
        };
        return plain_without_pc(word, if adds { &[RN, RD, RS, RM] } else { &[RN, RS, RM] });
    }
    let to = register(word, RM);
    match (field(word, 4, 3), field(word, 21, 2)) {
        // `mrs`, `msr`; those of banked registers are undefined for programs.
        (0b000, op) if op & 1 == 0 => plain_without_pc(word, &[RD]),
        (0b000, _) => plain_without_pc(word, &[RM]),
        (0b001..=0b011, 0b01) if field(word, 8, 12) != 0xfff => MALFORMED,
        // `bxj` is `bx` where there is no Jazelle.
        (0b001 | 0b010, 0b01) => Kind::BranchRegister { register: to, links: false },
        (0b011, 0b01) if to == PC => UNPREDICTABLE,
        (0b011, 0b01) => Kind::BranchRegister { register: to, links: true },
        (0b001, 0b11) => plain_without_pc(word, &[RD, RM]),
        (0b100 | 0b101, _) => plain_without_pc(word, &[RN, RD, RM]),
        (0b111, 0b00) => HALT,
        (0b111, 0b01) => BREAKPOINT,
        // `hvc`, `smc`, `eret`, and what has no meaning.
        _ => Kind::Faults,
    }
}

/// `movw`, `movt`, hints, `msr`.
fn immediate(word: u32) -> Kind {
    match field(word, 20, 8) {
        0x30 | 0x34 => plain_without_pc(word, &[RD]),
        _ if word & 0x0fff_ffff == 0x0320_f000 => Kind::Nothing,
        _ => Kind::Plain,
    }
}

fn multiply_or_extra(at: Address, word: u32) -> Kind {
    if field(word, 5, 2) != 0 {
        return extra(at, word);
    }
    match field(word, 20, 5) {
        // `mul`: no fourth register.
        0b00000 | 0b00001 => plain_without_pc(word, &[RN, RS, RM]),
        0b00010..=0b01111 => plain_without_pc(word, &[RN, RD, RS, RM]),
        // `lda`, `stl` and their like have bit 9 clear, and no monitor.
        op if op & 0b11000 == 0b11000 && is_set(word, 9) => {
            if is_set(word, 20) {
                Kind::LoadExclusive
            } else {
                Kind::StoreExclusive
            }
        }
        op if op & 0b11000 == 0b11000 && is_set(word, 20) => plain_without_pc(word, &[RN, RD]),
        // `stl` and `swp`.
        _ if is_set(word, 23) => plain_without_pc(word, &[RN, RM]),
        _ => plain_without_pc(word, &[RN, RD, RM]),
    }
}

/// Loads and stores of halfwords, signed bytes and pairs.
fn extra(at: Address, word: u32) -> Kind {
    let is_register = !is_set(word, 22);
    let is_pair = !is_set(word, 20) && is_set(word, 6);
    let loses = is_pair && register(word, RD) >= LINK;
    if loses || register(word, RD) == PC || is_register && register(word, RM) == PC || changes_pc(word) {
        return UNPREDICTABLE;
    }
    through(at, word, &[RN], None)
}

/// Whether an address that is written back to would be the PC.
fn changes_pc(word: u32) -> bool {
    register(word, RN) == PC && !is_offset(word)
}

/// Neither before nor behind the access is the base changed.
fn is_offset(word: u32) -> bool {
    is_set(word, 24) && !is_set(word, 21)
}

/// `ldr`, `str`, `ldrb`, `strb`.
fn word_or_byte(at: Address, word: u32) -> Kind {
    let (is_load, is_byte) = (is_set(word, 20), is_set(word, 22));
    let is_unprivileged = !is_set(word, 24) && is_set(word, 21);
    let is_pc = register(word, RD) == PC;
    let is_bad = is_pc && (is_byte || is_load && is_unprivileged);
    if is_bad || is_set(word, 25) && register(word, RM) == PC || changes_pc(word) {
        return UNPREDICTABLE;
    }
    if is_load { through(at, word, &[RN], Some(RD)) } else { through(at, word, &[RN, RD], None) }
}

fn media(word: u32) -> Kind {
    let (op, op2) = (field(word, 20, 5), field(word, 5, 3));
    match op {
        0b00000..=0b00111 => plain_without_pc(word, &[RN, RD, RM]),
        // `pkh` and `sel`; extensions add to r15 for nothing, and the rest has a number there.
        0b01000 if op2 != 0b011 => plain_without_pc(word, &[RN, RD, RM]),
        0b01000..=0b01111 => plain_without_pc(word, &[RD, RM]),
        // `smlald`, `smmls`; the others add nothing where r15 stands.
        0b10100 => plain_without_pc(word, &[RN, RD, RS, RM]),
        0b10101 if op2 >> 1 == 0b11 => plain_without_pc(word, &[RN, RD, RS, RM]),
        0b10000..=0b11000 => plain_without_pc(word, &[RN, RS, RM]),
        0b11111 if op2 == 0b111 && word == 0xe7f0_01f0 => BREAKPOINT,
        0b11111 if op2 == 0b111 => Kind::Faults,
        // `bfi` with r15 is `bfc`.
        0b11100 | 0b11101 => plain_without_pc(word, &[RD]),
        _ => plain_without_pc(word, &[RD, RM]),
    }
}

fn multiple(word: u32) -> Kind {
    let list = (word & 0xffff) as u16;
    let (base, writes_back) = (register(word, RN), is_set(word, 21));
    if is_set(word, 22) {
        return Kind::Refused("it is for privileged modes");
    }
    // A loaded base that is written back as well is unknown.
    let is_pc = list >> PC & 1 == 1;
    let loads = is_set(word, 20);
    if base == PC || is_pc && loads && writes_back && list >> base & 1 == 1 {
        return UNPREDICTABLE;
    }
    if !is_pc {
        return Kind::Plain;
    }
    let (is_before, is_upward) = (is_set(word, 24), is_set(word, 23));
    Kind::Multiple(Multiple { loads, base, list, is_upward, is_before, writes_back })
}

fn branch(at: Address, word: u32) -> Kind {
    let to = offset(at, 8_i32.wrapping_add(signed(word, 24) << 2));
    // The condition is the instruction's, as every instruction's is.
    Kind::Branch { condition: Condition::Flags(ALWAYS), to, isa: Isa::Arm, links: is_set(word, 24) }
}

/// `ldc`, `stc`, `vldr`, `vldm` and their like; `mcrr`, `mrrc`.
fn coprocessor_memory(at: Address, word: u32) -> Kind {
    if field(word, 21, 4) == 0b0010 {
        return plain_without_pc(word, &[RN, RD]);
    }
    if register(word, RN) == PC && is_set(word, 21) {
        return UNPREDICTABLE;
    }
    through(at, word, &[RN], None)
}

/// Data processing, and transfers to and from a general register: r15 stands for the flags where they go to it.
fn coprocessor(word: u32) -> Kind {
    let is_from_register = is_set(word, 4) && !is_set(word, 20);
    if is_from_register { plain_without_pc(word, &[RD]) } else { Kind::Plain }
}

/// Those with no condition.
fn unconditional(at: Address, word: u32) -> Kind {
    match field(word, 20, 8) {
        0b1010_0000..=0b1011_1111 => {
            let by = 8_i32.wrapping_add(signed(word, 24) << 2).wrapping_add(2 * i32::from(is_set(word, 24)));
            let to = offset(at, by);
            Kind::Branch { condition: Condition::Flags(ALWAYS), to, isa: Isa::Thumb, links: true }
        }
        0b1000_0000..=0b1001_1111 => EXCEPTION_RETURN,
        // Elements and structures of Advanced SIMD.
        op if op & 0b1111_0001 == 0b0100_0000 => plain_without_pc(word, &[RN]),
        0b0101_0111 if field(word, 4, 4) == 0b0001 => Kind::ClearExclusive,
        0b0101_0111 => Kind::Plain,
        // `pld`, `pldw`, `pli`.
        op if op & 0b1100_0001 == 0b0100_0001 => {
            let is_register = is_set(word, 25);
            if is_register && register(word, RM) == PC {
                UNPREDICTABLE
            } else {
                through(at, word, &[RN], None)
            }
        }
        // Advanced SIMD and floating point have numbers of vectors there.
        0b1100_0000..=0b1101_1111 if matches!(field(word, 8, 4), 8 | 9 | 12 | 13) => Kind::Plain,
        0b1100_0000..=0b1101_1111 => coprocessor_memory(at, word),
        0b1110_0000..=0b1110_1111 if matches!(field(word, 8, 4), 8..=13) => Kind::Plain,
        0b1110_0000..=0b1110_1111 => coprocessor(word),
        0b1111_0000..=0b1111_1111 => Kind::Faults,
        _ => Kind::Plain,
    }
}

/// The address that an instruction names with an immediate distance from r15, which reads as `base`.
pub(crate) fn literal(word: u32, base: Address) -> Option<Address> {
    let sign = |distance: u32| {
        let distance = distance.cast_signed();
        if is_set(word, 23) { distance } else { distance.wrapping_neg() }
    };
    let distance = match field(word, 25, 3) {
        0b001 => {
            let rotated = field(word, 0, 8).rotate_right(2 * field(word, 8, 4));
            match field(word, 21, 4) {
                0b0100 => rotated.cast_signed(),
                0b0010 => rotated.cast_signed().wrapping_neg(),
                _ => return None,
            }
        }
        0b000 if is_set(word, 4) && is_set(word, 22) => sign(field(word, 8, 4) << 4 | field(word, 0, 4)),
        0b010 if register(word, RN) == PC => sign(field(word, 0, 12)),
        0b110 if is_set(word, 24) => sign(coprocessor_distance(word)),
        _ => return None,
    };
    Some(offset(base, distance))
}

/// Words, or halfwords where half-precision numbers are loaded (coprocessor 9).
pub(crate) fn coprocessor_distance(word: u32) -> u32 {
    field(word, 0, 8) << if field(word, 8, 4) == 0b1001 { 1 } else { 2 }
}
