//! The encodings of T32 (DDI 0487, F3.1): where r15 is read and written.
//!
//! r15 reads as the address of the instruction and 4, rounded down to a multiple of 4 where it is the base of a literal or of
//! `adr` (E1.2.3). What `mov` and `add` write there stays T32 (`ALUWritePC`), what is loaded there chooses the encoding by bit 0.

use crate::address::Address;
use crate::arm::a32::coprocessor_distance;
use crate::arm::analyze::{
    ALWAYS, BREAKPOINT, Condition, EXCEPTION_RETURN, HALT, Kind, LINK, MALFORMED, Multiple, PC, Register, SP,
    UNPREDICTABLE, is_set, offset, register, signed, with_register,
};
use crate::field::field;
use crate::isa::Isa;

/// Where the numbers of registers stand in 32 bits.
const RN: u32 = 16;
const RT: u32 = 12;
const RD: u32 = 8;
const RM: u32 = 0;

/// Bytes of an instruction, by its first halfword.
pub(crate) fn len(first: u32) -> usize {
    if first >> 11 >= 0b11101 { 4 } else { 2 }
}

/// One of the first eight.
fn low_register(half: u32, low: u32) -> Register {
    (half >> low & 0b111) as Register
}

/// What r15 reads as where it is a base.
fn aligned(at: Address) -> Address {
    Address(offset(at, 4).0 & !3)
}

fn jump(at: Address, by: i32, condition: u8) -> Kind {
    let to = offset(at, by.wrapping_add(4));
    Kind::Branch { condition: Condition::Flags(condition), to, isa: Isa::Thumb, links: false }
}

/// An instruction of 16 bits.
pub(crate) fn short(at: Address, half: u32) -> Kind {
    match half >> 10 {
        0b010001 => high_registers(half),
        0b010010 | 0b010011 => {
            let lent = if low_register(half, 8) == 0 { 1 } else { 0 };
            // `ldr Rt, [Rn]`.
            let code = 0x6800 | u32::from(lent) << 3 | field(half, 8, 3);
            let address = offset(aligned(at), (field(half, 0, 8) << 2).cast_signed());
            Kind::Through { code, reads: Some((lent, address)), writes: None }
        }
        0b101000 | 0b101001 => Kind::AddressOf {
            into: low_register(half, 8),
            address: offset(aligned(at), (field(half, 0, 8) << 2).cast_signed()),
        },
        0b101100..=0b101111 => miscellaneous(at, half),
        0b110100..=0b110111 => match register(half, 8) {
            0b1110 if half == 0xde01 => BREAKPOINT,
            0b1110 => Kind::Faults,
            0b1111 => Kind::Syscall,
            condition => jump(at, signed(half, 8) << 1, condition),
        },
        0b111000 | 0b111001 => jump(at, signed(half, 11) << 1, ALWAYS),
        _ => Kind::Plain,
    }
}

/// `add`, `cmp`, `mov` of any registers, `bx`, `blx`.
fn high_registers(half: u32) -> Kind {
    let first = u8::from(is_set(half, 7)) << 3 | low_register(half, 0);
    let second = register(half, 3);
    match field(half, 8, 2) {
        0b00 if first == PC && second == PC => UNPREDICTABLE,
        0b00 if first == PC || second == PC => Kind::Sum { into: first, of: (Some(first), second) },
        0b01 if first == PC || second == PC => UNPREDICTABLE,
        0b10 if first == PC || second == PC => Kind::Sum { into: first, of: (None, second) },
        // `bxns`, `blxns` are of the M-profile.
        0b11 if field(half, 0, 3) != 0 => MALFORMED,
        0b11 if is_set(half, 7) && second == PC => UNPREDICTABLE,
        0b11 => Kind::BranchRegister { register: second, links: is_set(half, 7) },
        _ => Kind::Plain,
    }
}

