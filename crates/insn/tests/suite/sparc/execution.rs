//! Random instructions, in place and out of line; a branch together with what is in its delay slot.

use insn::xol::{Slot, Then, delay_slot_of};
use insn::{Address, Isa};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::cases::{EMULATED, Form, MEMORY, STRAIGHT, WINDOWS, point_to, uses_floats};
use super::registers::random;
use crate::execution::{self, Case, Family, pick};
use crate::registers::Registers;
use crate::world::World;

/// `getpid`: it has no effect.
const GETPID: u64 = 20;

/// Global registers by which memory is found: they are the same in every window.
const BASES: std::ops::Range<u32> = 2..5;

struct Sparc;

impl Family for Sparc {
    const SHORT: usize = 3_000;
    const DATA: usize = 1024;

    /// %f0 to %f31; of 64 bits to %f62.
    fn others(isa: Isa, rng: &mut TestRng) -> Vec<u8> {
        let mut floats = Vec::new();
        for number in 0..if isa == Isa::Sparc { 16 } else { 32 } {
            if number % 2 == 0 {
                floats.extend((0..2).flat_map(|_| rng.random_range(-1e9_f32..1e9).to_be_bytes()));
            } else {
                floats.extend(rng.random_range(-1e9_f64..1e9).to_be_bytes());
            }
        }
        floats
    }

    fn case(world: &World, at: u64, rng: &mut TestRng) -> Case {
        let isa = world.isa;
        let mut registers = begin(world, rng);
        let (name, first) = match rng.random_range(0..12) {
            0 => {
                registers.set("g1", GETPID);
                let call = isa.abi().syscall.instruction;
                ("ta", u32::from_be_bytes(*call.first_chunk().unwrap()))
            }
            1..6 => jump(isa, &mut registers, rng),
            6 => form(isa, WINDOWS, rng),
            7..9 => form(isa, MEMORY, rng),
            _ => form(isa, STRAIGHT, rng),
        };
        let mut words = vec![first];
        if delay_slot_of(isa, Address(at + 4), &first.to_be_bytes()).is_some() {
            let choices = match rng.random_range(0..6) {
                0 | 1 => MEMORY,
                // Only three windows are there to go back to.
                2 if name != "return" => WINDOWS,
                _ => STRAIGHT,
            };
            words.push(form(isa, choices, rng).1);
        }
        let is_memory = |word: &u32| word >> 30 == 3;
        let memory = words.iter().any(is_memory);
        for word in words.iter_mut().filter(|word| is_memory(word)) {
            let base = rng.random_range(BASES);
            // Multiples of 4: a jump may go there.
            let distance = 4 * rng.random_range(-64..64_i32);
            let middle = world.data() + 256 + 16 * rng.random_range(0..32_u64);
            // Some at addresses where nothing is.
            let middle = if rng.random_range(0..8) == 0 { 0x10 } else { middle };
            registers.set(base as usize, middle.wrapping_add_signed(-i64::from(distance)));
            *word = point_to(*word, base, distance.cast_unsigned());
            if matches!(*word >> 19 & 0x3f, 0x3c | 0x3e) {
                registers.set(base as usize, middle);
            }
        }
        let others = words.iter().any(|word| uses_floats(*word));
        let bytes = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        Case { name, bytes, registers, others, memory }
    }

    fn is_usual(slot: &Slot) -> bool {
        slot.lent.is_empty() && slot.then == Then::Next
    }
}

/// Any registers; of the state only the condition codes are others.
fn begin(world: &World, rng: &mut TestRng) -> Registers {
    let mut registers = random(world.isa, rng);
    let flags = world.isa.abi().flags.unwrap();
    registers.set(flags, world.ready.get(flags) & !conditions(world.isa) | registers.get(flags));
    // In place and out of line the program's stack is where windows would go.
    for name in ["sp", "fp"] {
        registers.set(name, world.ready.get(name));
    }
    registers
}

fn conditions(isa: Isa) -> u64 {
    if isa == Isa::Sparc { 0xf << 20 } else { 0xff << 32 }
}

fn form(isa: Isa, forms: &[Form], rng: &mut TestRng) -> (&'static str, u32) {
    let forms: Vec<_> = forms.iter().filter(|form| form.is_on(isa)).collect();
    let form = pick(rng, &forms);
    (form.name, form.random(rng))
}

/// A branch, or what is emulated otherwise. Where it goes to a sum that is a multiple of 4, and its link is none of the registers
/// by which memory is found.
fn jump(isa: Isa, registers: &mut Registers, rng: &mut TestRng) -> (&'static str, u32) {
    let (name, word) = form(isa, EMULATED, rng);
    if !matches!(name, "jmpl" | "return") {
        return (
            name,
            if BASES.contains(&(word >> 25 & 0x1f)) && name == "rd %pc" { word ^ 8 << 25 } else { word },
        );
    }
    let word = if word >> 13 & 1 == 1 { word } else { word & !0x1fe0 };
    let mut operands = vec![word >> 14 & 0x1f];
    operands.extend((word >> 13 & 1 == 0).then_some(word & 0x1f));
    for operand in operands {
        registers.set(operand as usize, registers.get(operand as usize) & !3);
    }
    let is_base = BASES.contains(&(word >> 25 & 0x1f));
    (name, if is_base { word ^ 8 << 25 } else { word })
}

fn compare(isa: Isa) {
    let Some((tally, wanted)) = execution::compare::<Sparc>(isa) else { return };
    assert!(tally.run > wanted / 2 && tally.emulated > wanted / 50, "{tally:?}");
    assert!(tally.faulted > wanted / 50 && tally.faulted < wanted / 6, "{tally:?}");
    assert!(tally.refused < wanted / 100, "{tally:?}");
}

#[test]
fn sparc_of_32_bits_does_out_of_line_what_it_does_in_place() {
    compare(Isa::Sparc);
}

#[test]
fn sparc_of_64_bits_does_out_of_line_what_it_does_in_place() {
    compare(Isa::Sparc64);
}
