//! Random instructions, run in place and out of line by an emulated processor.
//!
//! Each begins twice from the same registers, vector registers and memory: once where it is, stepped; once as [`out_of_line`] has
//! it, in a slot up to a breakpoint behind it or on the registers. Both must end alike. `XOL_LONG=1` makes a million. An emulator
//! cannot show stale caches; nothing here depends on them.

use insn::plan::hex;
use insn::xol::{How, Slot, Then, branch, emulate, out_of_line};
use insn::{Address, Isa, disassemble};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::cases::{
    AUTHENTICATED, BRANCHES, Form, LITERAL, MEMORY, STRAIGHT, VECTOR, any_word, is_authenticated, pick,
    uses_memory, uses_vectors,
};
use super::registers::{BTYPE, NoMemory, PSTATE, Registers};
use super::world::{CELL, SIGTRAP, World, cell};
use crate::qemu::Emulated;

/// Cases of an ordinary run: some seconds.
const SHORT: usize = 4_000;
const LONG: usize = 1_000_000;

const PAGE: usize = 4096;
const PER_PAGE: usize = PAGE / CELL;
/// Where in the data the vector registers are kept, and their bytes with FPCR and FPSR.
const VECTORS_LEN: usize = 32 * 16 + 8;

const SVC: u32 = 0xd400_0001;
/// `getpid`: it has no effect.
const GETPID: u64 = 172;

/// One instruction and what it begins with.
struct Case {
    name: &'static str,
    word: u32,
    registers: Registers,
}

/// What a case has ended with.
#[derive(Debug, PartialEq, Eq)]
struct End {
    signal: u8,
    registers: Registers,
    vectors: Option<Vec<u8>>,
    memory: Option<Vec<u8>>,
}

/// Cases by what became of them.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    emulated: usize,
    run: usize,
    branched: usize,
    faulted: usize,
}

/// Where cases run, and what they begin with besides their registers.
struct Bench {
    world: World,
    data: Vec<u8>,
    vectors: Vec<u8>,
    tally: Tally,
}

impl Case {
    fn uses_vectors(&self) -> bool {
        uses_vectors(self.word)
    }

    fn uses_memory(&self) -> bool {
        uses_memory(self.word)
    }
}

impl Bench {
    fn new(rng: &mut TestRng) -> Option<Self> {
        let mut world = World::new()?;
        let mut data = vec![0; PAGE];
        rng.fill_bytes(&mut data);
        world.emulated.write(world.data(), &data);
        let mut vectors = vec![0; VECTORS_LEN];
        for quad in vectors[..32 * 16].chunks_mut(8) {
            // Numbers of both precisions, and any bits.
            let (single, double) = (rng.random_range(-1e9_f32..1e9), rng.random_range(-1e9_f64..1e9));
            let bits = [u64::from(single.to_bits()), double.to_bits(), rng.next_u64()];
            quad.copy_from_slice(&pick(rng, &bits).to_le_bytes());
        }
        Some(Self { world, data, vectors, tally: Tally::default() })
    }

    /// A page of instructions in place and one of slots for them, written before any of it is run.
    fn batch(&mut self, number: usize, cases: &[Case]) {
        let place = self.world.code() + (2 * number * PAGE) as u64;
        let slots = place + PAGE as u64;
        let mut pages = vec![0; 2 * PAGE];
        for (index, case) in cases.iter().enumerate() {
            let code = case.word.to_le_bytes();
            cell(&mut pages[index * CELL..], &code);
            let at = Address(place + (index * CELL) as u64);
            if let Ok(found) = out_of_line(Isa::Arm64, at, &code)
                && let How::Slot(slot) = found.how
            {
                cell(&mut pages[PAGE + index * CELL..], &slot.code);
            }
        }
        self.world.emulated.write(place, &pages);
        for (index, case) in cases.iter().enumerate() {
            let offset = (index * CELL) as u64;
            self.compare(case, place + offset, slots + offset);
        }
    }

