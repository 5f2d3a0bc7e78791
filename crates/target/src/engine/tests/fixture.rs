//! A small program in memory, and a front that plans for it as the real one does.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use coherence::Architecture;
use iced_x86::Register;
use insn::code::{Code, Outline};
use insn::place::{AREA_LEN, Demand, Room, island_bytes, patch_bytes};
use insn::plan::{Mechanism, Patch};
use insn::set::Analysis;
use insn::{Address, Isa};
use program::layout::{Layout, Sizing};
use program::stub::{Action, Environment, Routines, ShardBy, Stub, ThreadBy};
use symbols::maps::Mapping;

use crate::area::Entry;
use crate::engine::{Backing, Change, Engine, Left, Patched};
use crate::error::TargetError;
use crate::fake::Fake;
use crate::fake::cpu::slot;
use crate::fake::machine::{Machine, Run};
use crate::fake::space::Space;
use crate::registers::Registers;
use crate::seam::{Event, Target, Tid};
use crate::sys::ptrace::SigInfo;

pub(super) const TEXT: Range<Address> = Address(0x40_1000)..Address(0x40_3000);
/// Calls the others for ever.
pub(super) const MAIN: Address = Address(0x40_1140);
/// `push %rbp; mov %rsp, %rbp; add $7, %r12; pop %rbp; ret`: a jump covers three instructions.
pub(super) const ADD: Address = Address(0x40_1020);
/// `mov $39, %eax; syscall; ret`.
pub(super) const CALL: Address = Address(0x40_1040);
/// Its `syscall`.
pub(super) const SYSCALL: Address = Address(0x40_1045);
/// `inc %r13; ret`: four bytes, then padding.
pub(super) const SHORT: Address = Address(0x40_1060);
/// `add $1, %r14; inc %r15; ret`, over the end of a page.
pub(super) const ACROSS: Address = Address(0x40_1ffd);
/// Its `ret`, whose jump begins at the `add`.
pub(super) const ACROSS_RET: Address = Address(0x40_2004);
/// The `ret` of [`ADD`], whose jump begins at its own `add`.
pub(super) const ADD_RET: Address = Address(0x40_1029);
/// `inc %rsi`, in front of what the program jumps to: its jump ends in `push %rbp; mov`, which stay.
pub(super) const PUN: Address = Address(0x40_1080);
/// `push %rbp; mov %rsp, %rbp; pop %rbp; ret`.
pub(super) const BEHIND_PUN: Address = Address(0x40_1083);
/// Jumps there, if anybody went that way.
const TO_BEHIND_PUN: Address = Address(0x40_10a0);
/// `push %r12; pop %r12; ret`: the second instruction is jumped to, and no jump can end in it.
pub(super) const ISLE: Address = Address(0x40_10c0);
/// Padding within its reach.
pub(super) const ISLAND: Address = Address(0x40_1048);
const TO_BEHIND_ISLE: Address = Address(0x40_10d0);
/// `xor %eax, %eax`, whose next instruction is jumped to; no pun of it leads to free memory, and no padding is near.
pub(super) const CROWDED: Address = Address(0x40_1290);
/// `add $-128, %r8; movabs $MOVED, %r9; ret`: all but the last make room.
pub(super) const EVICTED: Address = Address(0x40_1292);
/// The `movabs`: the island is in it.
pub(super) const EVICTED_MOV: Address = Address(0x40_1296);
const MOVED: u64 = 0x8877_6655_4433_2211;
/// Functions that are no padding, on both sides.
const CROWD: [Address; 2] = [Address(0x40_1200), Address(0x40_12a1)];
const TO_EVICTED: Address = Address(0x40_1330);
/// Every site, with its counter's number.
pub(super) const SITES: [Address; 7] = [ADD, CALL, SHORT, ACROSS, PUN, ISLE, CROWDED];

/// Where an instruction can name it.
const STATE: Address = Address(0x7800_0000);
const DESCRIPTION: Address = Address(0x2100_0000_0000);
const GROUP: i32 = 100;
/// The handler that programs of the tests install: it is never run, only recorded.
pub(super) const HANDLER: u64 = 0x40_1100;

