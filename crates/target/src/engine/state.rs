//! The engine's state: what is installed, what was, and who is on the way through it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use coherence::Description as Coherence;
use insn::Address;
use program::layout::Layout;
use program::stub::{Routines, Stub};
use program::threads::Table;

use super::change::Patched;
use super::dispositions::Dispositions;
use super::drain::Drain;
use super::frames::MovedFrames;
use super::inherit::Inherited;
use super::leave::Left;
use crate::error::TargetError;
use crate::seam::{Event, Resume, Target, Tid};
use crate::state::State;
use crate::sys::ptrace::SigInfo;

/// Something the front has to know.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A thread stands at a notifying site (the loader's), and waits for [`Engine::go`].
    Library(Tid),
    /// Something the user should know.
    Warning(String),
}

/// A new address space that came out of this one.
pub struct Born<T: Target> {
    /// By fork: it runs, with the parent's probes. Else by exec: it is held at its first instruction, with none.
    pub forked: bool,
    /// It.
    pub engine: Box<Engine<T>>,
    /// Its only thread.
    pub tid: Tid,
}

/// Times and counts for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Time the whole target stood still, in all.
    pub stopped: Duration,
    /// The longest of those times.
    pub longest_stop: Duration,
    /// Threads that ran into an interior boundary and were moved to their copy.
    pub strays: u64,
    /// Hits of breakpoints.
    pub traps: u64,
    /// Signals that found a thread in the area.
    pub held_signals: u64,
    /// Saved PCs in signal frames that were moved with the text.
    pub frames: u64,
    /// Most threads seen at once.
    pub threads: usize,
}

/// What an address that raises a trap of ours means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boundary {
    /// The stub that has the copy.
    pub(super) stub: Address,
    /// Whether the patch is in the text now.
    pub(super) live: bool,
    /// Whether the front wants to know of each arrival (the loader's breakpoint).
    pub(super) notify: bool,
}

