//! Random instructions, run in place and out of line by an emulated processor.
//!
//! Each begins twice from the same registers, other registers (of floating point, vectors) and memory: once where it is, stepped;
//! once as [`out_of_line`] has it, in a slot up to a breakpoint behind it or on the registers. Both must end alike. `XOL_LONG=1`
//! makes a million of each instruction set. An emulator cannot show stale caches; nothing here depends on them.

use insn::plan::hex;
use insn::xol::{How, OutOfLine, Slot, Then, delay_slot_of, out_of_line};
use insn::{Address, Flow, Isa, disassemble, inspect};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use remote::Signal;
use remote::client::Action;

use crate::registers::Registers;
use crate::world::{Outcome, PAGE, World};

const LONG: usize = 1_000_000;

/// What a family of instruction sets has of its own.
pub(crate) trait Family {
    /// Cases of an ordinary run: some seconds.
    const SHORT: usize;
    /// Bytes of the data that instructions reach.
    const DATA: usize;

    /// What the other registers begin with, as the program's routines load them.
    fn others(isa: Isa, rng: &mut TestRng) -> Vec<u8>;

    /// An instruction of some class, with that in its delay slot, at `at`.
    fn case(world: &World, at: u64, rng: &mut TestRng) -> Case;

    /// Whether a slot is as they all are.
    fn is_usual(_: &Slot) -> bool {
        true
    }

    /// Whether it may store behind itself.
    fn may_store_near(_: &Case) -> bool {
        false
    }

    /// What of an end in place is known to be otherwise out of line.
    fn allow(_: &Case, _: &OutOfLine, _: &mut End) {}
}

/// One instruction and what it begins with.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) registers: Registers,
    /// Whether it may use the other registers; memory.
    pub(crate) others: bool,
    pub(crate) memory: bool,
}

/// What a case has ended with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) signal: Signal,
    pub(crate) registers: Registers,
    others: Option<Vec<u8>>,
    memory: Option<Vec<u8>>,
    /// What it may have stored behind itself.
    cell: Option<Vec<u8>>,
}

/// Cases by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) refused: usize,
    pub(crate) emulated: usize,
    /// In a slot; with registers lent; up to where a register says.
    pub(crate) run: usize,
    pub(crate) lent: usize,
    pub(crate) branched: usize,
    pub(crate) faulted: usize,
}

impl Tally {
    fn count(&mut self, how: &How, has_ended: bool) {
        match how.slot() {
            None => self.emulated += 1,
            Some(_) if !has_ended => self.faulted += 1,
            Some(slot) => {
                self.run += 1;
                self.lent += usize::from(!slot.lent.is_empty());
                self.branched += usize::from(slot.then != Then::Next);
            }
        }
    }
}

/// Where cases run, and what they begin with besides their registers.
pub(crate) struct Bench {
    pub(crate) world: World,
    data: Vec<u8>,
    others: Vec<u8>,
    pub(crate) tally: Tally,
}

impl Bench {
    pub(crate) fn new<F: Family>(isa: Isa, rng: &mut TestRng) -> Option<Self> {
        let mut world = World::new(isa)?;
        let mut data = vec![0; F::DATA];
        rng.fill_bytes(&mut data);
        world.emulated.write(world.data(), &data);
        let others = F::others(isa, rng);
        Some(Self { world, data, others, tally: Tally::default() })
    }

    /// A page of instructions in place and one of slots for them, written before any of it is run.
    fn batch<F: Family>(&mut self, number: usize, rng: &mut TestRng) {
        let place = self.world.code() + (2 * number * PAGE) as u64;
        let slots = place + PAGE as u64;
        let mut pages = vec![0; 2 * PAGE];
        let mut cases = Vec::new();
        for (index, slot) in (0..PAGE).step_by(self.world.machine.cell).enumerate() {
            // Every other one of T32 lies at no multiple of 4.
            let offset = if self.world.isa == Isa::Thumb { slot + index % 2 * 2 } else { slot };
            let at = place + offset as u64;
            let case = F::case(&self.world, at, rng);
            self.world.fill_cell(&mut pages[offset..], &case.bytes);
            if let Ok(found) = out_of_line(self.world.isa, Address(at), &case.bytes)
                && let Some(found) = found.how.slot()
            {
                assert!(F::is_usual(found), "{}: {found:?}", hex(&case.bytes));
                self.world.fill_cell(&mut pages[PAGE + slot..], &found.code);
            }
            cases.push((case, at, slots + slot as u64));
        }
        self.world.emulated.write(place, &pages);
        for (case, at, slot) in &cases {
            self.compare::<F>(case, *at, *slot);
        }
    }

