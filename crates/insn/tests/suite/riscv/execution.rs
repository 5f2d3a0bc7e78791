//! Random instructions, run in place and out of line by an emulated processor.
//!
//! Each begins twice from the same registers, floating-point registers and memory: once where it is, stepped; once as
//! [`out_of_line`] has it, in a slot up to a breakpoint behind it or on the registers. Both must end alike. `XOL_LONG=1` makes
//! a million of each instruction set. An emulator cannot show stale caches; nothing here depends on them.

use insn::plan::hex;
use insn::xol::{How, Then, emulate, out_of_line};
use insn::{Address, Isa, disassemble};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::cases::{BRANCHES, Form, MEMORY, STRAIGHT, any_word, base, compressed, encode, opcodes, pick};
use super::registers::{NoMemory, Registers};
use super::world::{CELL, SIGTRAP, World, cell};
use crate::qemu::Emulated;

/// Cases of an ordinary run: some seconds.
const SHORT: usize = 3_000;
const LONG: usize = 1_000_000;

const PAGE: usize = 4096;
/// The data that instructions reach, and where the floating-point registers are kept.
const DATA: usize = 1040;
const FLOATS: u64 = 2048;
const FLOATS_LEN: usize = 32 * 8 + 4;

/// `getpid`: it has no effect.
const GETPID: u64 = 172;

/// One instruction and what it begins with.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    registers: Registers,
    /// Whether it may use floating-point registers; memory.
    floats: bool,
    memory: bool,
}

/// What a case has ended with.
#[derive(Debug, PartialEq, Eq)]
struct End {
    signal: u8,
    registers: Registers,
    floats: Option<Vec<u8>>,
    memory: Option<Vec<u8>>,
}

/// Cases by what became of them.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    emulated: usize,
    run: usize,
    faulted: usize,
}

/// Where cases run, and what they begin with besides their registers.
struct Bench {
    world: World,
    data: Vec<u8>,
    floats: Vec<u8>,
    tally: Tally,
}

impl Bench {
    fn new(isa: Isa, rng: &mut TestRng) -> Option<Self> {
        let mut world = World::new(isa)?;
        let mut data = vec![0; DATA];
        rng.fill_bytes(&mut data);
        world.emulated.write(world.data(), &data);
        let mut floats = Vec::new();
        for number in 0..32 {
            // As often as not a single-precision number in its box of ones (12.2).
            let (single, double) = (rng.random_range(-1e9_f32..1e9), rng.random_range(-1e9_f64..1e9));
            let boxed = u64::from(single.to_bits()) | !0 << 32;
            floats.extend((if number % 2 == 0 { boxed } else { double.to_bits() }).to_le_bytes());
        }
        floats.extend([0; FLOATS_LEN - 32 * 8]);
        Some(Self { world, data, floats, tally: Tally::default() })
    }

    /// A page of instructions in place and one of slots for them, written before any of it is run.
    fn batch(&mut self, number: usize, cases: &[Case]) {
        let isa = self.world.isa;
        let place = self.world.code() + (2 * number * PAGE) as u64;
        let slots = place + PAGE as u64;
        let mut pages = vec![0; 2 * PAGE];
        for (index, case) in cases.iter().enumerate() {
            cell(isa, &mut pages[index * CELL..], &case.bytes);
            let at = Address(place + (index * CELL) as u64);
            if let Ok(found) = out_of_line(isa, at, &case.bytes)
                && let How::Slot(slot) = found.how
            {
                assert!(slot.lent.is_empty() && slot.left.is_empty() && slot.then == Then::Next);
                cell(isa, &mut pages[PAGE + index * CELL..], &slot.code);
            }
        }
        self.world.emulated.write(place, &pages);
        for (index, case) in cases.iter().enumerate() {
            let offset = (index * CELL) as u64;
            self.compare(case, place + offset, slots + offset);
        }
    }

    fn compare(&mut self, case: &Case, at: u64, slot: u64) {
        let isa = self.world.isa;
        let Ok(found) = out_of_line(isa, Address(at), &case.bytes) else {
            self.tally.refused += 1;
            return;
        };
        let mut before = case.registers.clone();
        before.set_pc(at);
        let is_call = case.bytes == isa.abi().syscall.instruction;
        // A step over a system call is one too far; behind it is a breakpoint.
        let in_place = self.run(case, &before, if is_call { Emulated::run } else { Emulated::step });
        let displaced = match found.how {
            How::Delayed(_) => panic!("there are no delay slots: {found:?}"),
            How::Emulated => {
                self.tally.emulated += 1;
                self.emulated(case, &before, Address(at))
            }
            How::Slot(_) => {
                let mut moved = before.clone();
                moved.set_pc(slot);
                let mut end = self.run(case, &moved, Emulated::run);
                let has_ended = end.signal == SIGTRAP;
                *(if has_ended { &mut self.tally.run } else { &mut self.tally.faulted }) += 1;
                let offset = if has_ended { found.len as u64 } else { 0 };
                assert_eq!(end.registers.pc(), slot + offset, "{}, by {}", hex(&case.bytes), end.signal);
                end.registers.set_pc(at + offset);
                end
            }
        };
        let text = disassemble(isa, Address(at), &case.bytes)[0].2.clone();
        assert!(
            in_place == displaced,
            "{isa:?} {}: {} `{text}` at {at:#x}\nfrom {before:x?}\nin place {in_place:x?}\nout of line {displaced:x?}",
            case.name,
            hex(&case.bytes),
        );
    }

