//! Random instructions, in place and out of line. Left out is `scv`: the emulator leaves LR as it was.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::cases::{BRANCHES, Form, MEMORY, PREFIXED, Reach, STRAIGHT, encode};
use super::registers::random;
use crate::execution::{self, Case, Family, pick};
use crate::registers::Registers;
use crate::world::World;

/// `getpid`: it has no effect.
const GETPID: u64 = 20;

struct Power;

impl Family for Power {
    const SHORT: usize = 3_000;
    const DATA: usize = 1536;

    /// Vectors, FPSCR, TAR.
    fn others(isa: Isa, rng: &mut TestRng) -> Vec<u8> {
        let mut others = vec![0; 1040];
        rng.fill_bytes(&mut others);
        for number in others[..1024].as_chunks_mut::<8>().0.iter_mut().step_by(2) {
            isa.abi().order.write(rng.random_range(-1e9_f64..1e9).to_bits(), number);
        }
        // No exceptions are enabled in FPSCR. What is in the place of those of 64 bits is not looked at.
        others[1024..1032].fill(0);
        others
    }

    fn case(world: &World, at: u64, rng: &mut TestRng) -> Case {
        let forms = match rng.random_range(0..12) {
            0 => return call(world, rng),
            1..5 => MEMORY,
            5 => PREFIXED,
            6..9 => BRANCHES,
            _ => STRAIGHT,
        };
        let forms: Vec<_> = forms.iter().filter(|form| form.is_on(world.isa)).collect();
        if forms.is_empty() {
            return call(world, rng);
        }
        let form = *pick(rng, &forms);
        case(world, form, at, rng)
    }
}

/// Any registers but MSR: it says how the machine runs.
fn begin(world: &World, rng: &mut TestRng) -> Registers {
    let mut registers = random(world.isa, rng);
    registers.set("msr", world.ready.get("msr"));
    registers
}

fn call(world: &World, rng: &mut TestRng) -> Case {
    let bytes = world.isa.abi().syscall.instruction.to_vec();
    let mut registers = begin(world, rng);
    registers.set("r0", GETPID);
    Case { name: "sc", bytes, registers, others: false, memory: false }
}

/// The instruction, with its memory in the middle of the data.
fn case(world: &World, form: &Form, at: u64, rng: &mut TestRng) -> Case {
    let isa = world.isa;
    let mut words = form.words(rng);
    let mut registers = begin(world, rng);
    let middle = world.data() + 512 + 16 * rng.random_range(0..16_u64);
    let last = *words.last().unwrap();
    let register = |low: u32| (last >> low & 0x1f) as usize;
    match form.reach {
        Reach::None => {}
        Reach::Distance(bits) => {
            let distance = i64::from((last & bits & 0xfffc) as u16 as i16);
            registers.set(register(16), middle.wrapping_add_signed(-distance));
        }
        Reach::Indexed => {
            registers.set(register(16), middle);
            registers.set(register(11), if last >> 16 & 0x1f == 0 { middle } else { 16 });
        }
        Reach::Prefixed => {
            let is_relative = words[0] >> 20 & 1 == 1;
            let distance = if is_relative { middle.wrapping_sub(at) } else { u64::from(rng.next_u32()) };
            words[0] |= (distance >> 16 & 0x3_ffff) as u32;
            words[1] = last & !0xffff | (distance & 0xffff) as u32;
            if !is_relative {
                registers.set(register(16), middle.wrapping_sub(distance));
            }
        }
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| encode(isa, *word)).collect();
    let plain = [2, 3, 7, 8, 10, 11, 12, 13, 14, 15, 16, 18, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30];
    let integers = [32, 33, 34, 35, 36, 37, 38, 40, 42, 43, 44, 46, 47, 58];
    let opcode = last >> 26;
    let others = words.len() == 2 || !plain.contains(&opcode) && !integers.contains(&opcode);
    Case { name: form.name, bytes, registers, others, memory: form.reach != Reach::None }
}

fn compare(isa: Isa) {
    let Some((tally, wanted)) = execution::compare::<Power>(isa) else { return };
    assert!(tally.run > wanted / 3 && tally.emulated > wanted / 8, "{tally:?}");
    assert!(tally.faulted < wanted / 4 && tally.refused < wanted / 8, "{tally:?}");
    assert!(isa == Isa::PowerPc || tally.lent > wanted / 20, "{tally:?}");
}

#[test]
fn power_of_32_bits_does_out_of_line_what_it_does_in_place() {
    compare(Isa::PowerPc);
}

#[test]
fn power_of_64_bits_does_out_of_line_what_it_does_in_place() {
    compare(Isa::PowerPc64);
}

#[test]
fn little_endian_power_does_out_of_line_what_it_does_in_place() {
    compare(Isa::PowerPc64Le);
}
