//! Random instructions, in place and out of line.

use insn::xol::{How, OutOfLine, Slot};
use insn::{Address, Flow, Isa, disassemble, inspect};
use proptest::prelude::*;
use proptest::test_runner::TestRng;
use remote::Signal;

use super::cases::{any, encode, forms};
use super::registers::{PC, random, set_it};
use crate::execution::{self, Case, End, Family};
use crate::world::World;

const SIGBUS: Signal = Signal(10);

/// `getpid`: it has no effect.
const GETPID: u64 = 20;

struct Arm;

impl Family for Arm {
    const SHORT: usize = 4_000;
    const DATA: usize = 1024;

    /// d0 to d31.
    fn others(_: Isa, rng: &mut TestRng) -> Vec<u8> {
        let mut floats = vec![0; 32 * 8];
        rng.fill_bytes(&mut floats);
        floats
    }

    fn case(world: &World, _: u64, rng: &mut TestRng) -> Case {
        let isa = world.isa;
        let mut registers = random(isa, rng);
        let (name, bytes, memory, floats) = match rng.random_range(0..12) {
            0 if rng.random() => {
                let call =
                    if isa == Isa::Thumb { encode(isa, 0xdf00, 2) } else { encode(isa, 0xef00_0000, 4) };
                ("svc", call, false, false)
            }
            0 | 1 => ("any", harmless(isa, rng), false, false),
            _ => {
                let forms = forms(isa);
                let form = &forms[rng.random_range(0..forms.len())];
                // With r15 for a base only loads: stores there have a class of their own.
                let is_apart = |word: u32| {
                    let is_pc = form.base == Some(16) && word >> 16 & 15 == 15;
                    is_pc && (isa == Isa::Thumb || word >> 20 & 1 == 0)
                };
                let mut word = form.random(isa, rng);
                while is_apart(word) {
                    word = form.random(isa, rng);
                }
                let bytes = form.bytes(isa, word);
                let bits = if bytes.len() == 2 { 7 } else { 15 };
                let [base, index] =
                    [form.base, form.index].map(|low| low.map(|low| (word >> low & bits) as usize));
                if let Some(index) = index.filter(|index| *index != PC) {
                    registers.set(index, 4 * u64::from(rng.random_range(0..16_u32)));
                }
                if let Some(base) = base.filter(|base| *base != PC) {
                    registers.set(base, world.data() + 256 + 8 * u64::from(rng.random_range(16..48_u32)));
                }
                (form.name, bytes, base.is_some(), form.name.starts_with('v'))
            }
        };
        if inspect(isa, Address(0), &bytes).is_some_and(|insn| insn.flow == Flow::Syscall) {
            registers.set(7, GETPID);
        }
        if isa == Isa::Thumb && !name.starts_with("it") {
            // Branches end an IT block, if they may stand in one.
            let flow = inspect(isa, Address(0), &bytes).map(|insn| insn.flow);
            let is_free = matches!(flow, Some(Flow::Next | Flow::Syscall));
            match rng.random_range(0..4) {
                0 if flow != Some(Flow::Conditional) => {
                    set_it(&mut registers, rng.random_range(0..15) << 4 | 0b1000)
                }
                1 if is_free => {
                    set_it(&mut registers, rng.random_range(0..15) << 4 | rng.random_range(1..16))
                }
                _ => {}
            }
        }
        Case { name, bytes, registers, others: floats, memory }
    }

    fn is_usual(slot: &Slot) -> bool {
        slot.left.is_empty()
    }

    fn may_store_near(case: &Case) -> bool {
        case.name == "str, literal"
    }

    /// Nothing but the signal tells a misaligned list from unmapped memory: the thread gets it in place.
    fn allow(_: &Case, found: &OutOfLine, in_place: &mut End) {
        if found.how == How::Emulated && in_place.signal == SIGBUS {
            in_place.signal = Signal::SEGV;
        }
    }
}

/// Anything but a system call, what stores near itself, and the coprocessors 1 and 2: the floating point of long ago, which the
/// emulator emulates with a state that no case begins with.
fn harmless(isa: Isa, rng: &mut TestRng) -> Vec<u8> {
    loop {
        let bytes = any(isa, rng);
        let at = Address(0x1000);
        let is_call = inspect(isa, at, &bytes).is_none_or(|insn| insn.flow == Flow::Syscall);
        let text = disassemble(isa, at, &bytes)[0].2.clone();
        let stores =
            text.contains("st") && text.contains("[pc") || text.starts_with("vst") || text.contains(", pc");
        let (space, number) = if isa == Isa::Thumb { (1, 3) } else { (3, 1) };
        let is_float = bytes.len() == 4 && bytes[space] & 0xc == 0xc && matches!(bytes[number] & 15, 1 | 2);
        if !is_call && !stores && !is_float {
            return bytes;
        }
    }
}

fn compare(isa: Isa) {
    let Some((tally, wanted)) = execution::compare::<Arm>(isa) else { return };
    assert!(tally.run - tally.lent > wanted / 8 && tally.emulated > wanted / 12, "{tally:?}");
    assert!(tally.lent > wanted / 20, "{tally:?}");
    assert!(tally.faulted < wanted / 3 && tally.refused < wanted / 3, "{tally:?}");
}

#[test]
fn a32_does_out_of_line_what_it_does_in_place() {
    compare(Isa::Arm);
}

#[test]
fn t32_does_out_of_line_what_it_does_in_place() {
    compare(Isa::Thumb);
}
