//! Random instructions, in place and out of line.

use insn::Isa;
use insn::xol::{Slot, Then};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::cases::{Base, DELAYED, EMULATED, straight, uses_floats};
use super::registers::random;
use crate::execution::{self, Case, Family, pick};
use crate::registers::Registers;
use crate::world::World;

/// `getpid`: it has no effect.
const GETPID: u64 = 20;

struct Sh;

impl Family for Sh {
    const SHORT: usize = 4_000;
    const DATA: usize = 1536;

    /// fr0 to fr15 of both banks, fpul, fpscr.
    fn others(_: Isa, rng: &mut TestRng) -> Vec<u8> {
        let mut others: Vec<u8> =
            (0..32).flat_map(|_| rng.random_range(-1e9_f32..1e9).to_le_bytes()).collect();
        others.extend(rng.next_u32().to_le_bytes());
        let status: u32 = 0x0004_0001; // denormal numbers are 0, and it rounds towards it: as programs begin
        others.extend(status.to_le_bytes());
        others
    }

    fn case(world: &World, _: u64, rng: &mut TestRng) -> Case {
        let mut registers = random(rng);
        let mut words = Vec::new();
        let mut name = "trapa";
        match rng.random_range(0..10) {
            0 => {
                words.push(0xc310 + rng.random_range(0..8_u16));
                registers.set("r3", GETPID);
            }
            1 | 2 => {
                let form = pick(rng, EMULATED);
                (name, words) = (form.name, vec![form.random(rng)]);
            }
            3..6 => {
                let form = pick(rng, DELAYED);
                (name, words) = (form.name, vec![form.random(rng)]);
            }
            _ => {}
        }
        let mut memory = false;
        if words.is_empty() || DELAYED.iter().any(|form| form.name == name) {
            let (form, word) = straight(rng);
            if words.is_empty() {
                name = form.name;
            }
            words.push(word);
            memory = form.base != Base::None;
            point_to_data(world, form.base, word, &mut registers, rng);
        }
        let others = words.iter().any(|word| uses_floats(*word));
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Case { name, bytes, registers, others, memory }
    }

    fn is_usual(slot: &Slot) -> bool {
        slot.lent.is_empty() && slot.left.is_empty() && slot.then == Then::Next
    }
}

/// Has an instruction find its memory in the middle of the data.
fn point_to_data(world: &World, base: Base, word: u16, registers: &mut Registers, rng: &mut TestRng) {
    let (n, m) = (usize::from(word >> 8 & 0xf), usize::from(word >> 4 & 0xf));
    let middle = world.data() + 256 + 8 * rng.random_range(0..32_u64);
    let index = 4 * rng.random_range(0..32_u64);
    let mut indexed = |register: usize| match register {
        0 => registers.set(0_usize, middle / 2),
        _ => {
            registers.set(0_usize, index);
            registers.set(register, middle - index);
        }
    };
    match base {
        Base::None => {}
        Base::N => registers.set(n, middle),
        Base::M => registers.set(m, middle),
        Base::Both => {
            registers.set(n, middle);
            registers.set(m, middle + 64);
        }
        Base::IndexedN => indexed(n),
        Base::IndexedM => indexed(m),
        Base::Gbr => registers.set("gbr", middle),
        Base::IndexedGbr => {
            registers.set(0_usize, index);
            registers.set("gbr", middle - index);
        }
    }
}

#[test]
fn sh_does_out_of_line_what_it_does_in_place() {
    let Some((tally, wanted)) = execution::compare::<Sh>(Isa::Sh) else { return };
    assert!(tally.run > wanted / 2 && tally.emulated > wanted / 8, "{tally:?}");
    assert!(tally.faulted < wanted / 100 && tally.refused < wanted / 100, "{tally:?}");
}
