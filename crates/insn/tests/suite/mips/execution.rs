//! Random instructions, in place and out of line; a branch together with what is in its delay slot.

use insn::xol::{Slot, Then, delay_slot_of};
use insn::{Address, Isa};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::cases::{BRANCHES, DSP, ELSEWHERE, Form, LIKELY, MEMORY, STRAIGHT, VECTORS, any_word, encode};
use super::registers::{extended, random};
use crate::execution::{self, Case, Family, pick};
use crate::registers::Registers;
use crate::world::World;

/// Bytes of the registers of floating point.
const FLOATS: usize = 256;

/// Major opcodes whose instructions access no memory: SPECIAL, REGIMM, J to LUI, COP0 to COP2, the likely branches, DADDIU,
/// SPECIAL2, JALX.
const NO_MEMORY: &[u32] =
    &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 25, 28, 29];

struct Mips;

impl Family for Mips {
    const SHORT: usize = 2_500;
    const DATA: usize = 1024;

    /// Those of floating point and its control register, which enables no exceptions; DSP's control.
    fn others(isa: Isa, rng: &mut TestRng) -> Vec<u8> {
        let order = isa.abi().order;
        let mut others = vec![0; FLOATS + 8];
        for number in others[..FLOATS].as_chunks_mut::<8>().0 {
            order.write(rng.random_range(-1e9_f64..1e9).to_bits(), number);
        }
        order.write(u64::from(rng.next_u32() & 0xfe80_0003), &mut others[FLOATS..FLOATS + 4]);
        order.write(u64::from(rng.next_u32() & 0x3f), &mut others[FLOATS + 4..]);
        others
    }

    fn case(world: &World, at: u64, rng: &mut TestRng) -> Case {
        let isa = world.isa;
        let mut registers = begin(world, rng);
        let (name, first) = match rng.random_range(0..16) {
            0 => {
                registers.set(2, getpid(isa));
                ("syscall", 0x0c)
            }
            1 | 2 => ("any", any(rng)),
            3..6 => form(isa, BRANCHES, rng),
            6 | 7 => form(isa, LIKELY, rng),
            8 | 9 => form(isa, ELSEWHERE, rng),
            10 if isa == Isa::Mips => (DSP.name, DSP.random(rng)),
            10 if matches!(isa, Isa::MipsLe | Isa::Mips64Le) => form(isa, VECTORS, rng),
            10..13 => form(isa, MEMORY, rng),
            _ => form(isa, STRAIGHT, rng),
        };
        // `jalr` leaves its return address in $0 to $15 here. Behind it: what is in its delay slot, if it has one.
        // None branches to its own delay slot: that looks as if that had faulted.
        let first = if first & 0xfc00_003f == 9 { first & !0x8000 } else { first };
        let first = if first & 0xffff == 0 { first | 4 } else { first };
        let (_, second) = match rng.random_range(0..4) {
            0 => ("nop", 0),
            1 => form(isa, MEMORY, rng),
            _ => form(isa, STRAIGHT, rng),
        };
        let [first, second] = [first, second].map(|word| aimed(world, word, &mut registers, rng));
        let mut bytes = encode(isa, first).to_vec();
        if delay_slot_of(isa, Address(at + 4), &bytes).is_some() {
            bytes.extend(encode(isa, second));
        }
        let others = [first, second].into_iter().any(uses_others);
        let memory = [first, second].into_iter().any(accesses_memory);
        Case { name, bytes, registers, others, memory }
    }

    /// Nothing is lent but what a branch chooses between.
    fn is_usual(slot: &Slot) -> bool {
        slot.left.is_empty() && (slot.lent.len() == 2) == (slot.then != Then::Next)
    }
}

/// Any registers but the kernel's.
fn begin(world: &World, rng: &mut TestRng) -> Registers {
    let mut registers = random(world.isa, rng);
    for name in ["status", "badvaddr", "cause"] {
        registers.set(name, world.ready.get(name));
    }
    registers
}

fn getpid(isa: Isa) -> u64 {
    if isa.abi().word == 4 { 4020 } else { 5038 }
}

fn form(isa: Isa, forms: &[Form], rng: &mut TestRng) -> (&'static str, u32) {
    let forms: Vec<_> = forms.iter().filter(|form| form.is_on(isa)).collect();
    let form = pick(rng, &forms);
    (form.name, form.random(rng))
}

/// One whose effect is known: `ctc1` would enable exceptions. The emulator takes encodings that were free before Release 6 for
/// those of BLEZ and its like.
fn any(rng: &mut TestRng) -> u32 {
    let opcode = *pick(rng, NO_MEMORY);
    let word = any_word(rng, opcode);
    let word = if [6, 7, 0x16, 0x17].contains(&opcode) { word & !0x001f_0000 } else { word };
    let is_syscall = word >> 26 == 0 && word & 0x3f == 0x0c;
    if is_syscall || word >> 21 == 0x226 { 0 } else { word }
}

/// Whether it may use registers of floating point, vectors or DSP.
fn uses_others(word: u32) -> bool {
    match word >> 26 {
        0 => word & 0x3f == 1, // movf, movt
        1 => word & DSP.fixed == DSP.fixed,
        opcode => [0x11, 0x12, 0x13, 0x1e, 0x31, 0x35, 0x39, 0x3d].contains(&opcode),
    }
}

/// Of those that cases are made of.
fn accesses_memory(word: u32) -> bool {
    word >> 26 >= 32 || [0x1a, 0x1b].contains(&(word >> 26))
}

/// A load or store with its register, one of $16 to $23, in the middle of the data: no branch leaves its return address there.
fn aimed(world: &World, word: u32, registers: &mut Registers, rng: &mut TestRng) -> u32 {
    if !accesses_memory(word) {
        return word;
    }
    let base = rng.random_range(16..24_u32);
    let middle = world.data() + 256 + 8 * rng.random_range(0..32_u64);
    registers.set(base as usize, middle.wrapping_add_signed(-extended(u64::from(word), 16)));
    word & !0x03e0_0000 | base << 21
}

fn compare(isa: Isa) {
    let Some((tally, wanted)) = execution::compare::<Mips>(isa) else { return };
    assert!(tally.run > wanted / 3 && tally.emulated > wanted / 20, "{tally:?}");
    assert!(tally.lent > wanted / 20 && tally.branched == tally.lent, "{tally:?}");
    assert!(tally.faulted < wanted / 3 && tally.refused < wanted / 6, "{tally:?}");
}

#[test]
fn mips_does_out_of_line_what_it_does_in_place() {
    compare(Isa::Mips);
}

#[test]
fn little_endian_mips_does_out_of_line_what_it_does_in_place() {
    compare(Isa::MipsLe);
}

#[test]
fn mips64_does_out_of_line_what_it_does_in_place() {
    compare(Isa::Mips64);
}

#[test]
fn little_endian_mips64_does_out_of_line_what_it_does_in_place() {
    compare(Isa::Mips64Le);
}