fn miscellaneous(at: Address, half: u32) -> Kind {
    match field(half, 8, 4) {
        0b0001 | 0b0011 | 0b1001 | 0b1011 => {
            let by = field(half, 9, 1) << 6 | field(half, 3, 5) << 1;
            let condition = Condition::Zero(low_register(half, 0), !is_set(half, 11));
            Kind::Branch { condition, to: offset(at, 4 + by.cast_signed()), isa: Isa::Thumb, links: false }
        }
        0b1010 if field(half, 6, 2) == 0b10 => HALT,
        0b1101 => Kind::Multiple(Multiple {
            loads: true,
            base: SP,
            list: (half & 0xff) as u16 | 1 << PC,
            is_upward: true,
            is_before: false,
            writes_back: true,
        }),
        0b1110 => BREAKPOINT,
        0b1111 if field(half, 0, 4) != 0 => Kind::If((half & 0xff) as u8),
        0b1111 if field(half, 4, 4) == 0 => Kind::Nothing,
        _ => Kind::Plain,
    }
}

/// An instruction of 32 bits.
pub(crate) fn long(at: Address, word: u32) -> Kind {
    match field(word, 25, 4) {
        0b0100 if !is_set(word, 22) => multiple(word),
        0b0100 => dual_or_exclusive(at, word),
        0b0101 => data_processing(word, true),
        0b0110 | 0b0111 | 0b1110 | 0b1111 => coprocessor(at, word),
        0b1000..=0b1011 if is_set(word, 15) => branch_or_control(at, word),
        0b1000 | 0b1010 => data_processing(word, false),
        0b1001 | 0b1011 => plain_immediate(at, word),
        0b1100 if !is_set(word, 24) => single(at, word),
        0b1100 if !is_set(word, 20) => without_pc(word, &[RN]),
        0b1100 => single(at, word),
        _ => registers(word),
    }
}

fn without_pc(word: u32, fields: &[u32]) -> Kind {
    if fields.iter().any(|low| register(word, *low) == PC) { UNPREDICTABLE } else { Kind::Plain }
}

/// Registers that the instruction does not name.
fn free(word: u32) -> impl Iterator<Item = Register> {
    let named = [RN, RT, RD, RM].map(|low| register(word, low));
    (0..13).filter(move |register| !named.contains(register))
}

/// The instruction with a lent register in its field Rn, which is r15, for a base.
fn through_base(at: Address, word: u32) -> Kind {
    let lent = free(word).next().unwrap_or(0);
    Kind::Through { code: with_register(word, RN, lent), reads: Some((lent, aligned(at))), writes: None }
}

fn multiple(word: u32) -> Kind {
    let (loads, base, writes_back) = (is_set(word, 20), register(word, RN), is_set(word, 21));
    let list = (word & 0xffff) as u16;
    let is_pc = list >> PC & 1 == 1;
    let is_upward = match field(word, 23, 2) {
        0b01 => true,
        0b10 => false,
        _ => return EXCEPTION_RETURN,
    };
    let is_lost = writes_back && list >> base & 1 == 1;
    match is_pc {
        _ if base == PC => UNPREDICTABLE,
        false => Kind::Plain,
        true if !loads || is_lost || list >> LINK & 1 == 1 => UNPREDICTABLE,
        // Of one register it is UNPREDICTABLE (LDM, T2; LDMDB, T1): undefined, or a load. Assemblers have `ldr` for it.
        true if list.count_ones() < 2 => UNPREDICTABLE,
        true => {
            let is_before = !is_upward;
            Kind::Multiple(Multiple { loads, base, list, is_upward, is_before, writes_back })
        }
    }
}

/// Pairs of words, exclusive and ordered accesses, branches by a table.
fn dual_or_exclusive(at: Address, word: u32) -> Kind {
    let base = register(word, RN);
    if is_set(word, 24) || is_set(word, 21) {
        let is_literal = base == PC && is_set(word, 24) && !is_set(word, 21) && is_set(word, 20);
        return match without_pc(word, &[RT, RD]) {
            Kind::Plain if is_literal => through_base(at, word),
            Kind::Plain if base == PC => UNPREDICTABLE,
            kind => kind,
        };
    }
    let loads = is_set(word, 20);
    let exclusive = if loads { Kind::LoadExclusive } else { Kind::StoreExclusive };
    if !is_set(word, 23) {
        return exclusive;
    }
    match field(word, 4, 4) {
        0b0000 | 0b0001 if loads && field(word, 8, 8) != 0xf0 => MALFORMED,
        0b0000 | 0b0001 if loads => match register(word, RM) {
            PC => UNPREDICTABLE,
            index => Kind::Table { base, index, is_halfwords: is_set(word, 4) },
        },
        0b0100 | 0b0101 | 0b0111 | 0b1100..=0b1111 => exclusive,
        // `lda`, `stl` and their like.
        0b1000..=0b1010 => without_pc(word, &[RN, RT]),
        _ => Kind::Faults,
    }
}