/// The program's code.
fn text() -> Vec<u8> {
    let mut text = vec![0x90; usize::try_from(TEXT.end - TEXT.start).unwrap()];
    let mut put = |at: Address, bytes: &[u8]| {
        let offset = usize::try_from(at - TEXT.start).unwrap();
        text[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    let mut at = MAIN;
    for function in SITES {
        let distance = i32::try_from(function.offset_from(at + 5)).unwrap();
        put(at, &[&[0xe8][..], &distance.to_le_bytes()].concat());
        at += 5;
    }
    put(at, &[0x48, 0xff, 0xc3, 0xeb, 0xd8]); // inc %rbx; jmp MAIN
    put(ADD, &[0x55, 0x48, 0x89, 0xe5, 0x49, 0x83, 0xc4, 0x07, 0x5d, 0xc3]);
    put(CALL, &[0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3]);
    // Functions that nobody calls, so that there is no padding behind those before them.
    put(ADD + 10, &[0xc3]);
    put(ACROSS + 8, &[0xc3]);
    put(SHORT, &[0x49, 0xff, 0xc5, 0xc3]);
    put(PUN, &[0x48, 0xff, 0xc6, 0x55, 0x48, 0x89, 0xe5, 0x5d, 0xc3]);
    put(TO_BEHIND_PUN, &[0xeb, 0xe1]);
    put(ISLE, &[0x41, 0x54, 0x41, 0x5c, 0xc3]);
    put(TO_BEHIND_ISLE, &[0xeb, 0xf0]);
    put(ACROSS, &[0x49, 0x83, 0xc6, 0x01, 0x49, 0xff, 0xc7, 0xc3]);
    put(CROWDED, &[0x31, 0xc0]);
    put(EVICTED, &[0x49, 0x83, 0xc0, 0x80]);
    put(EVICTED_MOV, &[&[0x49, 0xb9][..], &MOVED.to_le_bytes(), &[0xc3]].concat());
    put(TO_EVICTED, &[0xe9, 0x5d, 0xff, 0xff, 0xff]);
    text
}

pub(super) fn mapping(range: Range<Address>, permissions: &str, path: Option<&str>) -> Mapping {
    let is_file = path.is_some_and(|path| path.starts_with('/'));
    Mapping {
        offset: if is_file { range.start.0 - 0x40_0000 } else { 0 },
        range,
        readable: permissions.contains('r'),
        writable: permissions.contains('w'),
        executable: permissions.contains('x'),
        shared: false,
        device: if is_file { (8, 1) } else { (0, 0) },
        inode: if is_file { 42 } else { 0 },
        path: path.map(str::to_owned),
        deleted: false,
    }
}

pub(super) fn text_mapping() -> Mapping {
    mapping(TEXT, "rx", Some("/usr/bin/fake"))
}

pub(super) fn stack(tid: Tid) -> Range<Address> {
    Address(0x7f00_0000_0000 + u64::from(tid.0.cast_unsigned()) * 0x10_0000).span(0x4000)
}

/// A machine whose tasks stand at MAIN.
pub(super) fn machine(tasks: i32) -> Machine {
    let mut space = Space::default();
    space.map(text_mapping(), text());
    let mut machine = Machine::new(space, TEXT, GROUP);
    for tid in (GROUP..).map(Tid).take(usize::try_from(tasks).unwrap()) {
        let registers = prepare(&mut machine, tid);
        machine.start(tid, registers, true);
    }
    machine
}

/// A stack with the thread's own words, and registers at MAIN.
pub(super) fn prepare(machine: &mut Machine, tid: Tid) -> Registers {
    let stack = stack(tid);
    if !machine.space.mappings().iter().any(|mapping| mapping.range == stack) {
        machine.space.map(mapping(stack.clone(), "rw", Some("[stack]")), vec![0; 0x4000]);
    }
    let base = stack.start.0 + 0x3f00;
    machine.space.poke(Address(base), &base.to_le_bytes());
    let mut registers = Registers::new(vec![0; 216]).unwrap();
    registers.set_pc(MAIN);
    registers.set_sp(stack.start + 0x3000);
    registers.set(slot(Register::FS), base);
    registers.set(Isa::X86_64.abi().syscall.original_number.unwrap(), u64::MAX);
    registers
}

/// A front: what is installed, and room for more.
#[derive(Clone)]
pub(super) struct Front {
    environment: Environment,
    room: Room,
    routines: Option<Routines>,
    /// By start: the patch, and what it counts.
    installed: BTreeMap<Address, (Patch, Vec<(Address, u32)>)>,
    is_first: bool,
    /// What was wanted so far.
    history: Vec<Vec<Wanted>>,
}

/// A site, and the mechanism it is forced to have.
pub(super) type Wanted = (Address, Option<Mechanism>);

/// The front behind a change, and the change, by what was wanted so far.
type Planned = HashMap<Vec<Vec<Wanted>>, (Front, Change)>;

thread_local! {
    /// Plans take most of a test's time, and always come out the same.
    static PLANNED: RefCell<Planned> = RefCell::default();
}

impl Front {
    fn new() -> Self {
        let sizing = Sizing { probes: 32, shards: 2, threads: 4, rings: 0, records: 0 };
        let environment = Environment {
            isa: Isa::X86_64,
            layout: Layout::new(sizing),
            state: STATE,
            shard_by: ShardBy::ThreadPointer,
            thread_by: ThreadBy::ThreadPointer,
            red_zone: 128,
            prefetchw: false,
        };
        let free = vec![Address(0x80_0000)..Address(0x7000_0000)];
        Self {
            environment,
            room: Room { free, areas: Vec::new(), mappings: usize::MAX },
            routines: None,
            installed: BTreeMap::new(),
            is_first: true,
            history: Vec::new(),
        }
    }

    /// The instructions that run in stubs.
    pub(super) fn displaced(&self) -> impl Iterator<Item = Address> + '_ {
        self.installed.values().flat_map(|(patch, _)| patch.displaced.iter().map(|insn| insn.address))
    }

    /// The change after which exactly these sites are probed, each by this mechanism (if forced).
    pub(super) fn change(&mut self, wanted: &[Wanted], mappings: &[Mapping]) -> Change {
        let mut history = self.history.clone();
        history.push(wanted.to_vec());
        if let Some((front, change)) = PLANNED.with_borrow(|planned| planned.get(&history).cloned()) {
            *self = front;
            return change;
        }
        let change = self.plan(wanted, mappings);
        self.history.clone_from(&history);
        PLANNED.with_borrow_mut(|planned| planned.insert(history, (self.clone(), change.clone())));
        change
    }

    fn plan(&mut self, wanted: &[Wanted], mappings: &[Mapping]) -> Change {
        let bytes = text();
        let functions: Vec<Range<Address>> =
            [(MAIN, 35 + 5), (ADD, 10), (ADD + 10, 1), (CALL, 8), (SHORT, 4), (ACROSS, 8), (ACROSS + 8, 1)]
                .into_iter()
                .chain([(PUN, 9), (TO_BEHIND_PUN, 2), (ISLE, 5), (TO_BEHIND_ISLE, 2)])
                .chain([(CROWD[0], 0x90), (CROWDED, 17), (CROWD[1], 0x8f), (TO_EVICTED, 5)])
                .map(|(at, len)| at.span(len))
                .collect();
        let code = [Code { start: TEXT.start, bytes: &bytes }];
        let outline = Outline { functions, ..Outline::default() };
        let analysis = Analysis::new(Isa::X86_64, &code, &outline, false, &mut |_| {});
        let force: HashMap<Address, Mechanism> =
            wanted.iter().filter_map(|(site, force)| Some((*site, (*force)?))).collect();
        let sites: Vec<Address> = wanted.iter().map(|(site, _)| *site).collect();
        let plan = analysis.plan(&sites, &force, &self.room.free);
        assert!(plan.refused.is_empty(), "{:?}", plan.refused);
        self.change_to(plan.patches, mappings)
    }

    fn change_to(&mut self, patches: Vec<Patch>, mappings: &[Mapping]) -> Change {
        let mut change = Change::default();
        if self.is_first {
            change.state = Some((self.environment.layout, STATE));
            change.description = Some((DESCRIPTION, AREA_LEN));
            let nothing = Patch {
                start: ADD,
                mechanism: Mechanism::Trap,
                overwritten: vec![],
                displaced: vec![],
                island: None,
            };
            let size = Routines::assemble(&self.environment, ADD).bytes.len();
            let at = self.place(&nothing, u32::try_from(size).unwrap());
            let routines = Routines::assemble(&self.environment, at);
            change.routines.push(routines.clone());
            self.routines = Some(routines);
        }
        let starts: Vec<Address> = patches.iter().map(|patch| patch.start).collect();
        let islands = |patch: &Patch| patch.island.iter().map(|island| island.at).collect::<Vec<_>>();
        let new: Vec<Address> = patches.iter().flat_map(islands).collect();
        let old =
            self.installed.values().flat_map(|(patch, _)| islands(patch)).filter(|at| !new.contains(at));
        let gone = self.installed.keys().copied().filter(|start| !starts.contains(start));
        change.remove = gone.chain(old).collect();
        self.installed.retain(|start, _| starts.contains(start));
        for patch in patches {
            let counts: Vec<(Address, u32)> = patch.sites().map(|site| (site, counter(site))).collect();
            let entry = (patch.clone(), counts.clone());
            if self.installed.get(&patch.start) == Some(&entry) {
                continue;
            }
            let size = self.assemble(&patch, &counts, patch.start + AREA_LEN).bytes.len();
            let at = self.place(&patch, u32::try_from(size).unwrap());
            let stub = self.assemble(&patch, &counts, at);
            let patched = |start, original: &[u8], bytes, interior, tail| Patched {
                entry: Entry { start, original: original.to_vec(), patched: bytes, stub: at },
                interior,
                tail,
                backing: Backing::at(mappings, start).unwrap(),
                notify: false,
            };
            let bytes = patch_bytes(Isa::X86_64, &patch, at).unwrap();
            let tail = patch.overwritten.len() - patch.written();
            change.apply.push(patched(patch.start, &patch.overwritten, bytes, patch.interior(), tail));
            if let Some(island) = &patch.island {
                let bytes = island_bytes(Isa::X86_64, &patch, at).unwrap();
                change.apply.push(patched(island.at, &island.overwritten, bytes, Vec::new(), 0));
                change.islands.push((island.at, patch.start));
            }
            change.stubs.push(stub);
            self.installed.insert(patch.start, entry);
        }
        let new = self.room.areas.iter_mut().filter(|area| area.is_new);
        change.map = new
            .map(|area| (std::mem::take(&mut area.is_new), area.start).1)
            .map(|at| (at, AREA_LEN))
            .collect();
        self.is_first = false;
        change
    }

    fn place(&mut self, patch: &Patch, size: u32) -> Address {
        self.room.place(Isa::X86_64, &[Demand { patch, size }]).remove(0).expect("room for a stub")
    }

    fn assemble(&self, patch: &Patch, counts: &[(Address, u32)], at: Address) -> Stub {
        let actions = |site: Address| {
            counts
                .iter()
                .filter(|(of, _)| *of == site)
                .map(|(_, probe)| Action::Count { probe: *probe })
                .collect()
        };
        let routines = self.routines.as_ref().unwrap();
        Stub::assemble(&self.environment, routines, patch, &actions, at).unwrap()
    }
}

/// The number of a site's counter.
pub(super) fn counter(site: Address) -> u32 {
    let known = SITES.iter().position(|known| *known == site);
    // The others are told apart by where they are: those that tests use differ modulo 25.
    u32::try_from(known.unwrap_or(SITES.len() + usize::try_from((site - TEXT.start) % 25).unwrap())).unwrap()
}

/// An engine on the fake, its front, and another handle of the machine.
pub(super) struct World {
    pub(super) engine: Engine<Fake>,
    pub(super) fake: Fake,
    pub(super) front: Front,
}

pub(super) fn engine_on(fake: &Fake) -> Engine<Fake> {
    Engine::new(fake.clone(), coherence::description(Architecture::X86), (1, 2))
}

impl World {
    pub(super) fn new(tasks: i32) -> Self {
        Self::of(machine(tasks))
    }

    pub(super) fn of(machine: Machine) -> Self {
        let fake = Fake::new(machine);
        Self { engine: engine_on(&fake), fake, front: Front::new() }
    }

    /// Plans and carries out: exactly these sites probed.
    pub(super) fn probe(&mut self, sites: &[Address]) -> Result<Vec<Address>, TargetError> {
        let wanted: Vec<_> = sites.iter().map(|site| (*site, None)).collect();
        self.probe_by(&wanted)
    }

    pub(super) fn probe_by(&mut self, wanted: &[Wanted]) -> Result<Vec<Address>, TargetError> {
        let change = self.front.change(wanted, &self.fake.machine().space.mappings());
        self.engine.change(change).map(|report| report.lost)
    }

    /// One instruction of a task, and whatever the tracer has to do about it.
    pub(super) fn step(&mut self, tid: Tid) {
        self.fake.machine().step(tid);
        self.react();
    }

    /// The holder's loop: every stop that is reported, until there is none.
    pub(super) fn react(&mut self) {
        for _ in 0..1000 {
            let now = self.fake.now();
            let tasks = self.engine.target.tasks();
            let is_reported = |tid: &Tid| {
                matches!(self.fake.machine().tasks.get(tid).map(|task| task.run), Some(Run::Reported(_)))
            };
            let Some(tid) = tasks.into_iter().find(is_reported) else {
                if self.engine.owed_to.is_empty() {
                    return;
                }
                self.engine.settle();
                continue;
            };
            if let Some(event) = self.engine.target.wait(tid, now).unwrap() {
                self.engine.react(tid, event).unwrap();
            }
        }
        panic!("the engine and the target keep each other busy");
    }

    /// Steps a task until its PC is `at`.
    pub(super) fn run_to(&mut self, tid: Tid, at: Address) {
        for _ in 0..2000 {
            if self.pc(tid) == at {
                return;
            }
            self.step(tid);
        }
        panic!("{tid} stands at {}, not {at}", self.pc(tid));
    }

    /// Steps a task until its PC is in the stub of the patch at `start`, `offset` bytes from its beginning at least.
    pub(super) fn run_into(&mut self, tid: Tid, start: Address, offset: u64) {
        let stub = self.engine.patches[&start].entry.stub;
        let range = stub + offset..stub + self.engine.stubs[&stub].bytes.len() as u64;
        for _ in 0..2000 {
            if range.contains(&self.pc(tid)) {
                return;
            }
            self.step(tid);
        }
        panic!("{tid} stands at {}, not in the stub at {stub}", self.pc(tid));
    }

    pub(super) fn pc(&self, tid: Tid) -> Address {
        self.fake.machine().task(tid).registers.pc()
    }

    pub(super) fn put(&self, tid: Tid, pc: Address) {
        self.fake.machine().task(tid).registers.set_pc(pc);
    }

    pub(super) fn send(&mut self, tid: Tid, signal: i32) {
        self.fake.machine().send(tid, queued(signal, 0x1234));
        self.react();
    }

    pub(super) fn hits(&self, site: Address) -> u64 {
        let (Some(layout), Some(shared)) = (&self.engine.layout, &self.engine.shared) else { return 0 };
        layout.hits(shared, counter(site))
    }

    pub(super) fn live(&self, at: Address, len: u64) -> Vec<u8> {
        self.fake.machine().space.bytes(&at.span(len))
    }

    pub(super) fn is_text_original(&self) -> bool {
        let machine = self.fake.machine();
        machine.space.bytes(&TEXT) == machine.pristine
    }

    /// Mappings of ours that are left.
    pub(super) fn areas(&self) -> usize {
        self.fake.machine().space.mappings().iter().filter(|mapping| crate::area::is_ours(mapping)).count()
    }

    /// Leaves, and checks what must be true of any leaving with nothing in its way.
    pub(super) fn leave(&mut self) -> Left {
        let left = self.engine.leave().unwrap();
        assert!(left.verified, "{left:?}");
        assert!(self.is_text_original());
        assert_eq!(left.left_mapped, self.areas(), "{left:?}");
        self.check_program();
        left
    }

    /// Every task that is left goes on as if nobody had ever been here: it reaches MAIN, with the sums that its rounds give.
    pub(super) fn check_program(&self) {
        let mut machine = self.fake.machine();
        assert_eq!(machine.violations, Vec::<String>::new());
        machine.calls_sleep = false;
        for tid in machine.tasks.keys().copied().collect::<Vec<_>>() {
            if !matches!(machine.task(tid).run, Run::Running) {
                continue;
            }
            machine.wake(tid);
            for _ in 0..2000 {
                if machine.task(tid).registers.pc() == MAIN {
                    break;
                }
                assert!(machine.step(tid), "{tid} stands at {}", machine.task(tid).registers.pc());
            }
            let registers = machine.task(tid).registers.clone();
            assert_eq!(registers.pc(), MAIN, "{tid}");
            let rounds = registers.get(slot(Register::RBX));
            let sums =
                [Register::R12, Register::R13, Register::R14, Register::R15].map(|r| registers.get(slot(r)));
            assert_eq!(sums, [7 * rounds, rounds, rounds, rounds], "{tid} after {rounds} rounds");
            let moved = if rounds > 0 { MOVED } else { 0 };
            let neighbours = [Register::R8, Register::R9].map(|r| registers.get(slot(r)));
            assert_eq!(neighbours, [rounds.wrapping_mul(128).wrapping_neg(), moved], "{tid}");
            assert_eq!(registers.sp(), stack(tid).start + 0x3000);
        }
    }

    /// How often all tasks have carried out a site's instruction (they stand at MAIN).
    pub(super) fn rounds(&self) -> u64 {
        let machine = self.fake.machine();
        machine.tasks.values().map(|task| task.registers.get(slot(Register::RBX))).sum()
    }

    pub(super) fn rounds_of(&self, tid: Tid) -> u64 {
        self.fake.machine().task(tid).registers.get(slot(Register::RBX))
    }
}

/// A signal that another process queued, with a value to know it by.
pub(super) fn queued(signal: i32, value: u64) -> SigInfo {
    SigInfo::new(signal, libc::SI_QUEUE, value)
}

pub(super) const LEADER: Tid = Tid(GROUP);
pub(super) const SECOND: Tid = Tid(GROUP + 1);

/// The end of a task.
pub(super) const EXITED: Event = Event::Exited(0);
