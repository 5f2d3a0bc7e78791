//! Random instructions, in place and out of line.

use insn::Isa;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::cases::{BRANCHES, Form, MEMORY, Reach, STRAIGHT};
use super::registers::random;
use crate::execution::{self, Case, Family, pick};
use crate::registers::Registers;
use crate::world::World;

/// `getpid`: it has no effect.
const GETPID: u8 = 20;

struct S390x;

impl Family for S390x {
    const SHORT: usize = 4_000;
    const DATA: usize = 1536;

    /// Vectors, access registers, FPC.
    fn others(_: Isa, rng: &mut TestRng) -> Vec<u8> {
        let mut others = vec![0; 580];
        rng.fill_bytes(&mut others);
        for number in others[..512].as_chunks_mut::<8>().0.iter_mut().step_by(2) {
            *number = rng.random_range(-1e9_f64..1e9).to_be_bytes();
        }
        // No exceptions are enabled.
        others[576..].fill(0);
        others
    }

    fn case(world: &World, at: u64, rng: &mut TestRng) -> Case {
        let forms = match rng.random_range(0..12) {
            0 => return call(world, rng),
            1..5 => MEMORY,
            5..9 => BRANCHES,
            _ => STRAIGHT,
        };
        case(world, pick(rng, forms), at, rng)
    }
}

fn begin(world: &World, rng: &mut TestRng) -> Registers {
    random(world.ready.get("pswm"), rng)
}

/// With the number in r1, or in itself.
fn call(world: &World, rng: &mut TestRng) -> Case {
    let mut registers = begin(world, rng);
    registers.set("r1", u64::from(GETPID));
    let number = if rng.random() { GETPID } else { 0 };
    Case { name: "svc", bytes: vec![0x0a, number], registers, others: false, memory: false }
}

/// The instruction, with its memory in the middle of the data.
fn case(world: &World, form: &Form, at: u64, rng: &mut TestRng) -> Case {
    let mut bytes = form.bytes(rng);
    let mut registers = begin(world, rng);
    let mut middle = || world.data() + 512 + 2 * rng.random_range(0..128_u64);
    let nibble = |index: usize| usize::from(bytes[index / 2] >> (4 * (1 - index % 2)) & 0xf);
    let displacement = |from: usize| u64::from(u16::from_be_bytes([bytes[from], bytes[from + 1]]) & 0xfff);
    let mut set = |register: usize, value: u64| registers.set(2 + register, value);
    match form.reach {
        Reach::None => {}
        // Whatever is aligned to 16 has to be.
        Reach::Near { index } => {
            if index {
                set(nibble(3), 0);
            }
            set(nibble(4), (middle() & !15).wrapping_sub(displacement(2)));
        }
        Reach::Far { index } => {
            if index {
                set(nibble(3), 0);
            }
            let distance = displacement(2).wrapping_add_signed(i64::from(bytes[4].cast_signed()) << 12);
            set(nibble(4), (middle() & !15).wrapping_sub(distance));
        }
        // Where both are one, it is the first's: that may be stored to.
        Reach::Two => {
            set(nibble(8), middle().wrapping_sub(displacement(4)));
            set(nibble(4), middle().wrapping_sub(displacement(2)));
        }
        Reach::Relative => {
            let to = middle() & if at & 0x10 == 0 { !1 } else { !7 };
            let distance = to.wrapping_sub(at).cast_signed() / 2;
            bytes[2..6].copy_from_slice(&i32::try_from(distance).unwrap().to_be_bytes());
        }
    }
    let uses_memory = form.reach != Reach::None;
    Case { name: form.name, bytes, registers, others: true, memory: uses_memory }
}

#[test]
fn s390x_out_of_line_does_what_it_does_in_place() {
    let Some((tally, wanted)) = execution::compare::<S390x>(Isa::S390x) else { return };
    assert!(tally.run > wanted / 3 && tally.emulated > wanted / 5, "{tally:?}");
    assert!(tally.lent > wanted / 50 && tally.refused < wanted / 10, "{tally:?}");
}
