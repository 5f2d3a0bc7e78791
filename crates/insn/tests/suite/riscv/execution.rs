//! Random instructions, run in place and out of line by an emulated processor.
//!
//! Each begins twice from the same registers, floating-point registers and memory: once where it is, stepped; once as
//! [`out_of_line`] has it, in a slot up to a breakpoint behind it or on the registers. Both must end alike. `XOL_LONG=1` makes
//! a million of each instruction set. An emulator cannot show stale caches; nothing here depends on them.

use std::path::{Path, PathBuf};
use std::process::Command;

use insn::plan::hex;
use insn::xol::{How, Then, emulate, out_of_line};
use insn::{Address, Isa, disassemble};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::cases::{BRANCHES, Form, MEMORY, STRAIGHT, any_word, base, compressed, encode, opcodes, pick};
use super::registers::{NoMemory, Registers};
use crate::qemu::Emulated;

/// Cases of an ordinary run: some seconds.
const SHORT: usize = 3_000;
const LONG: usize = 1_000_000;

const PAGE: usize = 4096;
/// Room for an instruction and the breakpoint behind it.
const CELL: usize = 8;
/// The data that instructions reach, and where the floating-point registers are kept.
const DATA: usize = 1040;
const FLOATS: usize = 2048;
const FLOATS_LEN: usize = 32 * 8 + 4;

/// `getpid`: it has no effect.
const GETPID: u64 = 172;

const SIGTRAP: u8 = 5;

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

struct World {
    isa: Isa,
    emulated: Emulated,
    code: u64,
    data: u64,
    load: u64,
    save: u64,
    /// How many cases ended, and how.
    tally: Tally,
    /// What the data is before each case.
    pattern: Vec<u8>,
    floats: Vec<u8>,
}

