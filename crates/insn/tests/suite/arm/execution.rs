//! Random instructions, run in place and out of line by an emulated processor.
//!
//! Each begins twice from the same registers, floating-point registers and memory: once where it is, stepped; once as
//! [`out_of_line`] has it, in a slot up to a breakpoint behind it or on the registers. Both must end alike. `XOL_LONG=1` makes
//! a million of each encoding. An emulator cannot show stale caches; nothing here depends on them.

use insn::plan::hex;
use insn::xol::{Fault, How, Slot, Then, branch, emulate, out_of_line};
use insn::{Address, Flow, Isa, disassemble, inspect};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::cases::{any, encode, forms};
use super::registers::{PC, Registers};
use super::world::{CELL, DATA, SIGTRAP, World, cell};
use crate::qemu::Emulated;

/// Cases of an ordinary run: some seconds.
const SHORT: usize = 4_000;
const LONG: usize = 1_000_000;

const PAGE: usize = 4096;
const SIGBUS: u8 = 10;
const SIGSEGV: u8 = 11;
/// Where the floating-point registers are kept.
const FLOATS: u32 = 2048;
const FLOATS_LEN: usize = 32 * 8;

/// `getpid`: it has no effect.
const GETPID: u32 = 20;

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
    /// What it may have stored behind itself.
    cell: Option<Vec<u8>>,
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

struct Bench {
    isa: Isa,
    world: World,
    data: Vec<u8>,
    floats: Vec<u8>,
    tally: Tally,
}

impl Bench {
    fn new(isa: Isa, rng: &mut TestRng) -> Option<Self> {
        let mut world = World::new()?;
        let (mut data, mut floats) = (vec![0; DATA], vec![0; FLOATS_LEN]);
        rng.fill_bytes(&mut data);
        rng.fill_bytes(&mut floats);
        world.emulated.write(u64::from(world.data()), &data);
        Some(Self { isa, world, data, floats, tally: Tally::default() })
    }

    /// A page of instructions in place and one of slots for them, written before any of it is run.
    fn batch(&mut self, number: usize, cases: &[Case]) {
        let place = self.world.code() + (2 * number * PAGE) as u32;
        let slots = place + PAGE as u32;
        let mut pages = vec![0; 2 * PAGE];
        let odd = if self.isa == Isa::Thumb { 2 } else { 0 };
        for (index, case) in cases.iter().enumerate() {
            // Every other one of T32 lies at no multiple of 4.
            let offset = index * CELL + index % 2 * odd;
            cell(self.isa, &mut pages[offset..], &case.bytes);
            if let Ok(found) = out_of_line(self.isa, Address(u64::from(place) + offset as u64), &case.bytes)
                && let How::Slot(slot) = found.how
            {
                cell(self.isa, &mut pages[PAGE + index * CELL..], &slot.code);
            }
        }
        self.world.emulated.write(u64::from(place), &pages);
        for (index, case) in cases.iter().enumerate() {
            let offset = (index * CELL + index % 2 * odd) as u32;
            self.compare(case, place + offset, slots + (index * CELL) as u32);
        }
    }

    fn compare(&mut self, case: &Case, at: u32, slot: u32) {
        let isa = self.isa;
        let Ok(found) = out_of_line(isa, Address(u64::from(at)), &case.bytes) else {
            self.tally.refused += 1;
            return;
        };
        let text = disassemble(isa, Address(u64::from(at)), &case.bytes)[0].2.clone();
        let mut before = case.registers.clone();
        before.set(PC, at);
        let is_lent = matches!(&found.how, How::Slot(slot) if !slot.lent.is_empty());
        let kept = is_lent.then(|| self.world.emulated.read(u64::from(at), CELL - 2));
        // A step over a system call is one too far; behind it is a breakpoint.
        let is_call = inspect(isa, Address(0), &case.bytes).is_some_and(|insn| insn.flow == Flow::Syscall);
        let mut in_place = self.run(case, &before, if is_call { Emulated::run } else { Emulated::step });
        if found.how == How::Emulated && in_place.signal == SIGBUS {
            in_place.signal = SIGSEGV;
        }
        in_place.cell = is_lent.then(|| self.world.emulated.read(u64::from(at), CELL - 2));
        if in_place.cell != kept {
            assert!(case.name == "str, literal", "{} stores into code", case.name);
        }
        let mut displaced = match &found.how {
            How::Delayed(_) => panic!("there are no delay slots: {found:?}"),
            How::Emulated => {
                self.tally.emulated += 1;
                self.emulated(case, &before, Address(u64::from(at)))
            }
            How::Slot(code) => self.displaced(case, &before, at, slot, found.len, code),
        };
        displaced.cell = is_lent.then(|| self.world.emulated.read(u64::from(at), CELL - 2));
        assert!(
            in_place == displaced,
            "{isa:?} {}: {} `{text}` at {at:#x}\nfrom {}\nin place {}\nout of line {}\n{found:?}",
            case.name,
            hex(&case.bytes),
            shown(&before),
            shown_end(&in_place),
            shown_end(&displaced),
        );
    }

