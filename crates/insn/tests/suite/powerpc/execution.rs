//! Random instructions, run in place and out of line by an emulated processor.
//!
//! Each begins twice from the same registers, vectors and memory: once where it is, stepped; once as [`out_of_line`] has it, in a
//! slot up to a breakpoint behind it or on the registers. Both must end alike. `XOL_LONG=1` makes a million of each instruction
//! set. An emulator cannot show stale caches; nothing here depends on them. Left out is `scv`: the emulator leaves LR as it was.

use insn::plan::hex;
use insn::xol::{How, Slot, Then, branch, emulate, out_of_line};
use insn::{Address, Isa, disassemble};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::cases::{BRANCHES, Form, MEMORY, PREFIXED, Reach, STRAIGHT, encode, pick};
use super::registers::{NoMemory, Registers};
use super::world::{CELL, World, cell};
use crate::qemu::Emulated;

/// Cases of an ordinary run: some seconds.
const SHORT: usize = 3_000;
const LONG: usize = 1_000_000;

const PAGE: usize = 4096;
/// The data that instructions reach, and where other registers are kept: vectors, FPSCR, TAR.
const DATA: usize = 1536;
const OTHERS: u64 = 4096;
const OTHERS_LEN: usize = 1040;

/// `getpid`: it has no effect.
const GETPID: u64 = 20;

/// One instruction and what it begins with.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    registers: Registers,
    /// Whether it may use the other registers; memory.
    others: bool,
    memory: bool,
}

/// What a case has ended with.
#[derive(Debug, PartialEq, Eq)]
struct End {
    signal: u8,
    registers: Registers,
    others: Option<Vec<u8>>,
    memory: Option<Vec<u8>>,
}

/// Cases by what became of them.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    emulated: usize,
    run: usize,
    lent: usize,
    faulted: usize,
}

/// Where cases run, and what they begin with besides their registers.
struct Bench {
    world: World,
    data: Vec<u8>,
    others: Vec<u8>,
    tally: Tally,
}

impl Bench {
    fn new(isa: Isa, rng: &mut TestRng) -> Option<Self> {
        let mut world = World::new(isa)?;
        let mut data = vec![0; DATA];
        rng.fill_bytes(&mut data);
        world.emulated.write(world.data(), &data);
        let mut others = vec![0; OTHERS_LEN];
        rng.fill_bytes(&mut others);
        for number in others[..1024].as_chunks_mut::<8>().0.iter_mut().step_by(2) {
            isa.abi().order.write(rng.random_range(-1e9_f64..1e9).to_bits(), number);
        }
        // No exceptions are enabled in FPSCR. What is in the place of those of 64 bits is not looked at.
        others[1024..1032].fill(0);
        Some(Self { world, data, others, tally: Tally::default() })
    }

    /// A page of instructions in place and one of slots for them, written before any of it is run.
    fn batch(&mut self, number: usize, rng: &mut TestRng) {
        let isa = self.world.isa;
        let place = self.world.code() + (2 * number * PAGE) as u64;
        let slots = place + PAGE as u64;
        let mut pages = vec![0; 2 * PAGE];
        let mut cases = Vec::new();
        for offset in (0..PAGE).step_by(CELL) {
            let at = place + offset as u64;
            let case = self.any(at, rng);
            cell(isa, &mut pages[offset..], &case.bytes);
            if let Ok(found) = out_of_line(isa, Address(at), &case.bytes)
                && let How::Slot(slot) = found.how
            {
                cell(isa, &mut pages[PAGE + offset..], &slot.code);
            }
            cases.push(case);
        }
        self.world.emulated.write(place, &pages);
        for (index, case) in cases.iter().enumerate() {
            let offset = (index * CELL) as u64;
            self.compare(case, place + offset, slots + offset);
        }
    }

    fn compare(&mut self, case: &Case, at: u64, slot_at: u64) {
        let isa = self.world.isa;
        let Ok(found) = out_of_line(isa, Address(at), &case.bytes) else {
            self.tally.refused += 1;
            return;
        };
        let mut before = case.registers.clone();
        before.set("pc", at);
        let is_call = case.bytes == isa.abi().syscall.instruction;
        // A step over a system call is one too far; behind it is a breakpoint.
        let in_place = self.run(case, &before, if is_call { Emulated::run } else { Emulated::step });
        let displaced = match &found.how {
            How::Delayed(_) => panic!("there are no delay slots: {found:?}"),
            How::Emulated => self.emulated(case, &before, Address(at)),
            How::Slot(slot) => self.in_slot(case, &before, slot, slot_at, found.len),
        };
        let text = disassemble(isa, Address(at), &case.bytes)[0].2.clone();
        assert!(
            in_place == displaced,
            "{isa:?} {}: {} `{text}` at {at:#x}\nfrom {before:x?}\nin place {in_place:x?}\nout of line {displaced:x?}",
            case.name,
            hex(&case.bytes),
        );
    }

    fn emulated(&mut self, case: &Case, before: &Registers, at: Address) -> End {
        self.tally.emulated += 1;
        let mut registers = before.clone();
        emulate(self.world.isa, at, &case.bytes, &mut registers.bytes, &mut NoMemory).unwrap();
        End {
            signal: super::world::SIGTRAP,
            registers,
            others: case.others.then(|| self.others.clone()),
            memory: case.memory.then(|| self.data.clone()),
        }
    }