    fn compare(&mut self, case: &Case, at: u64, slot: u64) {
        let bytes = case.word.to_le_bytes();
        let Ok(found) = out_of_line(Isa::Arm64, Address(at), &bytes) else {
            self.tally.refused += 1;
            return;
        };
        let mut before = case.registers.clone();
        before.set_pc(at);
        // A step over a system call is one too far; behind it is a breakpoint.
        let is_call = case.word & !0x1f_ffe0 == SVC;
        let mut in_place = self.run(case, &before, if is_call { Emulated::run } else { Emulated::step });
        if is_authenticated(case.word) {
            // What it leaves for the landing pad is not carried over.
            in_place.registers.set(PSTATE, in_place.registers.get(PSTATE) & !BTYPE);
        }
        let displaced = match found.how {
            How::Delayed(_) => panic!("there are no delay slots: {found:?}"),
            How::Emulated => {
                self.tally.emulated += 1;
                self.emulated(case, &before, Address(at))
            }
            How::Slot(found) => self.displaced(case, &before, &found, slot),
        };
        let text = disassemble(Isa::Arm64, Address(at), &bytes)[0].2.clone();
        assert!(
            in_place == displaced,
            "{}: {} `{text}` at {at:#x}\nfrom {before:?}\nin place {in_place:?}\nout of line {displaced:?}",
            case.name,
            hex(&bytes),
        );
    }

    fn displaced(&mut self, case: &Case, before: &Registers, found: &Slot, slot: u64) -> End {
        let mut moved = before.clone();
        for (register, value) in &found.lent {
            Isa::Arm64.abi().set(&mut moved.0, *register, *value);
        }
        moved.set_pc(slot);
        let mut end = self.run(case, &moved, Emulated::run);
        let abi = Isa::Arm64.abi();
        let (at, fallen) = (before.pc(), end.registers.pc() - slot);
        let target = match found.then {
            Then::Branch(register) => Some((register, abi.get(&end.registers.0, register))),
            Then::Next => None,
        };
        let lent = found.lent.iter().map(|(register, _)| *register);
        for register in lent.chain(target.map(|(register, _)| register)) {
            abi.set(&mut end.registers.0, register, abi.get(&before.0, register));
        }
        assert_eq!(
            (end.signal == SIGTRAP, fallen),
            (fallen == 4, fallen & 4),
            "{}",
            hex(&case.word.to_le_bytes())
        );
        end.registers.set_pc(at + fallen);
        if fallen == 0 {
            self.tally.faulted += 1;
            return end;
        }
        for (register, value) in &found.left {
            abi.set(&mut end.registers.0, *register, *value);
        }
        match target {
            Some((_, to)) => {
                self.tally.branched += 1;
                branch(Isa::Arm64, &mut end.registers.0, to);
            }
            None => self.tally.run += 1,
        }
        end
    }

    fn emulated(&self, case: &Case, before: &Registers, at: Address) -> End {
        let mut registers = before.clone();
        emulate(Isa::Arm64, at, &case.word.to_le_bytes(), &mut registers.0, &mut NoMemory).unwrap();
        End { signal: SIGTRAP, registers, vectors: None, memory: None }
    }

    /// Runs a case from `before` on.
    fn run(&mut self, case: &Case, before: &Registers, run: fn(&mut Emulated) -> u8) -> End {
        let (load, save) = self.world.load_and_save();
        let data = self.world.data();
        if case.uses_vectors() {
            self.world.emulated.write(data, &self.vectors);
            self.routine(load);
            self.world.emulated.write(data, &self.data[..VECTORS_LEN]);
        }
        let signal = self.world.go(before, run);
        let registers = self.world.registers();
        let memory = case.uses_memory().then(|| self.world.emulated.read(data, PAGE));
        let vectors = case.uses_vectors().then(|| {
            self.routine(save);
            self.world.emulated.read(data, VECTORS_LEN)
        });
        if vectors.is_some() || memory.as_ref().is_some_and(|memory| *memory != self.data) {
            self.world.emulated.write(data, &self.data);
        }
        End { signal, registers, vectors, memory }
    }

    /// Lets the program load or save its vector registers.
    fn routine(&mut self, at: u64) {
        let mut registers = self.world.ready.clone();
        registers.set(0, self.world.data());
        registers.set_pc(at);
        assert_eq!(self.world.go(&registers, Emulated::run), SIGTRAP);
    }