fn build(isa: Isa, directory: &Path) -> Option<PathBuf> {
    let program = directory.join("world");
    let flags = match isa {
        Isa::RiscV32 => ["-march=rv32gc", "-mabi=ilp32", "-Wl,-melf32lriscv"],
        _ => ["-march=rv64gc", "-mabi=lp64", "-Wl,-melf64lriscv"],
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/riscv/world.S");
    let mut gcc = Command::new("riscv64-linux-gnu-gcc");
    gcc.args(flags).args(["-nostdlib", "-static", "-no-pie", "-o"]).arg(&program).arg(source);
    match gcc.output() {
        Ok(run) if run.status.success() => Some(program),
        Ok(run) => panic!("{}", String::from_utf8_lossy(&run.stderr)),
        Err(error) => {
            println!("skipped: no riscv64-linux-gnu-gcc (Debian: gcc-riscv64-linux-gnu): {error}");
            None
        }
    }
}

impl World {
    fn new(isa: Isa, program: &Path, rng: &mut TestRng) -> Option<Self> {
        let qemu = if isa == Isa::RiscV32 { "qemu-riscv32" } else { "qemu-riscv64" };
        let mut emulated = Emulated::start(qemu, program)?;
        assert_eq!(emulated.run(), SIGTRAP);
        let ready = from_stub(isa, &emulated.registers());
        let [code, data, load, save] = [8, 9, 18, 19].map(|number| ready.get(number));
        let mut pattern = vec![0; DATA];
        rng.fill_bytes(&mut pattern);
        let mut floats = vec![0; FLOATS_LEN];
        for number in 0..32 {
            // As often as not a single-precision number in its box of ones (12.2).
            let (single, double) = (rng.random_range(-1e9_f32..1e9), rng.random_range(-1e9_f64..1e9));
            let value =
                if number % 2 == 0 { u64::from(single.to_bits()) | !0 << 32 } else { double.to_bits() };
            floats[8 * number..8 * number + 8].copy_from_slice(&value.to_le_bytes());
        }
        emulated.write(data, &pattern);
        Some(Self { isa, emulated, code, data, load, save, tally: Tally::default(), pattern, floats })
    }

    /// A page of instructions in place and one of slots for them, written before any of it is run.
    fn batch(&mut self, number: usize, cases: &[Case]) {
        let place = self.code + (2 * number * PAGE) as u64;
        let slots = place + PAGE as u64;
        let mut pages = vec![0; 2 * PAGE];
        for (index, case) in cases.iter().enumerate() {
            cell(self.isa, &mut pages[index * CELL..], &case.bytes);
            let at = Address(place + (index * CELL) as u64);
            if let Ok(found) = out_of_line(self.isa, at, &case.bytes)
                && let How::Slot(slot) = found.how
            {
                assert!(slot.lent.is_empty() && slot.left.is_empty() && slot.then == Then::Next);
                cell(self.isa, &mut pages[PAGE + index * CELL..], &slot.code);
            }
        }
        self.emulated.write(place, &pages);
        for (index, case) in cases.iter().enumerate() {
            let offset = (index * CELL) as u64;
            self.compare(case, place + offset, slots + offset);
        }
    }

    fn compare(&mut self, case: &Case, at: u64, slot: u64) {
        let Ok(found) = out_of_line(self.isa, Address(at), &case.bytes) else {
            self.tally.refused += 1;
            return;
        };
        let mut before = case.registers.clone();
        before.set_pc(at);
        let is_call = case.bytes == self.isa.abi().syscall.instruction;
        // Behind a system call is a breakpoint.
        let in_place =
            self.from(case, &before, |emulated| if is_call { emulated.run() } else { emulated.step() });
        let displaced = match found.how {
            How::Emulated => {
                let mut registers = before.clone();
                let mut memory = NoMemory;
                emulate(self.isa, Address(at), &case.bytes, &mut registers.bytes, &mut memory).unwrap();
                let floats = case.floats.then(|| self.floats.clone());
                let memory = case.memory.then(|| self.pattern.clone());
                End { signal: SIGTRAP, registers, floats, memory }
            }
            How::Slot(_) => {
                let mut moved = before.clone();
                moved.set_pc(slot);
                let mut end = self.from(case, &moved, Emulated::run);
                let behind = slot + found.len as u64;
                let expected = if end.signal == SIGTRAP { behind } else { slot };
                assert_eq!(
                    end.registers.pc(),
                    expected,
                    "{} in its slot, signal {}",
                    hex(&case.bytes),
                    end.signal
                );
                end.registers.set_pc(expected - slot + at);
                end
            }
        };
        match found.how {
            How::Emulated => self.tally.emulated += 1,
            How::Slot(_) if in_place.signal == SIGTRAP => self.tally.run += 1,
            How::Slot(_) => self.tally.faulted += 1,
        }
        let text = disassemble(self.isa, Address(at), &case.bytes)[0].2.clone();
        assert!(
            in_place == displaced,
            "{:?} {}: {} `{text}` at {at:#x}\nfrom {before:x?}\nin place {in_place:x?}\nout of line {displaced:x?}",
            self.isa,
            case.name,
            hex(&case.bytes),
        );
    }

    /// Runs a case from `before` on.
    fn from(&mut self, case: &Case, before: &Registers, run: impl Fn(&mut Emulated) -> u8) -> End {
        if case.floats {
            self.emulated.write(self.data + FLOATS as u64, &self.floats);
            self.routine(self.load);
        }
        self.emulated.set_registers(&to_stub(before));
        let signal = run(&mut self.emulated);
        let registers = from_stub(self.isa, &self.emulated.registers());
        let floats = case.floats.then(|| {
            self.routine(self.save);
            self.emulated.read(self.data + FLOATS as u64, FLOATS_LEN)
        });
        let memory = case.memory.then(|| self.emulated.read(self.data, DATA));
        if memory.as_ref().is_some_and(|memory| *memory != self.pattern) {
            self.emulated.write(self.data, &self.pattern);
        }
        End { signal, registers, floats, memory }
    }

    /// Lets the program load or save its floating-point registers.
    fn routine(&mut self, at: u64) {
        let mut registers = Registers::new(self.isa);
        registers.set(31, self.data + FLOATS as u64);
        registers.set_pc(at);
        self.emulated.set_registers(&to_stub(&registers));
        assert_eq!(self.emulated.run(), SIGTRAP);
    }

    /// The instruction, with a register that it finds its memory by in the middle of the data.
    fn case(&self, name: &'static str, bytes: Vec<u8>, rng: &mut TestRng) -> Case {
        let mut registers = Registers::random(self.isa, rng);
        let base = base(&bytes);
        if let Some((register, distance)) = base {
            let middle = self.data + 8 * rng.random_range(0..64_u64) + if bytes.len() == 4 { 256 } else { 0 };
            registers.set(register, middle.wrapping_add_signed(-distance));
        }
        if bytes == self.isa.abi().syscall.instruction {
            registers.set(17, GETPID);
        }
        let floats = matches!(bytes[0] & 0x7f, 0x07 | 0x27 | 0x43 | 0x47 | 0x4b | 0x4f | 0x53 | 0x73);
        let floats = floats || bytes.len() == 2 && base.is_some();
        Case { name, bytes, registers, floats, memory: base.is_some() }
    }

    /// An instruction of some class.
    fn any(&self, rng: &mut TestRng, compressed: &[u32]) -> Case {
        let (name, bytes) = match rng.random_range(0..10) {
            0 => ("ecall", self.isa.abi().syscall.instruction.to_vec()),
            1..4 => ("of 16 bits", encode(*pick(rng, compressed))),
            4 => {
                // CSR instructions only as forms: some read counters.
                let known: Vec<u32> = opcodes().filter(|opcode| *opcode != 0b11100).collect();
                ("any", {
                    let opcode = *pick(rng, &known);
                    encode(any_word(rng, opcode))
                })
            }
            5 | 6 => self.form(BRANCHES, rng),
            7 => self.form(MEMORY, rng),
            _ => self.form(STRAIGHT, rng),
        };
        self.case(name, bytes, rng)
    }

    fn form(&self, forms: &[Form], rng: &mut TestRng) -> (&'static str, Vec<u8>) {
        let forms: Vec<_> = forms.iter().filter(|form| form.is_on(self.isa)).collect();
        let form = pick(rng, &forms);
        (form.name, form.random(rng))
    }
}

/// An instruction and a breakpoint.
fn cell(isa: Isa, into: &mut [u8], code: &[u8]) {
    let breakpoint = isa.abi().breakpoint;
    into[..code.len()].copy_from_slice(code);
    into[code.len()..code.len() + breakpoint.len()].copy_from_slice(breakpoint);
}

/// The stub has x0 to x31 and then the PC (gdb-xml/riscv-64bit-cpu.xml).
fn from_stub(isa: Isa, stub: &[u8]) -> Registers {
    let word = isa.abi().word;
    assert_eq!(stub.len(), 33 * word);
    let mut registers = Registers::new(isa);
    registers.bytes[word..].copy_from_slice(&stub[word..32 * word]);
    registers.bytes[..word].copy_from_slice(&stub[32 * word..]);
    registers
}

fn to_stub(registers: &Registers) -> Vec<u8> {
    let word = registers.isa.abi().word;
    let (pc, rest) = registers.bytes.split_at(word);
    [&vec![0; word], rest, pc].concat()
}

fn compare(isa: Isa) {
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = build(isa, directory.path()) else { return };
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let compressed: Vec<u32> = compressed().collect();
    let wanted = if std::env::var_os("XOL_LONG").is_some() { LONG } else { SHORT };
    let Some(mut world) = World::new(isa, &program, &mut rng) else { return };
    let per_batch = PAGE / CELL;
    for number in 0..wanted.div_ceil(per_batch) {
        let cases: Vec<_> = (0..per_batch).map(|_| world.any(&mut rng, &compressed)).collect();
        world.batch(number, &cases);
    }
    println!("{isa:?}: {:?}", world.tally);
    assert!(world.tally.run > wanted / 3 && world.tally.emulated > wanted / 8, "{:?}", world.tally);
    assert!(world.tally.faulted < wanted / 3 && world.tally.refused < wanted / 8, "{:?}", world.tally);
}

#[test]
fn rv64_does_out_of_line_what_it_does_in_place() {
    compare(Isa::RiscV64);
}

#[test]
fn rv32_does_out_of_line_what_it_does_in_place() {
    compare(Isa::RiscV32);
}
