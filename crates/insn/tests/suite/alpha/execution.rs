//! Random instructions, in place and out of line.

use insn::Isa;
use insn::xol::{Slot, Then};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::cases::{CLASSES, Class, base, is_floating};
use crate::execution::{self, Case, Family, pick};
use crate::registers::{Registers, value};
use crate::world::World;

/// `getxpid`: it has no effect but its results.
const GETXPID: u64 = 20;

/// `rpcc`, which counts time.
fn is_clock(word: u32) -> bool {
    word >> 26 == 0x18 && word & 0xffff == 0xc000
}

struct Alpha;

impl Family for Alpha {
    const SHORT: usize = 3_000;
    const DATA: usize = 1040;

    /// f0 to f30, the control register: rounding as usual, all traps enabled.
    fn others(_: Isa, rng: &mut TestRng) -> Vec<u8> {
        let double = |number: u64, rng: &mut TestRng| match number % 8 {
            0 => rng.random_range(-1e9_f64..1e9),
            1 => f64::from(rng.random_range(-1e9_f32..1e9)),
            2 => f64::from(rng.random_range(-100_i32..100)),
            _ => f64::from_bits(*pick(rng, &[0, 1 << 63, 1, 0x7ff0 << 48, 0x7ff8 << 48, 3, u64::MAX >> 1])),
        };
        let mut floats: Vec<u8> =
            (0..31).flat_map(|number| double(number, rng).to_bits().to_le_bytes()).collect();
        floats.extend((2_u64 << 58).to_le_bytes());
        floats
    }

    fn case(world: &World, _: u64, rng: &mut TestRng) -> Case {
        let call = u32::from_le_bytes(world.isa.abi().syscall.instruction.try_into().unwrap());
        let (name, word) = match rng.random_range(0..16) {
            0 => ("callsys", call),
            _ => {
                // Refused they need not be often.
                let class = *pick(rng, &CLASSES[..CLASSES.len() - 2]);
                let class = if rng.random_range(0..8) == 0 { Class::Any } else { class };
                (class.name(), class.random(rng))
            }
        };
        if is_clock(word) { Self::case(world, 0, rng) } else { case(world, name, word, rng) }
    }

    fn is_usual(slot: &Slot) -> bool {
        match slot.code.len() {
            4 => slot.lent.is_empty() && slot.left.is_empty() && slot.then == Then::Next,
            _ => slot.lent.len() == 2 && slot.left.is_empty() && slot.then == Then::Branch(slot.lent[0].0),
        }
    }
}

/// The instruction, with a register that it finds its memory by in the middle of the data.
fn case(world: &World, name: &'static str, word: u32, rng: &mut TestRng) -> Case {
    let mut registers = Registers::new(world.isa);
    let common = [0, 1, 2, u64::MAX, 1 << 31, (1 << 31) - 1, 1 << 63, rng.next_u64()];
    for number in 0..31_usize {
        registers.set(number, value(&common, rng, TestRng::next_u64));
    }
    registers.set("unique", rng.next_u64());
    let base = base(word);
    if let Some((register, distance)) = base {
        let middle = world.data() + 256 + 8 * rng.random_range(0..64_u64);
        registers.set(register, middle.wrapping_add_signed(-distance));
    }
    let bytes = word.to_le_bytes().to_vec();
    if bytes == world.isa.abi().syscall.instruction {
        registers.set("v0", GETXPID);
    }
    Case { name, bytes, registers, others: is_floating(word), memory: base.is_some() }
}

#[test]
fn alpha_does_out_of_line_what_it_does_in_place() {
    let Some((tally, wanted)) = execution::compare::<Alpha>(Isa::Alpha) else { return };
    assert!(tally.run > wanted / 3 && tally.emulated > wanted / 8, "{tally:?}");
    assert!(tally.branched > wanted / 16 && tally.refused < wanted / 8, "{tally:?}");
}
