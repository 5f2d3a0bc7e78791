//! The engine against a tracee in memory whose stops are written down: what is done to registers, memory and breakpoints.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use insn::isa::RegisterSlot;
use insn::{Address, Isa};

use super::{End, Gate, Refusal, Stepper, Wanted};
use crate::error::{Errno, TargetError};
use crate::registers::Registers;
use crate::seam::Tid;
use crate::tracee::{Abilities, Event, Go, Stop, Tracee};

const MAIN: Tid = Tid(7);
const OTHER: Tid = Tid(8);
/// Where the fake's program has `syscall`.
const GATE: Address = Address(0x1000);
/// `mov 0x10(%rip), %eax`: through a lent register.
const LOAD: Address = Address(0x2000);
const LOAD_BYTES: [u8; 6] = [0x8b, 0x05, 0x10, 0, 0, 0];
/// `call *(%rax)`: emulated.
const CALL: Address = Address(0x2010);
const CALL_BYTES: [u8; 2] = [0xff, 0x10];
/// `syscall`.
const SYSCALL: Address = Address(0x2020);
/// Where the kernel of the fake maps things.
const AREA: Address = Address(0x7000_0000);
const INT3: u8 = 0xcc;

type Scripted = Box<dyn FnOnce(&mut World) -> Stop>;

/// What is behind the fake: kept by the test too.
#[derive(Default)]
struct World {
    memory: BTreeMap<u64, u8>,
    threads: BTreeMap<Tid, Registers>,
    script: VecDeque<Scripted>,
    /// A stop of a call that was injected.
    answer: Option<Stop>,
    inserted: BTreeSet<Address>,
    /// Mappings are not writable unless they were made so.
    refuses_code: bool,
    is_writable: bool,
    given: Vec<(Tid, i32)>,
    calls: Vec<u64>,
    detached: bool,
    interrupts: usize,
    /// A signal that comes first when the area is to be unmapped.
    at_unmapping: Option<i32>,
    is_deaf: bool,
    let_go: Vec<(Tid, usize)>,
}

impl World {
    fn put(&mut self, at: Address, bytes: &[u8]) {
        self.memory.extend(bytes.iter().enumerate().map(|(index, byte)| (at.0 + index as u64, *byte)));
    }

    fn get(&self, at: Address, len: u64) -> Vec<u8> {
        (at.0..at.0 + len).filter_map(|at| self.memory.get(&at).copied()).collect()
    }

    fn thread(&mut self, tid: Tid) -> &mut Registers {
        self.threads.get_mut(&tid).unwrap()
    }

    fn pc(&mut self, tid: Tid) -> Address {
        self.thread(tid).pc()
    }

    /// The thread stops here.
    fn stop(&mut self, tid: Tid, pc: Address, event: Event) -> Stop {
        self.thread(tid).set_pc(pc);
        Stop { tid, event }
    }

    /// The kernel, as far as injected calls go.
    fn call(&mut self, tid: Tid) {
        let abi = Isa::X86_64.abi();
        let number = self.thread(tid).get(abi.syscall.number);
        self.calls.push(number);
        match number {
            9 => self.memory.extend((0..0x1_0000).map(|offset| (AREA.0 + offset, 0))),
            10 => self.is_writable = self.thread(tid).get(abi.syscall.arguments[2]) & 2 != 0,
            11 => self.memory.retain(|at, _| !(AREA.0..AREA.0 + 0x1_0000).contains(at)),
            other => panic!("call {other}"),
        }
        let answer = if number == 9 { AREA.0 } else { 0 };
        self.thread(tid).set(abi.syscall.result, answer);
        self.answer = Some(self.stop_behind_gate(tid));
    }

    fn stop_behind_gate(&mut self, tid: Tid) -> Stop {
        let end = GATE + 2;
        if self.inserted.contains(&end) {
            return self.stop(tid, end, Event::Breakpoint);
        }
        assert_eq!(self.get(end, 1), [INT3]);
        self.stop(tid, end + 1, Event::Signal(libc::SIGTRAP))
    }
}

