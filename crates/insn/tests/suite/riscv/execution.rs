//! Random instructions, in place and out of line.

use insn::Isa;
use insn::xol::{Slot, Then};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::cases::{BRANCHES, Form, MEMORY, STRAIGHT, any_half, any_word, base, encode, opcodes};
use super::registers::random;
use crate::execution::{self, Case, Family, pick};
use crate::world::World;

/// `getpid`: it has no effect.
const GETPID: u64 = 172;

struct RiscV;

impl Family for RiscV {
    const SHORT: usize = 3_000;
    const DATA: usize = 1040;

    /// f0 to f31, fcsr.
    fn others(_: Isa, rng: &mut TestRng) -> Vec<u8> {
        let mut floats = Vec::new();
        for number in 0..32 {
            // As often as not a single-precision number in its box of ones (12.2).
            let (single, double) = (rng.random_range(-1e9_f32..1e9), rng.random_range(-1e9_f64..1e9));
            let boxed = u64::from(single.to_bits()) | !0 << 32;
            floats.extend((if number % 2 == 0 { boxed } else { double.to_bits() }).to_le_bytes());
        }
        floats.extend([0; 4]);
        floats
    }

    fn case(world: &World, _: u64, rng: &mut TestRng) -> Case {
        let isa = world.isa;
        let (name, bytes) = match rng.random_range(0..10) {
            0 => ("ecall", isa.abi().syscall.instruction.to_vec()),
            1..4 => ("of 16 bits", encode(any_half(rng))),
            4 => {
                // CSR instructions only as forms: some read counters.
                let known: Vec<u32> = opcodes().filter(|opcode| *opcode != 0b11100).collect();
                let opcode = *pick(rng, &known);
                ("any", encode(any_word(rng, opcode)))
            }
            5 | 6 => form(isa, BRANCHES, rng),
            7 => form(isa, MEMORY, rng),
            _ => form(isa, STRAIGHT, rng),
        };
        case(world, name, bytes, rng)
    }

    fn is_usual(slot: &Slot) -> bool {
        slot.lent.is_empty() && slot.left.is_empty() && slot.then == Then::Next
    }
}

/// The instruction, with a register that it finds its memory by in the middle of the data.
fn case(world: &World, name: &'static str, bytes: Vec<u8>, rng: &mut TestRng) -> Case {
    let mut registers = random(world.isa, rng);
    let base = base(&bytes);
    if let Some((register, distance)) = base {
        // Those of 16 bits only reach upwards.
        let lowest = if bytes.len() == 4 { 256 } else { 0 };
        let middle = world.data() + lowest + 8 * rng.random_range(0..64_u64);
        registers.set(register, middle.wrapping_add_signed(-distance));
    }
    if bytes == world.isa.abi().syscall.instruction {
        registers.set(17, GETPID);
    }
    let floats = matches!(bytes[0] & 0x7f, 0x07 | 0x27 | 0x43 | 0x47 | 0x4b | 0x4f | 0x53 | 0x73);
    let floats = floats || bytes.len() == 2 && base.is_some();
    Case { name, bytes, registers, others: floats, memory: base.is_some() }
}

fn form(isa: Isa, forms: &[Form], rng: &mut TestRng) -> (&'static str, Vec<u8>) {
    let forms: Vec<_> = forms.iter().filter(|form| form.is_on(isa)).collect();
    let form = pick(rng, &forms);
    (form.name, form.random(rng))
}

fn compare(isa: Isa) {
    let Some((tally, wanted)) = execution::compare::<RiscV>(isa) else { return };
    assert!(tally.run > wanted / 3 && tally.emulated > wanted / 8, "{tally:?}");
    assert!(tally.faulted < wanted / 3 && tally.refused < wanted / 8, "{tally:?}");
}

#[test]
fn rv64_does_out_of_line_what_it_does_in_place() {
    compare(Isa::RiscV64);
}

#[test]
fn rv32_does_out_of_line_what_it_does_in_place() {
    compare(Isa::RiscV32);
}