    /// As a tracer does it.
    fn displaced(
        &mut self,
        case: &Case,
        before: &Registers,
        at: u32,
        slot: u32,
        len: usize,
        code: &Slot,
    ) -> End {
        let abi = self.isa.abi();
        let mut moved = before.clone();
        moved.set(PC, slot);
        for (register, value) in &code.lent {
            abi.set(&mut moved.0, *register, *value);
        }
        let mut end = self.run(case, &moved, Emulated::run);
        let has_ended = end.signal == SIGTRAP;
        let count = match has_ended {
            false => &mut self.tally.faulted,
            true if code.lent.is_empty() => &mut self.tally.run,
            true => &mut self.tally.lent,
        };
        *count += 1;
        let offset = if has_ended { code.code.len() as u32 } else { 0 };
        assert_eq!(end.registers.get(PC), slot + offset, "{}, by {}", hex(&case.bytes), end.signal);
        let to = match code.then {
            Then::Branch(register) if has_ended => Some(abi.get(&end.registers.0, register)),
            _ => None,
        };
        for (register, _) in &code.lent {
            abi.set(&mut end.registers.0, *register, abi.get(&before.0, *register));
        }
        assert!(code.left.is_empty());
        match to {
            Some(to) => branch(self.isa, &mut end.registers.0, to),
            None => end.registers.set(PC, at + if has_ended { len as u32 } else { 0 }),
        }
        end
    }

    fn emulated(&mut self, case: &Case, before: &Registers, at: Address) -> End {
        let mut registers = before.clone();
        let done = emulate(self.isa, at, &case.bytes, &mut registers.0, &mut self.world);
        let signal = match done {
            Ok(()) => SIGTRAP,
            Err(Fault::Memory(_)) => SIGSEGV,
            Err(Fault::NotEmulated) => panic!("{}: {}", case.name, hex(&case.bytes)),
        };
        let memory = self.memory(case);
        // Nothing but the signal tells a misaligned list from unmapped memory: the thread gets it in place.
        End { signal, registers, floats: case.floats.then(|| self.floats.clone()), memory, cell: None }
    }

    /// Runs a case from `before` on.
    fn run(&mut self, case: &Case, before: &Registers, run: fn(&mut Emulated) -> u8) -> End {
        let (load, save) = self.world.load_and_save();
        let floats = u64::from(self.world.data() + FLOATS);
        if case.floats {
            self.world.emulated.write(floats, &self.floats);
            self.routine(load);
        }
        let signal = self.world.go(before, run);
        let registers = self.world.registers();
        let floats = case.floats.then(|| {
            self.routine(save);
            self.world.emulated.read(floats, FLOATS_LEN)
        });
        End { signal, registers, floats, memory: self.memory(case), cell: None }
    }

    /// What is in the data, which is then as it was.
    fn memory(&mut self, case: &Case) -> Option<Vec<u8>> {
        let at = u64::from(self.world.data());
        let memory = case.memory.then(|| self.world.emulated.read(at, DATA))?;
        if memory != self.data {
            self.world.emulated.write(at, &self.data);
        }
        Some(memory)
    }

    /// Lets the program load or save its floating-point registers.
    fn routine(&mut self, at: u32) {
        let mut registers = self.world.ready.clone();
        registers.set(0, self.world.data() + FLOATS);
        registers.set(PC, at);
        assert_eq!(self.world.go(&registers, Emulated::run), SIGTRAP);
    }

    fn case(&self, rng: &mut TestRng) -> Case {
        let isa = self.isa;
        let mut registers = Registers::random(isa, rng);
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
                    registers.set(index, 4 * rng.random_range(0..16_u32));
                }
                if let Some(base) = base.filter(|base| *base != PC) {
                    registers.set(base, self.world.data() + 256 + 8 * rng.random_range(16..48_u32));
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
                    registers.set_it(rng.random_range(0..15) << 4 | 0b1000)
                }
                1 if is_free => registers.set_it(rng.random_range(0..15) << 4 | rng.random_range(1..16_u32)),
                _ => {}
            }
        }
        Case { name, bytes, registers, floats, memory }
    }
}

fn shown(registers: &Registers) -> String {
    (0..17).map(|number| format!("{:x} ", registers.get(number))).collect()
}

fn shown_end(end: &End) -> String {
    format!("signal {} {}", end.signal, shown(&end.registers))
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
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let Some(mut bench) = Bench::new(isa, &mut rng) else { return };
    let wanted = if std::env::var_os("XOL_LONG").is_some() { LONG } else { SHORT };
    let per_batch = PAGE / CELL;
    for number in 0..wanted.div_ceil(per_batch) {
        let cases: Vec<_> = (0..per_batch).map(|_| bench.case(&mut rng)).collect();
        bench.batch(number, &cases);
    }
    let tally = bench.tally;
    println!("{isa:?}: {tally:?}");
    assert!(tally.run > wanted / 8 && tally.emulated > wanted / 12 && tally.lent > wanted / 20, "{tally:?}");
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