struct Fake {
    world: Rc<RefCell<World>>,
    abilities: Abilities,
}

impl Tracee for Fake {
    fn isa(&self) -> Isa {
        Isa::X86_64
    }

    fn process(&self) -> i32 {
        MAIN.0
    }

    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn threads(&mut self) -> Result<Vec<Tid>, TargetError> {
        Ok(self.world.borrow().threads.keys().copied().collect())
    }

    fn registers(&mut self, tid: Tid) -> Result<Registers, TargetError> {
        self.world.borrow().threads.get(&tid).cloned().ok_or(TargetError::Gone { tid })
    }

    fn set_registers(&mut self, tid: Tid, registers: &Registers) -> Result<(), TargetError> {
        self.world.borrow_mut().threads.insert(tid, registers.clone());
        Ok(())
    }

    fn read(&mut self, at: Address, into: &mut [u8]) -> Result<(), TargetError> {
        let found = self.world.borrow().get(at, into.len() as u64);
        if found.len() < into.len() {
            return Err(inaccessible("read", at, into.len()));
        }
        into.copy_from_slice(&found);
        Ok(())
    }

    fn write(&mut self, at: Address, bytes: &[u8]) -> Result<(), TargetError> {
        let mut world = self.world.borrow_mut();
        if world.refuses_code && !world.is_writable {
            return Err(inaccessible("write", at, bytes.len()));
        }
        world.put(at, bytes);
        Ok(())
    }

    fn insert_breakpoint(&mut self, _: Isa, at: Address, _: &[u8]) -> Result<(), TargetError> {
        assert!(self.abilities.breakpoints && self.world.borrow_mut().inserted.insert(at));
        Ok(())
    }

    fn remove_breakpoint(&mut self, _: Isa, at: Address, _: &[u8]) -> Result<(), TargetError> {
        assert!(self.world.borrow_mut().inserted.remove(&at), "no breakpoint at {at}");
        Ok(())
    }

    fn go(&mut self, how: Go<'_>) -> Result<(), TargetError> {
        let mut world = self.world.borrow_mut();
        match how {
            Go::All(signals) => world.given.extend(signals),
            Go::Only(tid) if world.pc(tid) == GATE => {
                let number = world.thread(tid).get(Isa::X86_64.abi().syscall.number);
                match world.at_unmapping.take_if(|_| number == 11) {
                    Some(signal) => world.answer = Some(Stop { tid, event: Event::Signal(signal) }),
                    None => world.call(tid),
                }
            }
            Go::Only(_) | Go::Step(_) => {}
        }
        Ok(())
    }

    fn wait(&mut self, _: Instant) -> Result<Option<Stop>, TargetError> {
        let mut world = self.world.borrow_mut();
        if let Some(answer) = world.answer.take() {
            return Ok(Some(answer));
        }
        let next = world.script.pop_front();
        Ok(next.map(|next| next(&mut world)))
    }

    fn interrupt(&mut self) -> Result<(), TargetError> {
        let mut world = self.world.borrow_mut();
        world.interrupts += 1;
        if world.is_deaf {
            return Ok(());
        }
        world.script.push_back(Box::new(|_| Stop { tid: MAIN, event: Event::Interrupted }));
        Ok(())
    }

    fn let_go(&mut self, child: Tid, inserted: &[(Isa, Address, Vec<u8>)]) -> Result<(), TargetError> {
        self.world.borrow_mut().let_go.push((child, inserted.len()));
        Ok(())
    }

    fn detach(&mut self) -> Result<(), TargetError> {
        self.world.borrow_mut().detached = true;
        Ok(())
    }
}

fn inaccessible(verb: &str, address: Address, len: usize) -> TargetError {
    TargetError::Memory { verb: verb.to_owned(), address, len, source: Errno(libc::EFAULT) }
}

