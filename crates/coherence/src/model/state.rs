//! What can be told apart between two moments.
//!
//! A cache line is never "absent" here. A line may be dropped and filled again at any time, so one that is absent and
//! one that holds what a fill would bring lead to the same executions; the second stands for both. The same goes for
//! bytes fetched ahead. This halves the state of each line and loses nothing.

/// Most CPUs of a machine.
pub(super) const CPUS: usize = 3;
/// Most threads of a target.
pub(super) const THREADS: usize = 3;
/// Cache lines of the code, one unit of it in each.
pub(super) const LINES: usize = 2;
/// Address spaces that may execute the code: the target's, and a child's that shares the page.
pub(super) const SPACES: usize = 2;
/// Numbers that an address space may have on a CPU before they are given out anew.
const NUMBERS: usize = 2;
/// Lines that differ by tag only.
pub(super) const TAGS: usize = SPACES * NUMBERS;

/// The contents of a unit of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Code {
    Old,
    New,
    Breakpoint,
}

/// Colours of data-cache lines: the address where the code is executed, and the other one.
pub(super) const EXECUTING: usize = 0;
pub(super) const ALIAS: usize = 1;

/// A modified data line, and the CPU in whose cache it is (always 0 where no operation could tell).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Dirty {
    pub(super) code: Code,
    pub(super) owner: u8,
}

/// Whose addresses a CPU translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Space {
    Target,
    Child,
    Other,
}

impl Space {
    pub(super) fn index(self) -> usize {
        usize::from(self == Self::Child)
    }
}

/// One CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Cpu {
    /// The instruction cache: by tag and line.
    pub(super) cached: [[Code; LINES]; TAGS],
    /// Fetched but not executed.
    pub(super) ahead: [Code; LINES],
    /// The number of each address space here, and whether it is still its own.
    pub(super) number: [u8; SPACES],
    pub(super) has_number: [bool; SPACES],
    pub(super) space: Space,
    pub(super) running: Option<u8>,
    /// What is owed when it takes up the target next.
    pub(super) owes_invalidation: bool,
    pub(super) owes_synchronisation: bool,
}

/// One thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Thread {
    /// A stage that it takes by itself before it executes anything more.
    pub(super) owes: Option<u8>,
    /// Where it ran last; kept only where the kernel looks at it.
    pub(super) last: Option<u8>,
    /// It stands between the two old instructions.
    pub(super) is_inside: bool,
}

/// What went wrong, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// Something else than the old code before the new was allowed.
    Early,
    /// A mixture.
    Torn,
    /// Something else than the new code after it was promised.
    Stale,
}

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Stages done.
    pub(super) stage: u8,
    /// Within the stage: units written, or CPUs served, as a bit mask; then the kernel's steps after its copy.
    pub(super) done: u8,
    pub(super) care: u8,
    /// The CPU that the kernel's copy may not leave.
    pub(super) pinned: Option<u8>,
    pub(super) memory: [Code; LINES],
    /// Modified data lines: by colour and line.
    pub(super) dirty: [[Option<Dirty>; LINES]; 2],
    pub(super) cpus: [Cpu; CPUS],
    pub(super) threads: [Thread; THREADS],
    /// Begun and not complete, and on which CPU it was begun.
    pub(super) cleaning: [[bool; LINES]; 2],
    pub(super) invalidating: [[bool; LINES]; CPUS],
    pub(super) issuer: u8,
    pub(super) is_stopped: bool,
    pub(super) is_prepared: bool,
    pub(super) is_executable: bool,
    pub(super) is_mapped: bool,
    pub(super) is_marked: bool,
    pub(super) is_shared: bool,
    pub(super) has_begun: bool,
    pub(super) fault: Option<Fault>,
}

impl Cpu {
    /// The tag under which this CPU finds the lines of `space`.
    pub(super) fn tag(&self, space: Space) -> usize {
        let space = space.index();
        space * NUMBERS + usize::from(self.number[space])
    }
}

impl State {
    /// Everything old, all CPUs have executed it, no thread runs.
    pub(super) fn old() -> Self {
        let cpu = Cpu {
            cached: [[Code::Old; LINES]; TAGS],
            ahead: [Code::Old; LINES],
            number: [0; SPACES],
            has_number: [true; SPACES],
            space: Space::Target,
            running: None,
            owes_invalidation: false,
            owes_synchronisation: false,
        };
        Self {
            stage: 0,
            done: 0,
            care: 0,
            pinned: None,
            memory: [Code::Old; LINES],
            dirty: [[None; LINES]; 2],
            cpus: [cpu; CPUS],
            threads: [Thread::default(); THREADS],
            cleaning: [[false; LINES]; 2],
            invalidating: [[false; LINES]; CPUS],
            issuer: 0,
            is_stopped: false,
            is_prepared: false,
            is_executable: true,
            is_mapped: true,
            is_marked: false,
            is_shared: false,
            has_begun: false,
            fault: None,
        }
    }

    /// The CPU that runs a thread.
    pub(super) fn cpu_of(&self, thread: u8) -> Option<usize> {
        self.cpus.iter().position(|cpu| cpu.running == Some(thread))
    }

    /// Whether maintenance is under way.
    pub(super) fn has_outstanding(&self) -> bool {
        self.cleaning.as_flattened().contains(&true) || self.invalidating.as_flattened().contains(&true)
    }
}
