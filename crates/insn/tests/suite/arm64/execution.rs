//! Random instructions, in place and out of line.

use insn::plan::hex;
use insn::xol::{How, OutOfLine, Then, out_of_line};
use insn::{Address, Isa};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use remote::client::Action;

use super::cases::{
    AUTHENTICATED, BRANCHES, Form, LITERAL, MEMORY, STRAIGHT, VECTOR, any_word, is_authenticated,
    uses_memory, uses_vectors,
};
use super::registers::{BTYPE, PSTATE, random};
use crate::execution::{self, Bench, Case, End, Family, pick};
use crate::world::{PAGE, World};

const SVC: u32 = 0xd400_0001;
/// `getpid`: it has no effect.
const GETPID: u64 = 172;

struct Arm64;

impl Family for Arm64 {
    const SHORT: usize = 4_000;
    const DATA: usize = PAGE;

    /// v0 to v31, FPCR, FPSR.
    fn others(_: Isa, rng: &mut TestRng) -> Vec<u8> {
        let mut vectors = vec![0; 32 * 16 + 8];
        for quad in vectors[..32 * 16].chunks_mut(8) {
            // Numbers of both precisions, and any bits.
            let (single, double) = (rng.random_range(-1e9_f32..1e9), rng.random_range(-1e9_f64..1e9));
            let bits = [u64::from(single.to_bits()), double.to_bits(), rng.next_u64()];
            quad.copy_from_slice(&pick(rng, &bits).to_le_bytes());
        }
        vectors
    }

    fn case(world: &World, _: u64, rng: &mut TestRng) -> Case {
        let (name, word) = match rng.random_range(0..20) {
            0 => ("svc", SVC),
            1 => {
                let space = *pick(rng, &[0b1000, 0b1001, 0b0101, 0b1101, 0b0111, 0b1111]);
                ("any", any_word(rng, space))
            }
            2..=5 => form(BRANCHES, rng),
            6 => form(AUTHENTICATED, rng),
            7 | 8 => {
                let (name, word) = form(LITERAL, rng);
                // Near, or anywhere.
                (name, if rng.random_range(0..4) == 0 { word } else { word & !0x00ff_f800 })
            }
            9..=12 => form(MEMORY, rng),
            13 | 14 => form(VECTOR, rng),
            _ => form(STRAIGHT, rng),
        };
        case(world, name, word, rng)
    }

    /// What a branch that authenticates leaves for the landing pad is not carried over.
    fn allow(case: &Case, _: &OutOfLine, in_place: &mut End) {
        if is_authenticated(u32::from_le_bytes(case.bytes[..4].try_into().unwrap())) {
            in_place.registers.set(PSTATE, in_place.registers.get(PSTATE) & !BTYPE);
        }
    }
}

/// The instruction, with a register that it finds its memory by in the middle of the data.
fn case(world: &World, name: &'static str, word: u32, rng: &mut TestRng) -> Case {
    let mut registers = random(rng);
    let any = u64::from(rng.next_u32());
    registers.set(PSTATE, registers.get(PSTATE) | any & BTYPE);
    if uses_memory(word) {
        let (base, index) = (word >> 5 & 0x1f, word >> 16 & 0x1f);
        registers.set(index as usize, rng.random_range(0..64));
        let middle = world.data() + PAGE as u64 / 2 + 16 * rng.random_range(0..16_u64);
        registers.set(base as usize, middle + if rng.random_range(0..4) == 0 { any & 0xf } else { 0 });
    }
    if word == SVC {
        registers.set(8, GETPID);
    }
    let (others, memory) = (uses_vectors(word), uses_memory(word));
    Case { name, bytes: word.to_le_bytes().to_vec(), registers, others, memory }
}

fn form(forms: &[Form], rng: &mut TestRng) -> (&'static str, u32) {
    let form = pick(rng, forms);
    (form.name, form.random(rng))
}

#[test]
fn instructions_do_out_of_line_what_they_do_in_place() {
    let Some((tally, wanted)) = execution::compare::<Arm64>(Isa::Arm64) else { return };
    assert!(tally.run - tally.branched > wanted / 3 && tally.emulated > wanted / 8, "{tally:?}");
    assert!(tally.branched > wanted / 100, "{tally:?}");
    assert!(tally.faulted < wanted / 3 && tally.refused < wanted / 20, "{tally:?}");
}

/// Branches whose targets are signed as they should be, and go there.
#[test]
fn authenticated_branches_go_where_they_do_in_place() {
    const CASES: usize = 200;
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let Some(mut bench) = Bench::new::<Arm64>(Isa::Arm64, &mut rng) else { return };
    let (signing, cell) = (bench.world.code(), bench.world.machine.cell);
    let (place, slots) = (signing + PAGE as u64, signing + 2 * PAGE as u64);
    let mut pages = vec![0; 3 * PAGE];
    let mut cases = Vec::new();
    for index in 0..CASES {
        let word = loop {
            let word = form(AUTHENTICATED, &mut rng).1;
            if out_of_line(Isa::Arm64, Address(place), &word.to_le_bytes()).is_ok() {
                break word;
            }
        };
        let found =
            out_of_line(Isa::Arm64, Address(place + (index * cell) as u64), &word.to_le_bytes()).unwrap();
        let How::Slot(slot) = found.how else { panic!("{found:?}") };
        let authenticates = u32::from_le_bytes(slot.code.clone().try_into().unwrap());
        // `autia` with this bit clear is `pacia`.
        bench.world.fill_cell(&mut pages[index * cell..], &(authenticates & !0x1000).to_le_bytes());
        bench.world.fill_cell(&mut pages[PAGE + index * cell..], &word.to_le_bytes());
        bench.world.fill_cell(&mut pages[2 * PAGE + index * cell..], &slot.code);
        cases.push((word, slot));
    }
    bench.world.emulated.write(signing, &pages);
    for (index, (word, slot)) in cases.iter().enumerate() {
        let offset = (index * cell) as u64;
        let Then::Branch(register) = slot.then else { panic!("{slot:?}") };
        let mut case = case(&bench.world, "authenticated", *word, &mut rng);
        let target = 0x1234_5678_9000 + 4 * offset;
        case.registers.set(register, target);
        case.registers.set_pc(signing + offset);
        let signed = bench.in_place(&case, &case.registers, Action::Continue);
        case.registers.set(register, signed.registers.get(register));
        case.registers.set_pc(place + offset);
        let in_place = bench.in_place(&case, &case.registers, Action::Step);
        // Where it is its own modifier, it has lost that by being signed.
        if register.0 / 8 != (*word & 0x1f) as usize {
            assert_eq!(in_place.registers.pc(), target, "{}", hex(&word.to_le_bytes()));
        }
        bench.compare::<Arm64>(&case, place + offset, slots + offset);
    }
    assert_eq!(bench.tally.branched, CASES, "{:?}", bench.tally);
}