/// The engine, and the world behind it. `inserts`: the tracee sets breakpoints itself.
fn tracee(inserts: bool) -> (Stepper<Fake>, Rc<RefCell<World>>) {
    let mut world = World::default();
    world.put(GATE, &[0x0f, 0x05, 0xc3]);
    world.put(LOAD, &LOAD_BYTES);
    world.put(CALL, &CALL_BYTES);
    world.put(SYSCALL, &[0x0f, 0x05, 0x90]);
    for tid in [MAIN, OTHER] {
        let mut registers = Registers::of(Isa::X86_64, (0..216).collect());
        registers.set_pc(Address(0x5000));
        world.threads.insert(tid, registers);
    }
    let world = Rc::new(RefCell::new(world));
    let abilities =
        Abilities { breakpoints: inserts, traps: true, step: true, threads: true, interrupts_wait: true };
    let fake = Fake { world: Rc::clone(&world), abilities };
    let gate = Gate { isa: Isa::X86_64, at: GATE };
    (Stepper::new(fake, true, vec![gate]).unwrap(), world)
}

fn wanted(at: Address, bytes: &[u8]) -> Wanted {
    Wanted { at, isa: Isa::X86_64, expected: bytes.to_vec(), branch: None }
}

fn armed(at: Address, bytes: &[u8], inserts: bool) -> (Stepper<Fake>, Rc<RefCell<World>>) {
    let (mut stepper, world) = tracee(inserts);
    assert_eq!(stepper.install(&[wanted(at, bytes)]).unwrap(), [Ok(())]);
    (stepper, world)
}

fn then(world: &Rc<RefCell<World>>, next: impl FnOnce(&mut World) -> Stop + 'static) {
    world.borrow_mut().script.push_back(Box::new(next));
}

/// Lets the script run to its end; the sites that were hit, and by whom.
fn run(stepper: &mut Stepper<Fake>) -> Vec<(Tid, Address)> {
    let mut hits = Vec::new();
    stepper.run(later(), &mut |hit| hits.push((hit.tid, hit.site))).unwrap();
    hits
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn slot_of(stepper: &Stepper<Fake>, site: Address) -> (Address, Address) {
    let site = &stepper.sites[&site];
    (site.slot.unwrap(), site.slot_end().unwrap())
}

fn named(name: &str) -> RegisterSlot {
    let found = Isa::X86_64.abi().registers.iter().find(|(known, _)| *known == name);
    found.unwrap().1
}

#[test]
fn a_register_is_lent_in_the_slot_and_given_back_behind_it() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, true);
    let (slot, end) = slot_of(&stepper, LOAD);
    let before = world.borrow_mut().thread(MAIN).clone();
    then(&world, |world| world.stop(MAIN, LOAD, Event::Breakpoint));
    then(&world, move |world| {
        assert_eq!(world.pc(MAIN), slot);
        assert_eq!(world.thread(MAIN).get(named("rsi")), LOAD.0 + 6 + 0x10);
        world.thread(MAIN).set(named("rax"), 0x1234);
        world.stop(MAIN, end + 1, Event::Signal(libc::SIGTRAP))
    });
    assert_eq!(run(&mut stepper), [(MAIN, LOAD)]);
    let mut after = before;
    after.set_pc(LOAD + 6);
    after.set(named("rax"), 0x1234);
    assert_eq!(*world.borrow_mut().thread(MAIN), after);
    assert_eq!((stepper.hits(LOAD), stepper.cost().is_some()), (1, true));
    assert!(world.borrow().given.is_empty(), "a trap of ours is nobody's signal");
}