/// With a shifted register or an immediate: r15 stands for no operand (`mov`, `mvn`), or for no result (comparisons).
fn data_processing(word: u32, has_register: bool) -> Kind {
    let opcode = field(word, 21, 4);
    let has_no_operand = opcode == 0b0010 || opcode == 0b0011;
    let has_no_result = is_set(word, 20) && matches!(opcode, 0b0000 | 0b0100 | 0b1000 | 0b1101);
    let is_pc = |low: u32| register(word, low) == PC;
    let is_bad = is_pc(RN) && !has_no_operand || is_pc(RD) && !has_no_result || has_register && is_pc(RM);
    if is_bad { UNPREDICTABLE } else { Kind::Plain }
}

/// `adr`, `addw`, `subw`, `movw`, `movt`, saturation and bit fields.
fn plain_immediate(at: Address, word: u32) -> Kind {
    let into = register(word, RD);
    let distance = (field(word, 26, 1) << 11 | field(word, 12, 3) << 8 | field(word, 0, 8)).cast_signed();
    match (field(word, 20, 5), register(word, RN)) {
        _ if into == PC => UNPREDICTABLE,
        (0b00000, PC) => Kind::AddressOf { into, address: offset(aligned(at), distance) },
        (0b01010, PC) => Kind::AddressOf { into, address: offset(aligned(at), -distance) },
        // `bfi` with r15 is `bfc`; a part of the number stands in the field.
        (0b00100 | 0b01100 | 0b10110, _) => Kind::Plain,
        (_, PC) => UNPREDICTABLE,
        _ => Kind::Plain,
    }
}

fn branch_or_control(at: Address, word: u32) -> Kind {
    let sign = field(word, 26, 1);
    let (j1, j2) = (field(word, 13, 1), field(word, 11, 1));
    let far = |bits: u32| {
        let top = sign << 24 | (j1 ^ sign ^ 1) << 23 | (j2 ^ sign ^ 1) << 22;
        signed(top | field(word, 16, 10) << 12 | bits, 25)
    };
    let call = |from: Address, by: i32, isa: Isa| Kind::Branch {
        condition: Condition::Flags(ALWAYS),
        to: offset(from, by),
        isa,
        links: true,
    };
    match (is_set(word, 14), is_set(word, 12)) {
        (false, true) => jump(at, far(field(word, 0, 11) << 1), ALWAYS),
        (true, true) => call(offset(at, 4), far(field(word, 0, 11) << 1), Isa::Thumb),
        (true, false) if is_set(word, 0) => Kind::Faults,
        (true, false) => call(aligned(at), far(field(word, 1, 10) << 2), Isa::Arm),
        (false, false) if field(word, 23, 3) != 0b111 => {
            let top = sign << 20 | j2 << 19 | j1 << 18;
            let by = signed(top | field(word, 16, 6) << 12 | field(word, 0, 11) << 1, 21);
            jump(at, by, register(word, 22))
        }
        (false, false) => control(word),
    }
}

fn control(word: u32) -> Kind {
    match field(word, 20, 7) {
        0b0111000 | 0b0111001 => without_pc(word, &[RN]),
        0b0111010 if word & 0xffff == 0x8000 => Kind::Nothing,
        0b0111010 => Kind::Plain,
        0b0111011 if field(word, 4, 4) == 0b0010 => Kind::ClearExclusive,
        0b0111011 => Kind::Plain,
        0b0111100 if word & 0xffff != 0x8f00 => MALFORMED,
        // `bxj` is `bx` where there is no Jazelle.
        0b0111100 if register(word, RN) == PC => UNPREDICTABLE,
        0b0111100 => Kind::BranchRegister { register: register(word, RN), links: false },
        0b0111101 => EXCEPTION_RETURN,
        0b0111110 | 0b0111111 => without_pc(word, &[RD]),
        _ if word == 0xf7f0_a000 => BREAKPOINT,
        // `hvc`, `smc`, `udf`, and what has no meaning.
        _ => Kind::Faults,
    }
}