    /// The instruction, with a register that it finds its memory by in the middle of the data.
    fn case(&self, name: &'static str, word: u32, rng: &mut TestRng) -> Case {
        let mut registers = Registers::random(rng);
        let any = u64::from(rng.next_u32());
        registers.set(PSTATE, registers.get(PSTATE) | any & BTYPE);
        if uses_memory(word) {
            let (base, index) = (word >> 5 & 0x1f, word >> 16 & 0x1f);
            registers.set(index as usize, rng.random_range(0..64));
            let middle = self.world.data() + PAGE as u64 / 2 + 16 * rng.random_range(0..16_u64);
            registers.set(base as usize, middle + if rng.random_range(0..4) == 0 { any & 0xf } else { 0 });
        }
        if word == SVC {
            registers.set(8, GETPID);
        }
        Case { name, word, registers }
    }

    /// An instruction of some class.
    fn any(&self, rng: &mut TestRng) -> Case {
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
        self.case(name, word, rng)
    }
}

fn form(forms: &[Form], rng: &mut TestRng) -> (&'static str, u32) {
    let form = pick(rng, forms);
    (form.name, form.random(rng))
}

#[test]
fn instructions_do_out_of_line_what_they_do_in_place() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let Some(mut bench) = Bench::new(&mut rng) else { return };
    let wanted = if std::env::var_os("XOL_LONG").is_some() { LONG } else { SHORT };
    for number in 0..wanted.div_ceil(PER_PAGE) {
        let cases: Vec<_> = (0..PER_PAGE).map(|_| bench.any(&mut rng)).collect();
        bench.batch(number, &cases);
    }
    let tally = bench.tally;
    println!("{tally:?}");
    assert!(tally.run > wanted / 3 && tally.emulated > wanted / 8, "{tally:?}");
    assert!(tally.branched > wanted / 100, "{tally:?}");
    assert!(tally.faulted < wanted / 3 && tally.refused < wanted / 20, "{tally:?}");
}

/// Branches whose targets are signed as they should be, and go there.
#[test]
fn authenticated_branches_go_where_they_do_in_place() {
    const CASES: usize = 200;
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let Some(mut bench) = Bench::new(&mut rng) else { return };
    let signing = bench.world.code();
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
            out_of_line(Isa::Arm64, Address(place + (index * CELL) as u64), &word.to_le_bytes()).unwrap();
        let How::Slot(slot) = found.how else { panic!("{found:?}") };
        let authenticates = u32::from_le_bytes(slot.code.clone().try_into().unwrap());
        // `autia` with this bit clear is `pacia`.
        cell(&mut pages[index * CELL..], &(authenticates & !0x1000).to_le_bytes());
        cell(&mut pages[PAGE + index * CELL..], &word.to_le_bytes());
        cell(&mut pages[2 * PAGE + index * CELL..], &slot.code);
        cases.push((word, slot));
    }
    bench.world.emulated.write(signing, &pages);
    for (index, (word, slot)) in cases.iter().enumerate() {
        let offset = (index * CELL) as u64;
        let Then::Branch(register) = slot.then else { panic!("{slot:?}") };
        let mut case = bench.case("authenticated", *word, &mut rng);
        let target = 0x1234_5678_9000 + 4 * offset;
        Isa::Arm64.abi().set(&mut case.registers.0, register, target);
        case.registers.set_pc(signing + offset);
        let signed = bench.run(&case, &case.registers, Emulated::run);
        Isa::Arm64.abi().set(
            &mut case.registers.0,
            register,
            Isa::Arm64.abi().get(&signed.registers.0, register),
        );
        case.registers.set_pc(place + offset);
        let in_place = bench.run(&case, &case.registers, Emulated::step);
        // Where it is its own modifier, it has lost that by being signed.
        if register.0 / 8 != (*word & 0x1f) as usize {
            assert_eq!(in_place.registers.pc(), target, "{}", hex(&word.to_le_bytes()));
        }
        bench.compare(&case, place + offset, slots + offset);
    }
    assert_eq!(bench.tally.branched, CASES, "{:?}", bench.tally);
}