/// Where the tracee runs over ours.
#[test]
fn the_tracee_sets_the_breakpoints_behind_slots() {
    let (mut stepper, world) = tracee(true);
    stepper.tracee().abilities.traps = false;
    stepper
        .install(&[wanted(LOAD, &LOAD_BYTES), wanted(CALL, &CALL_BYTES)])
        .unwrap()
        .into_iter()
        .for_each(Result::unwrap);
    let (_, end) = slot_of(&stepper, LOAD);
    assert_eq!(world.borrow().inserted, [LOAD, CALL, end].into());
    // The PC is back at them, whatever that of a breakpoint instruction would be.
    then(&world, |world| world.stop(MAIN, LOAD, Event::Signal(libc::SIGTRAP)));
    then(&world, move |world| world.stop(MAIN, end, Event::Signal(libc::SIGTRAP)));
    assert_eq!(run(&mut stepper), [(MAIN, LOAD)]);
    assert_eq!(world.borrow_mut().pc(MAIN), LOAD + 6);
    assert!(world.borrow().given.is_empty());
    stepper.remove(Duration::from_secs(1), &mut |_| {}).unwrap();
    assert!(world.borrow().inserted.is_empty());
}

#[test]
fn two_threads_are_in_one_slot_at_once() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, true);
    let (_, end) = slot_of(&stepper, LOAD);
    let rsi = [MAIN, OTHER].map(|tid| world.borrow_mut().thread(tid).get(named("rsi")));
    for tid in [MAIN, OTHER] {
        then(&world, move |world| world.stop(tid, LOAD, Event::Breakpoint));
    }
    for tid in [OTHER, MAIN] {
        then(&world, move |world| world.stop(tid, end, Event::Breakpoint));
    }
    assert_eq!(run(&mut stepper), [(MAIN, LOAD), (OTHER, LOAD)]);
    for (tid, rsi) in [MAIN, OTHER].into_iter().zip(rsi) {
        assert_eq!(world.borrow_mut().pc(tid), LOAD + 6);
        assert_eq!(world.borrow_mut().thread(tid).get(named("rsi")), rsi);
    }
}

#[test]
fn a_call_is_carried_out_on_registers_and_memory() {
    let (mut stepper, world) = armed(CALL, &CALL_BYTES, false);
    assert_eq!(world.borrow().get(CALL, 2), [INT3, 0x10], "written, since the tracee sets none");
    let sp = Address(0x9000);
    {
        let mut world = world.borrow_mut();
        world.put(Address(0x8000), &0x6000u64.to_le_bytes());
        world.thread(MAIN).set(named("rax"), 0x8000);
        world.thread(MAIN).set_sp(sp);
    }
    then(&world, |world| world.stop(MAIN, CALL + 1, Event::Signal(libc::SIGTRAP)));
    assert_eq!(run(&mut stepper), [(MAIN, CALL)]);
    let mut world = world.borrow_mut();
    assert_eq!((world.pc(MAIN), world.thread(MAIN).sp()), (Address(0x6000), Address(sp.0 - 8)));
    assert_eq!(world.get(Address(sp.0 - 8), 8), (CALL.0 + 2).to_le_bytes());
    assert!(world.calls.is_empty(), "nothing was mapped for it");
}

/// Memory that cannot be read: the thread meets its instruction in place, and the fault is its own.
#[test]
fn what_cannot_be_carried_out_is_met_in_place() {
    let (mut stepper, world) = armed(CALL, &CALL_BYTES, true);
    then(&world, |world| world.stop(MAIN, CALL, Event::Breakpoint));
    then(&world, |world| {
        assert_eq!((world.pc(MAIN), world.inserted.len()), (CALL, 0));
        Stop { tid: MAIN, event: Event::Signal(libc::SIGSEGV) }
    });
    assert_eq!(run(&mut stepper), [(MAIN, CALL)]);
    assert_eq!(world.borrow().given, [(MAIN, libc::SIGSEGV)]);
    assert!(world.borrow().inserted.contains(&CALL), "and the breakpoint is back");
}

#[test]
fn a_signal_waits_for_the_end_of_the_slot() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, true);
    let (slot, end) = slot_of(&stepper, LOAD);
    then(&world, |world| world.stop(MAIN, LOAD, Event::Breakpoint));
    then(&world, |_| Stop { tid: MAIN, event: Event::Signal(libc::SIGALRM) });
    then(&world, move |world| {
        assert_eq!((world.pc(MAIN), world.given.len()), (slot, 0));
        world.stop(MAIN, end, Event::Breakpoint)
    });
    assert_eq!(run(&mut stepper), [(MAIN, LOAD)]);
    assert_eq!(world.borrow().given, [(MAIN, libc::SIGALRM)]);
    assert_eq!(world.borrow_mut().pc(MAIN), LOAD + 6);
}