/// Loads and stores of one register, and memory hints, which are loads to r15.
fn single(at: Address, word: u32) -> Kind {
    let (is_load, size) = (is_set(word, 20), field(word, 21, 2));
    let (base, into) = (register(word, RN), register(word, RT));
    if size == 0b11 || !is_load && base == PC {
        return Kind::Faults;
    }
    let is_literal = base == PC;
    let has_index = !is_literal && !is_set(word, 23) && !is_set(word, 11);
    if has_index && register(word, RM) == PC || !is_load && into == PC {
        return UNPREDICTABLE;
    }
    let is_unprivileged = !is_literal && !is_set(word, 23) && field(word, 8, 4) == 0b1110;
    let branches = is_load && size == 0b10 && into == PC;
    if branches && is_unprivileged {
        return UNPREDICTABLE;
    }
    let mut free = free(word);
    let (first, second) = (free.next().unwrap_or(0), free.next().unwrap_or(1));
    let (mut code, mut reads) = (word, None);
    if is_literal {
        // The form with an immediate of 12 bits, which is 0.
        code = with_register(word & !0xfff | 1 << 23, RN, first);
        reads = literal(word, aligned(at)).map(|address| (first, address));
    }
    if branches {
        code = with_register(code, RT, second);
    }
    let writes = branches.then_some(second);
    if reads.is_none() && writes.is_none() { Kind::Plain } else { Kind::Through { code, reads, writes } }
}

/// Data processing with registers, multiplication, division.
fn registers(word: u32) -> Kind {
    match field(word, 23, 2) {
        // Extensions add to r15 for nothing.
        0b00 if is_set(word, 7) => without_pc(word, &[RD, RM]),
        0b00 | 0b01 => without_pc(word, &[RN, RD, RM]),
        // `mls` and `smmls` subtract from r15; the others then add nothing.
        0b10 if is_set(word, 4) && field(word, 20, 3) == 0b000 || field(word, 20, 3) == 0b110 => {
            without_pc(word, &[RN, RT, RD, RM])
        }
        0b10 => without_pc(word, &[RN, RD, RM]),
        // Division has ones where the low half of a long product goes.
        _ if matches!(field(word, 20, 3), 0b001 | 0b011) => without_pc(word, &[RN, RD, RM]),
        _ => without_pc(word, &[RN, RT, RD, RM]),
    }
}

/// Coprocessors, Advanced SIMD and floating point: laid out as in A32.
fn coprocessor(at: Address, word: u32) -> Kind {
    let is_vector = matches!(field(word, 8, 4), 8..=13);
    let is_from_register = is_set(word, 4) && !is_set(word, 20);
    match field(word, 24, 2) {
        0b11 => Kind::Plain,
        0b10 if is_set(word, 28) && is_vector => Kind::Plain,
        0b10 if is_from_register => without_pc(word, &[RT]),
        0b10 => Kind::Plain,
        _ if is_set(word, 28) && matches!(field(word, 8, 4), 8 | 9 | 12 | 13) => Kind::Plain,
        _ if field(word, 21, 4) == 0b0010 => without_pc(word, &[RN, RT]),
        _ if register(word, RN) != PC => Kind::Plain,
        // `ldc` and `vldr` have literals.
        _ if is_set(word, 24) && !is_set(word, 21) && is_set(word, 20) => through_base(at, word),
        _ => UNPREDICTABLE,
    }
}

/// The address of a literal; `base` is what r15 reads as, or the address itself for the short ones.
pub(crate) fn literal(word: u32, base: Address) -> Option<Address> {
    let distance = match field(word, 25, 4) {
        _ if word >> 16 == 0 => return Some(base),
        0b1100 => field(word, 0, 12),
        0b0100 => field(word, 0, 8) << 2,
        _ => coprocessor_distance(word),
    };
    let distance = distance.cast_signed();
    Some(offset(base, if is_set(word, 23) { distance } else { -distance }))
}