    /// As a tracer does: lends, runs, reads where it goes on, gives back, leaves.
    fn in_slot(&mut self, case: &Case, before: &Registers, slot: &Slot, slot_at: u64, len: usize) -> End {
        let (isa, at) = (self.world.isa, before.get("pc"));
        let mut moved = before.clone();
        moved.set("pc", slot_at);
        slot.lent.iter().for_each(|(register, value)| moved.put(*register, *value));
        let mut end = self.run(case, &moved, Emulated::run);
        let offset = end.registers.get("pc").wrapping_sub(slot_at);
        let has_ended = offset == slot.code.len() as u64;
        assert!(has_ended || offset == 0, "{}: stands {offset:#x} behind the slot's start", hex(&case.bytes));
        *(if has_ended { &mut self.tally.run } else { &mut self.tally.faulted }) += 1;
        self.tally.lent += usize::from(!slot.lent.is_empty());
        let to = match slot.then {
            Then::Branch(register) => isa.abi().get(&end.registers.bytes, register),
            Then::Next => at + len as u64,
        };
        for (register, _) in &slot.lent {
            end.registers.put(*register, isa.abi().get(&before.bytes, *register));
        }
        if has_ended {
            slot.left.iter().for_each(|(register, value)| end.registers.put(*register, *value));
        }
        branch(isa, &mut end.registers.bytes, if has_ended { to } else { at });
        end
    }

    /// Runs a case from `before` on.
    fn run(&mut self, case: &Case, before: &Registers, run: fn(&mut Emulated) -> u8) -> End {
        let (load, save) = self.world.load_and_save();
        if case.others {
            self.world.emulated.write(self.world.data() + OTHERS, &self.others);
            self.routine(load);
        }
        let signal = self.world.go(before, run);
        let registers = self.world.registers();
        let others = case.others.then(|| {
            self.routine(save);
            self.world.emulated.read(self.world.data() + OTHERS, OTHERS_LEN)
        });
        let memory = case.memory.then(|| self.world.emulated.read(self.world.data(), DATA));
        if memory.as_ref().is_some_and(|memory| *memory != self.data) {
            self.world.emulated.write(self.world.data(), &self.data);
        }
        End { signal, registers, others, memory }
    }

    /// Lets the program load or save its other registers.
    fn routine(&mut self, at: u64) {
        let mut registers = Registers::new(self.world.isa);
        registers.set("r31", self.world.data() + OTHERS);
        registers.set("pc", at);
        assert_eq!(self.world.go(&registers, Emulated::run), super::world::SIGTRAP);
    }

    /// An instruction of some class, at `at`.
    fn any(&self, at: u64, rng: &mut TestRng) -> Case {
        let forms = match rng.random_range(0..12) {
            0 => return self.call(rng),
            1..5 => MEMORY,
            5 => PREFIXED,
            6..9 => BRANCHES,
            _ => STRAIGHT,
        };
        let forms: Vec<_> = forms.iter().filter(|form| form.is_on(self.world.isa)).collect();
        if forms.is_empty() {
            return self.call(rng);
        }
        let form = *pick(rng, &forms);
        self.case(form, at, rng)
    }

    fn call(&self, rng: &mut TestRng) -> Case {
        let bytes = self.world.isa.abi().syscall.instruction.to_vec();
        let mut registers = Registers::random(self.world.isa, rng);
        registers.set("r0", GETPID);
        Case { name: "sc", bytes, registers, others: false, memory: false }
    }

    /// The instruction, with its memory in the middle of the data.
    fn case(&self, form: &Form, at: u64, rng: &mut TestRng) -> Case {
        let isa = self.world.isa;
        let mut words = form.words(rng);
        let mut registers = Registers::random(isa, rng);
        let middle = self.world.data() + 512 + 16 * rng.random_range(0..16_u64);
        let name = |low: u32, word: u32| format!("r{}", word >> low & 0x1f);
        let last = *words.last().unwrap();
        match form.reach {
            Reach::None => {}
            Reach::Distance(bits) => {
                let distance = i64::from((last & bits & 0xfffc) as u16 as i16);
                registers.set(&name(16, last), middle.wrapping_add_signed(-distance));
            }
            Reach::Indexed => {
                registers.set(&name(16, last), middle);
                registers.set(&name(11, last), if last >> 16 & 0x1f == 0 { middle } else { 16 });
            }
            Reach::Prefixed => {
                let is_relative = words[0] >> 20 & 1 == 1;
                let distance = if is_relative { middle.wrapping_sub(at) } else { u64::from(rng.next_u32()) };
                words[0] |= (distance >> 16 & 0x3_ffff) as u32;
                words[1] = last & !0xffff | (distance & 0xffff) as u32;
                if !is_relative {
                    registers.set(&name(16, last), middle.wrapping_sub(distance));
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
}

fn compare(isa: Isa) {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let Some(mut bench) = Bench::new(isa, &mut rng) else { return };
    let wanted = if std::env::var_os("XOL_LONG").is_some() { LONG } else { SHORT };
    for number in 0..wanted.div_ceil(PAGE / CELL) {
        bench.batch(number, &mut rng);
    }
    let tally = bench.tally;
    println!("{isa:?}: {tally:?}");
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