/// Of two signals one is given at a time, and the other not where the thread is on its way into a slot again.
#[test]
fn a_second_signal_is_given_before_the_next_hit() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, true);
    let (_, end) = slot_of(&stepper, LOAD);
    then(&world, |world| world.stop(MAIN, LOAD, Event::Breakpoint));
    for signal in [libc::SIGALRM, libc::SIGALRM, libc::SIGUSR1] {
        then(&world, move |_| Stop { tid: MAIN, event: Event::Signal(signal) });
    }
    then(&world, move |world| world.stop(MAIN, end, Event::Breakpoint));
    then(&world, |world| {
        assert_eq!(world.given, [(MAIN, libc::SIGALRM)]);
        world.stop(MAIN, LOAD, Event::Breakpoint)
    });
    then(&world, |world| {
        assert_eq!((world.given[1..].to_vec(), world.pc(MAIN)), (vec![(MAIN, libc::SIGUSR1)], LOAD));
        world.stop(MAIN, LOAD, Event::Breakpoint)
    });
    assert_eq!(run(&mut stepper).len(), 2, "the hit that was put off counts once");
}

#[test]
fn a_fault_in_the_slot_is_one_of_the_original() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, true);
    let before = world.borrow_mut().thread(MAIN).clone();
    then(&world, |world| world.stop(MAIN, LOAD, Event::Breakpoint));
    then(&world, |_| Stop { tid: MAIN, event: Event::Signal(libc::SIGSEGV) });
    run(&mut stepper);
    let mut after = before;
    after.set_pc(LOAD);
    assert_eq!(*world.borrow_mut().thread(MAIN), after);
    assert_eq!(world.borrow().given, [(MAIN, libc::SIGSEGV)]);
}

/// Most faults of s390x leave the PC behind the instruction.
#[test]
fn a_fault_at_the_end_of_the_slot_is_one_behind_the_original() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, true);
    let (_, end) = slot_of(&stepper, LOAD);
    let mut after = world.borrow_mut().thread(MAIN).clone();
    after.set_pc(LOAD + 6);
    then(&world, |world| world.stop(MAIN, LOAD, Event::Breakpoint));
    then(&world, move |world| world.stop(MAIN, end, Event::Signal(libc::SIGFPE)));
    run(&mut stepper);
    assert_eq!(*world.borrow_mut().thread(MAIN), after);
    assert_eq!(world.borrow().given, [(MAIN, libc::SIGFPE)]);
}

/// A thread that sleeps in a displaced system call gets its signal at once, behind the original.
#[test]
fn a_signal_does_not_wait_for_a_system_call() {
    let (mut stepper, world) = armed(SYSCALL, &[0x0f, 0x05, 0x90], true);
    let (_, end) = slot_of(&stepper, SYSCALL);
    then(&world, |world| world.stop(MAIN, SYSCALL, Event::Breakpoint));
    then(&world, move |world| world.stop(MAIN, end, Event::Signal(libc::SIGALRM)));
    run(&mut stepper);
    assert_eq!(world.borrow_mut().pc(MAIN), SYSCALL + 2);
    assert_eq!(
        world.borrow_mut().thread(MAIN).get(named("rcx")),
        SYSCALL.0 + 2,
        "as the instruction leaves it"
    );
    assert_eq!(world.borrow().given, [(MAIN, libc::SIGALRM)]);
}

/// What `clone` made begins behind the slot's code, and has never entered it.
#[test]
fn a_thread_that_a_displaced_system_call_made() {
    let (mut stepper, world) = armed(SYSCALL, &[0x0f, 0x05, 0x90], true);
    let (_, end) = slot_of(&stepper, SYSCALL);
    then(&world, move |world| world.stop(OTHER, end, Event::Breakpoint));
    assert_eq!(run(&mut stepper), []);
    assert_eq!(world.borrow_mut().pc(OTHER), SYSCALL + 2);
}