/// Everything xol has done to one address space.
pub struct Engine<T: Target> {
    /// The address space.
    pub target: T,
    pub(super) layout: Option<Layout>,
    pub(super) shared: Option<State>,
    /// Who has which thread slot.
    pub(super) slots: Option<Table>,
    pub(super) state_file: Option<std::fs::File>,
    /// Where the shared state and its length are in the target.
    pub(super) state_at: Option<(Address, u64)>,
    pub(super) description_at: Option<(Address, u64)>,
    /// Which of the description's two tables is in use.
    pub(super) second_table: bool,
    /// Descriptors of the area's files that a killed tracer had no time to close in the target.
    pub(super) left_open: Vec<u64>,
    /// Every mapping made: start and length.
    pub(super) mapped: BTreeMap<Address, u64>,
    /// Mappings that an earlier xol left.
    pub(super) inherited: Vec<Inherited>,
    pub(super) routines: Vec<Routines>,
    /// All stubs ever written, by address: a retired one may still be run through.
    pub(super) stubs: BTreeMap<Address, Stub>,
    /// Only one task has run here since the first stub was written, and they hold the bodies for such ([`Stub::alone`]).
    pub(super) alone: bool,
    /// Such bodies stand in the stubs though several tasks run: no stopped world was found yet in which nobody was in one.
    pub(super) late: bool,
    /// Patches in the text, by start.
    pub(super) patches: BTreeMap<Address, Patched>,
    /// Islands in the text, and the site that leads to each.
    pub(super) islands: BTreeMap<Address, Address>,
    /// Addresses that trap, or did: never forgotten, the newest last. A fault may be reported after the bytes were restored.
    pub(super) boundaries: HashMap<Address, Vec<Boundary>>,
    /// Threads put back to a retired address since the text last changed: what traps there again is the program's own.
    pub(super) put_back: BTreeSet<(Tid, Address)>,
    pub(super) dispositions: Dispositions,
    /// PCs in signal frames that lead into stubs because we moved them there.
    pub(super) moved_frames: MovedFrames,
    /// Threads that run to the end of a stub before they get a signal.
    pub(super) draining: HashMap<Tid, Drain>,
    /// How often each thread asked for a slot.
    pub(super) asked: HashMap<Tid, u32>,
    /// Threads that wait for the front.
    pub(super) held: BTreeSet<Tid>,
    /// Signals whose SIG_IGN our traps cost and that is not back yet.
    pub(super) owed: BTreeSet<i32>,
    /// Threads that wait for it.
    pub(super) owed_to: BTreeSet<Tid>,
    /// Did not answer, but cannot run before they do: they wait in the kernel with our interrupt pending.
    pub(super) parked: BTreeSet<Tid>,
    /// CLONE_VM children: they share the text until their exec, and are no threads of the process.
    pub(super) guests: BTreeSet<Tid>,
    /// When the world was stopped; `None` while it runs.
    pub(super) stopped_since: Option<Instant>,
    pub(super) membarrier: bool,
    /// A system-call filter is in the way: only `mmap`, `munmap` and `rt_sigaction` are injected, which every program makes.
    pub(super) gentle: bool,
    /// Threads were moved to originals that are not in the text yet.
    pub(super) moved_out: bool,
    /// Signals that were sent again from outside: what their siginfo was.
    pub(super) reissued: Vec<(Tid, SigInfo)>,
    /// A copy of a state that was the target's alone, made before it went.
    pub(super) saved: Option<std::fs::File>,
    /// Tasks that have reported their end.
    pub(super) exiting: BTreeSet<Tid>,
    /// What came of leaving so far: it may take several attempts.
    pub(super) left: Left,
    /// Patches that leaving has taken out.
    pub(super) restored: Vec<Patched>,
    /// That the program changed memory of ours was said.
    pub(super) told_of_harm: bool,
    /// All text is original again: every boundary is retired.
    pub(super) all_retired: bool,
    /// Everything is taken out: whoever still stops is let go.
    pub(super) leaving: bool,
    /// Whether originals were begun to be put back, on leaving.
    pub(super) restoring: bool,
    /// How many changes were carried out, those before its fork included.
    pub changes: u32,
    pub(super) coherence: &'static Coherence,
    pub(super) owner: (i32, u64),
    /// The process that this address space belonged to when it was taken over.
    pub group: i32,
    /// The one that stands for it, as far as the front knows: another that shares the memory, once that has ended.
    pub known_as: i32,
    /// Keep forked and executed children.
    pub follow: bool,
    /// Address spaces that came out of this one since they were last taken.
    pub born: VecDeque<Born<T>>,
    /// What happened since the front last asked.
    pub notices: VecDeque<Notice>,
    /// For the summary.
    pub statistics: Statistics,
}

impl<T: Target> Engine<T> {
    /// An engine that has done nothing yet. `owner` is the tracer's pid and start time, for the area's description.
    pub fn new(target: T, coherence: &'static Coherence, owner: (i32, u64)) -> Self {
        let tasks = target.tasks();
        Self {
            group: target.group(),
            known_as: target.group(),
            guests: tasks.iter().copied().filter(|tid| !target.is_thread(*tid)).collect(),
            target,
            layout: None,
            shared: None,
            slots: None,
            state_file: None,
            state_at: None,
            description_at: None,
            second_table: false,
            left_open: Vec::new(),
            inherited: Vec::new(),
            mapped: BTreeMap::new(),
            routines: Vec::new(),
            stubs: BTreeMap::new(),
            alone: tasks.len() == 1,
            late: false,
            patches: BTreeMap::new(),
            islands: BTreeMap::new(),
            boundaries: HashMap::new(),
            put_back: BTreeSet::new(),
            dispositions: Dispositions::default(),
            moved_frames: MovedFrames::new(),
            draining: HashMap::new(),
            asked: HashMap::new(),
            held: BTreeSet::new(),
            owed: BTreeSet::new(),
            owed_to: BTreeSet::new(),
            parked: BTreeSet::new(),
            stopped_since: None,
            membarrier: false,
            gentle: false,
            moved_out: false,
            reissued: Vec::new(),
            saved: None,
            exiting: BTreeSet::new(),
            left: Left::default(),
            restored: Vec::new(),
            told_of_harm: false,
            all_retired: false,
            leaving: false,
            restoring: false,
            changes: 0,
            coherence,
            owner,
            follow: false,
            born: VecDeque::new(),
            notices: VecDeque::new(),
            statistics: Statistics { threads: tasks.len(), ..Statistics::default() },
        }
    }