    pub(crate) fn compare<F: Family>(&mut self, case: &Case, at: u64, slot_at: u64) {
        let isa = self.world.isa;
        let Ok(found) = out_of_line(isa, Address(at), &case.bytes) else {
            self.tally.refused += 1;
            return;
        };
        let mut before = case.registers.clone();
        before.set_pc(at);
        let is_lent = found.how.slot().is_some_and(|slot| !slot.lent.is_empty());
        let cell = |world: &mut World| is_lent.then(|| world.emulated.read(at, world.machine.cell - 2));
        let kept = cell(&mut self.world);
        // A step over a system call is one too far; behind it is a breakpoint.
        let is_call = inspect(isa, Address(at), &case.bytes).is_some_and(|insn| insn.flow == Flow::Syscall);
        let mut in_place =
            self.in_place(case, &before, if is_call { Action::Continue } else { Action::Step });
        F::allow(case, &found, &mut in_place);
        in_place.cell = cell(&mut self.world);
        assert!(in_place.cell == kept || F::may_store_near(case), "{} stores into code", case.name);
        let (mut displaced, has_ended) =
            self.run(case, |world| world.carry_out(&case.bytes, &found, &before, slot_at));
        self.tally.count(&found.how, has_ended);
        displaced.cell = cell(&mut self.world);
        let text = disassemble(isa, Address(at), &case.bytes)[0].2.clone();
        assert!(
            in_place == displaced,
            "{isa:?} {}: {} `{text}` at {at:#x}\nfrom {before:?}\nin place {in_place:x?}\nout of line {displaced:x?}",
            case.name,
            hex(&case.bytes),
        );
    }

    /// From `before` on, where it stands.
    pub(crate) fn in_place(&mut self, case: &Case, before: &Registers, action: Action) -> End {
        let go = |world: &mut World| {
            let (mut signal, mut registers) = match action {
                Action::Continue => world.run_to(before.pc() + case.bytes.len() as u64, before),
                _ => world.emulated.go(before, action),
            };
            let at = Address(registers.pc());
            let own = inspect(world.isa, Address(before.pc()), &case.bytes).map_or(0, |insn| insn.len);
            let own = case.bytes.get(..own).unwrap_or_default();
            // qemu steps a branch and what is in its delay slot one after the other. Where that faults the kernel says that the
            // branch did, but for ISAs that have a register for where the branch goes.
            if signal == Signal::TRAP && delay_slot_of(world.isa, at, own) == Some(Address(before.pc())) {
                (signal, registers) = world.emulated.go_on(action);
                // A branch may also lead there; those of mips that are tried do not.
                let traps = matches!(world.isa, Isa::Mips | Isa::MipsLe | Isa::Mips64 | Isa::Mips64Le);
                let is_back = registers.pc() == at.0 && (traps || signal != Signal::TRAP);
                if is_back && world.isa.abi().next_pc.is_none() {
                    registers.set_pc(before.pc());
                    world.forget_branch();
                }
            }
            Outcome { signal, registers, has_ended: true }
        };
        self.run(case, go).0
    }

    /// Loads what a case uses besides its registers, lets `run` run it, and takes all that it has ended with, and whether it has.
    fn run(&mut self, case: &Case, run: impl FnOnce(&mut World) -> Outcome) -> (End, bool) {
        let (load, save) = self.world.load_and_save();
        let others = self.world.others();
        if case.others {
            self.world.emulated.write(others, &self.others);
            self.routine(load);
        }
        let Outcome { signal, registers, has_ended } = run(&mut self.world);
        let others = case.others.then(|| {
            self.routine(save);
            self.world.emulated.read(others, self.others.len())
        });
        (End { signal, registers, others, memory: self.memory(case), cell: None }, has_ended)
    }

    /// What is in the data, which is then as it was.
    fn memory(&mut self, case: &Case) -> Option<Vec<u8>> {
        let at = self.world.data();
        let memory = case.memory.then(|| self.world.emulated.read(at, self.data.len()))?;
        if memory != self.data {
            self.world.emulated.write(at, &self.data);
        }
        Some(memory)
    }

    /// Lets the program load or save its other registers.
    fn routine(&mut self, at: u64) {
        let mut registers = self.world.ready.clone();
        registers.set(self.world.isa.abi().syscall.arguments[0], self.world.others());
        registers.set_pc(at);
        assert_eq!(self.world.emulated.go(&registers, Action::Continue).0, Signal::TRAP);
    }
}

/// What became of how many cases; `None`, with a line that says so, where something is not installed.
pub(crate) fn compare<F: Family>(isa: Isa) -> Option<(Tally, usize)> {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let mut bench = Bench::new::<F>(isa, &mut rng)?;
    let wanted = if std::env::var_os("XOL_LONG").is_some() { LONG } else { F::SHORT };
    for number in 0..wanted.div_ceil(PAGE / bench.world.machine.cell) {
        bench.batch::<F>(number, &mut rng);
    }
    println!("{isa:?}: {:?}", bench.tally);
    Some((bench.tally, wanted))
}

/// One of several.
pub(crate) fn pick<'a, T>(rng: &mut TestRng, choices: &'a [T]) -> &'a T {
    &choices[rng.random_range(0..choices.len())]
}