#[test]
fn everything_out_with_a_thread_in_a_slot() {
    for inserts in [true, false] {
        let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, inserts);
        let at = if inserts { LOAD } else { LOAD + 1 };
        let event = move || if inserts { Event::Breakpoint } else { Event::Signal(libc::SIGTRAP) };
        then(&world, move |world| world.stop(MAIN, at, event()));
        run(&mut stepper);
        let removal = stepper.remove(Duration::from_secs(3600), &mut |_| {}).unwrap();
        assert_eq!(removal, super::Removal::default());
        let mut world = world.borrow_mut();
        assert_eq!(world.pc(MAIN), LOAD, "nothing of it had run");
        assert_eq!(world.get(LOAD, 6), LOAD_BYTES);
        assert!(world.inserted.is_empty() && world.detached && world.get(AREA, 1).is_empty());
        assert_eq!((world.interrupts, world.calls.clone()), (1, vec![9, 11]));
    }
}

/// The thread gets it all the same.
#[test]
fn a_signal_while_the_area_is_unmapped() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, true);
    run(&mut stepper);
    world.borrow_mut().at_unmapping = Some(libc::SIGALRM);
    let removal = stepper.remove(Duration::from_secs(3600), &mut |_| {}).unwrap();
    assert_eq!(removal, super::Removal::default());
    assert_eq!(world.borrow().given, [(MAIN, libc::SIGALRM)]);
    assert!(world.borrow().detached && world.borrow().calls == [9, 11]);
}

/// An interrupt that comes behind another stop is waited for: else it would be the program's.
#[test]
fn a_hit_before_the_interrupt_counts() {
    let (mut stepper, world) = armed(CALL, &CALL_BYTES, true);
    run(&mut stepper);
    world.borrow_mut().put(Address(0x8000), &0x6000u64.to_le_bytes());
    world.borrow_mut().thread(MAIN).set(named("rax"), 0x8000);
    world.borrow_mut().put(Address(0x8ff8), &[0; 8]);
    world.borrow_mut().thread(MAIN).set_sp(Address(0x9000));
    then(&world, |world| world.stop(MAIN, CALL, Event::Breakpoint));
    let mut hits = 0;
    stepper.remove(Duration::from_secs(3600), &mut |_| hits += 1).unwrap();
    assert_eq!((hits, stepper.hits(CALL)), (1, 1));
    assert!(world.borrow().script.is_empty() && world.borrow().given.is_empty());
}

/// A tracee that drops interrupts, or answers them by whatever stop comes next: any stop will do.
#[test]
fn a_stop_in_place_of_the_interrupt() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, true);
    stepper.tracee.abilities.interrupts_wait = false;
    run(&mut stepper);
    then(&world, |_| Stop { tid: MAIN, event: Event::Nothing });
    stepper.remove(Duration::ZERO, &mut |_| {}).unwrap();
    assert!(world.borrow().detached);
}

#[test]
fn a_program_that_does_not_stop_keeps_its_probes() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, true);
    run(&mut stepper);
    then(&world, |_| Stop { tid: MAIN, event: Event::Nothing });
    // A stop comes, which is not the interrupt's, and then no other.
    world.borrow_mut().is_deaf = true;
    assert!(stepper.remove(Duration::ZERO, &mut |_| {}).is_err());
    assert!(!world.borrow().detached && world.borrow().inserted.contains(&LOAD));
}

/// Where code cannot be written as it is mapped, the mapping is made writable for the moment, and never both.
#[test]
fn code_that_cannot_be_written() {
    let (mut stepper, world) = tracee(true);
    world.borrow_mut().refuses_code = true;
    assert_eq!(stepper.install(&[wanted(LOAD, &LOAD_BYTES)]).unwrap(), [Ok(())]);
    let (_, end) = slot_of(&stepper, LOAD);
    assert_eq!(world.borrow().calls, [9, 10, 10]);
    assert!(!world.borrow().is_writable);
    assert_eq!(world.borrow().get(end, 1), [INT3]);
}