    /// The stub that covers `pc`, with the offset in it.
    pub(super) fn stub_at(&self, pc: Address) -> Option<(&Stub, u32)> {
        let (start, stub) = self.stubs.range(..=pc).next_back()?;
        let offset = pc - *start;
        (offset < stub.bytes.len() as u64).then(|| Some((stub, u32::try_from(offset).ok()?)))?
    }

    /// The shared routines that cover `pc`, with the offset in them.
    pub(super) fn routines_at(&self, pc: Address) -> Option<(&Routines, u32)> {
        self.routines.iter().find_map(|routines| {
            let offset = pc.0.checked_sub(routines.at.0)?;
            (offset < routines.bytes.len() as u64).then(|| Some((routines, u32::try_from(offset).ok()?)))?
        })
    }

    /// Whether `pc` is in any mapping of ours.
    pub(super) fn in_area(&self, pc: Address) -> bool {
        self.mapped.range(..=pc).next_back().is_some_and(|(start, len)| pc - *start < *len)
    }

    /// Whether `pc` is in code of ours: in a mapping, or an island.
    pub(super) fn is_ours(&self, pc: Address) -> bool {
        self.in_area(pc) || self.islands.contains_key(&pc)
    }

    /// The newest meaning of an address that trapped.
    pub(super) fn boundary(&self, address: Address) -> Option<Boundary> {
        let newest = self.boundaries.get(&address).and_then(|all| all.last()).copied()?;
        Some(Boundary { live: newest.live && !self.all_retired, ..newest })
    }

    /// Where a thread that stands at `address` in the original text goes on in the stub `at`.
    pub(super) fn entry_in(&self, at: Address, address: Address) -> Option<Address> {
        let stub = self.stubs.get(&at)?;
        stub.entries
            .iter()
            .find(|(original, _)| *original == address)
            .map(|(_, offset)| at + u64::from(*offset))
    }

    /// The engine of a forked child: the same code in the same places, and nothing shared yet.
    pub(super) fn copy_for(&self, target: T) -> Self {
        Self {
            layout: self.layout,
            state_at: self.state_at,
            description_at: self.description_at,
            second_table: self.second_table,
            mapped: self.mapped.clone(),
            inherited: self.inherited.clone(),
            routines: self.routines.clone(),
            stubs: self.stubs.clone(),
            alone: self.alone || self.late,
            patches: self.patches.clone(),
            islands: self.islands.clone(),
            boundaries: self.boundaries.clone(),
            dispositions: self.dispositions.clone(),
            moved_frames: self.moved_frames.clone(),
            owed: self.owed.clone(),
            membarrier: self.membarrier,
            gentle: self.gentle,
            all_retired: self.all_retired,
            // Frames that were moved in the parent are in the child's stacks too.
            statistics: Statistics { frames: self.statistics.frames, ..Statistics::default() },
            follow: self.follow,
            changes: self.changes,
            ..Self::new(target, self.coherence, self.owner)
        }
    }

    /// Whether a thread waits for [`Self::go`].
    pub fn is_held(&self, tid: Tid) -> bool {
        self.held.contains(&tid)
    }

    /// Lets a stopped task run on. One that only shares our memory stops at its next system call, lest it executes another
    /// program unseen; one that job control has stopped stays so. Which stop a task stands at only the kernel knows: a call
    /// that it made for us may have ended in another one than it began in.
    pub(super) fn run(&mut self, tid: Tid, signal: i32) -> Result<(), TargetError> {
        let how = if signal == 0 && self.target.group_stop(tid).is_some() {
            Resume::Listen
        } else if self.may_be_let_go(tid) || self.may_sleep_in_drain(tid) {
            Resume::ToSyscall(signal)
        } else {
            Resume::Run(signal)
        };
        self.target.resume(tid, how)
    }

    /// Patches in the text now.
    pub fn patches(&self) -> impl Iterator<Item = &Patched> {
        self.patches.values()
    }

    /// Handles an event of a running world: [`Self::handle`] and then on.
    ///
    /// # Errors
    /// What went wrong; the thread may be gone.
    pub fn react(&mut self, tid: Tid, event: Event) -> Result<(), TargetError> {
        match self.handle(tid, event) {
            Err(TargetError::Gone { .. }) => Ok(()),
            other => other,
        }
    }
}