    fn emulated(&self, case: &Case, before: &Registers, at: Address) -> End {
        let mut registers = before.clone();
        emulate(self.world.isa, at, &case.bytes, &mut registers.bytes, &mut NoMemory).unwrap();
        End {
            signal: SIGTRAP,
            registers,
            floats: case.floats.then(|| self.floats.clone()),
            memory: case.memory.then(|| self.data.clone()),
        }
    }

    /// Runs a case from `before` on.
    fn run(&mut self, case: &Case, before: &Registers, run: fn(&mut Emulated) -> u8) -> End {
        let (load, save) = self.world.load_and_save();
        if case.floats {
            self.world.emulated.write(self.world.data() + FLOATS, &self.floats);
            self.routine(load);
        }
        let signal = self.world.go(before, run);
        let registers = self.world.registers();
        let floats = case.floats.then(|| {
            self.routine(save);
            self.world.emulated.read(self.world.data() + FLOATS, FLOATS_LEN)
        });
        let memory = case.memory.then(|| self.world.emulated.read(self.world.data(), DATA));
        if memory.as_ref().is_some_and(|memory| *memory != self.data) {
            self.world.emulated.write(self.world.data(), &self.data);
        }
        End { signal, registers, floats, memory }
    }

    /// Lets the program load or save its floating-point registers.
    fn routine(&mut self, at: u64) {
        let mut registers = Registers::new(self.world.isa);
        registers.set(31, self.world.data() + FLOATS);
        registers.set_pc(at);
        assert_eq!(self.world.go(&registers, Emulated::run), SIGTRAP);
    }

    /// The instruction, with a register that it finds its memory by in the middle of the data.
    fn case(&self, name: &'static str, bytes: Vec<u8>, rng: &mut TestRng) -> Case {
        let mut registers = Registers::random(self.world.isa, rng);
        let base = base(&bytes);
        if let Some((register, distance)) = base {
            // Those of 16 bits only reach upwards.
            let lowest = if bytes.len() == 4 { 256 } else { 0 };
            let middle = self.world.data() + lowest + 8 * rng.random_range(0..64_u64);
            registers.set(register, middle.wrapping_add_signed(-distance));
        }
        if bytes == self.world.isa.abi().syscall.instruction {
            registers.set(17, GETPID);
        }
        let floats = matches!(bytes[0] & 0x7f, 0x07 | 0x27 | 0x43 | 0x47 | 0x4b | 0x4f | 0x53 | 0x73);
        let floats = floats || bytes.len() == 2 && base.is_some();
        Case { name, bytes, registers, floats, memory: base.is_some() }
    }

    /// An instruction of some class.
    fn any(&self, rng: &mut TestRng, compressed: &[u32]) -> Case {
        let (name, bytes) = match rng.random_range(0..10) {
            0 => ("ecall", self.world.isa.abi().syscall.instruction.to_vec()),
            1..4 => ("of 16 bits", encode(*pick(rng, compressed))),
            4 => {
                // CSR instructions only as forms: some read counters.
                let known: Vec<u32> = opcodes().filter(|opcode| *opcode != 0b11100).collect();
                let opcode = *pick(rng, &known);
                ("any", encode(any_word(rng, opcode)))
            }
            5 | 6 => self.form(BRANCHES, rng),
            7 => self.form(MEMORY, rng),
            _ => self.form(STRAIGHT, rng),
        };
        self.case(name, bytes, rng)
    }

    fn form(&self, forms: &[Form], rng: &mut TestRng) -> (&'static str, Vec<u8>) {
        let forms: Vec<_> = forms.iter().filter(|form| form.is_on(self.world.isa)).collect();
        let form = pick(rng, &forms);
        (form.name, form.random(rng))
    }
}

fn compare(isa: Isa) {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let Some(mut bench) = Bench::new(isa, &mut rng) else { return };
    let compressed: Vec<u32> = compressed().collect();
    let wanted = if std::env::var_os("XOL_LONG").is_some() { LONG } else { SHORT };
    let per_batch = PAGE / CELL;
    for number in 0..wanted.div_ceil(per_batch) {
        let cases: Vec<_> = (0..per_batch).map(|_| bench.any(&mut rng, &compressed)).collect();
        bench.batch(number, &cases);
    }
    let tally = bench.tally;
    println!("{isa:?}: {tally:?}");
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