#[test]
fn other_bytes_than_the_files_are_refused() {
    let (mut stepper, world) = tracee(true);
    world.borrow_mut().put(LOAD, &[0x90; 6]);
    let answers = stepper.install(&[wanted(LOAD, &LOAD_BYTES), wanted(CALL, &CALL_BYTES)]).unwrap();
    assert!(matches!(answers[0], Err(Refusal::Target(TargetError::Changed { .. }))), "{answers:?}");
    assert_eq!((&answers[1], world.borrow().inserted.len()), (&Ok(()), 1));
}

#[test]
fn a_breakpoint_that_the_program_overwrote_is_let_be() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, false);
    world.borrow_mut().put(LOAD, &[0x90]);
    let removal = stepper.remove(Duration::ZERO, &mut |_| {}).unwrap();
    assert_eq!((removal.not_restored, removal.problems.len()), (vec![LOAD], 1));
    assert_eq!(world.borrow().get(LOAD, 1), [0x90]);
}

/// Some traps are reported behind their instruction, as alpha's `gentrap` is: there the handler finds the thread, in the program.
#[test]
fn a_trap_of_the_displaced_instruction_is_given_behind_it() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, true);
    let (_, end) = slot_of(&stepper, LOAD);
    then(&world, |world| world.stop(MAIN, LOAD, Event::Breakpoint));
    then(&world, move |world| world.stop(MAIN, end, Event::Signal(libc::SIGTRAP)));
    assert_eq!(run(&mut stepper), [(MAIN, LOAD)]);
    assert_eq!(world.borrow().given, [(MAIN, libc::SIGTRAP)]);
    assert_eq!(world.borrow_mut().pc(MAIN), LOAD + 6);
}

#[test]
fn the_programs_own_breakpoint_is_its_own() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, true);
    world.borrow_mut().put(Address(0x3000), &[INT3]);
    then(&world, |world| world.stop(MAIN, Address(0x3000), Event::Breakpoint));
    run(&mut stepper);
    assert_eq!(world.borrow().given, [(MAIN, libc::SIGTRAP)]);
    assert_eq!(world.borrow_mut().pc(MAIN), Address(0x3001), "where the kernel reports it");
}

#[test]
fn children_go_their_own_way() {
    let (mut stepper, world) = armed(LOAD, &LOAD_BYTES, true);
    then(&world, |_| Stop { tid: MAIN, event: Event::Fork(Tid(20)) });
    then(&world, |_| Stop { tid: MAIN, event: Event::Vfork(Tid(21)) });
    then(&world, |_| Stop { tid: Tid(21), event: Event::Exec("/bin/true".to_owned()) });
    then(&world, |_| Stop { tid: Tid(21), event: Event::Signal(libc::SIGCHLD) });
    then(&world, |_| Stop { tid: Tid(21), event: Event::Exited(0) });
    run(&mut stepper);
    assert_eq!(world.borrow().let_go, [(Tid(20), 1)]);
    assert_eq!(stepper.end(), None);
    then(&world, |_| Stop { tid: MAIN, event: Event::Exited(3) });
    run(&mut stepper);
    assert_eq!(stepper.end(), Some(&End::Exited(3)));
    assert_eq!(stepper.remove(Duration::ZERO, &mut |_| {}).unwrap(), super::Removal::default());
    assert!(!world.borrow().detached);
}

#[test]
fn without_a_gate_nothing_is_done() {
    let (mut stepper, world) = tracee(true);
    world.borrow_mut().put(GATE, &[0x90, 0x90]);
    let error = stepper.install(&[wanted(LOAD, &LOAD_BYTES)]).unwrap_err();
    assert!(matches!(error, TargetError::NoGate { .. }), "{error}");
    assert!(world.borrow().inserted.is_empty());
}
