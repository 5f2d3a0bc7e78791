//! Which run is it: caches, writer, steps, CPUs and threads.

use crate::Variant;
use crate::cache::{Caches, DebuggerWriteCare, Operation};
use crate::procedure::{Action, Runner, Situation, Step, Way, Writer};

use super::state::{CPUS, LINES, THREADS};

/// One thing to be done: a step of the procedure, or of the one that publishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Who.
    pub by: Runner,
    /// What.
    pub action: Action,
}

/// The circumstances of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// CPUs, at most 3.
    pub cpus: usize,
    /// Cache lines of the code, at most 2; one of them is enough where no mixture can be.
    pub lines: usize,
    /// Threads that may execute the code, at most 3.
    pub threads: usize,
    /// The last of them belongs to a forked child that shares the page.
    pub has_child: bool,
    /// The page is mapped when it begins; else a page fault maps it some time.
    pub is_mapped: bool,
    /// The page is executable when it begins.
    pub is_executable: bool,
    /// The threads make system calls, from which they may return on another CPU; else only interrupts stop them.
    pub may_call: bool,
    /// The program may fork, so that a private page is shared until it is written.
    pub may_fork: bool,
}

impl Setup {
    /// What is enough for these caches: two CPUs tell local from broadcast, two threads tell one's own from another's.
    #[must_use]
    pub fn of(caches: &Caches) -> Self {
        let cpus = if caches.is_smp { 2 } else { 1 };
        Self {
            cpus,
            lines: LINES,
            threads: 2,
            has_child: false,
            is_mapped: true,
            is_executable: true,
            may_call: true,
            may_fork: true,
        }
    }

    pub(super) fn is_within_bounds(&self) -> bool {
        (1..=CPUS).contains(&self.cpus)
            && (1..=LINES).contains(&self.lines)
            && (1..=THREADS).contains(&self.threads)
    }
}

/// All that decides what may happen.
#[derive(Clone, Debug)]
pub struct Run {
    /// The caches.
    pub caches: Caches,
    /// What the steps' means do.
    pub operations: Vec<Operation>,
    /// What the kernel does after a debugger's write.
    pub care: Option<DebuggerWriteCare>,
    /// Who writes.
    pub writer: Writer,
    /// What is written over.
    pub situation: Situation,
    /// What is done, in this order; the new code is promised when all of it is.
    pub stages: Vec<Stage>,
    /// The circumstances.
    pub setup: Setup,
}

impl Run {
    /// The run of a way's stages, with the newest kernel.
    #[must_use]
    pub fn new(variant: &Variant, writer: Writer, situation: Situation, stages: Vec<Stage>) -> Self {
        Self {
            caches: variant.caches,
            operations: variant.operations.to_vec(),
            care: variant.caches.debugger_write.first().copied(),
            writer,
            situation,
            stages,
            setup: Setup { is_executable: writer != Writer::TargetStore, ..Setup::of(&variant.caches) },
        }
    }

    /// Cache lines that matter: a breakpoint is one unit.
    #[must_use]
    pub fn lines(&self) -> usize {
        if self.situation == Situation::OwnBreakpoint { 1 } else { self.setup.lines }
    }

    /// What a step's means do.
    pub(super) fn operation(&self, means: crate::Means) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.means == means)
    }
}

/// The stages of some steps. Where code is published by another way, that way's stages stand in its place, without its
/// writing and the care for what it writes: that is a jump, somewhere else, which makes its end the moment of publication.
#[must_use]
pub fn stages<'a>(
    variant: &Variant,
    steps: impl Iterator<Item = &'a Step>,
    published_by: Option<&Way>,
) -> Vec<Stage> {
    let mut stages = Vec::new();
    for step in steps {
        match step.action {
            Action::PublishBy(_) => {
                stages.extend(published_by.into_iter().flat_map(|way| publication(variant, way)))
            }
            action => stages.push(Stage { by: step.by, action }),
        }
    }
    stages
}

fn publication(variant: &Variant, way: &Way) -> impl Iterator<Item = Stage> {
    let serves_both = |step: &&Step| match step.action {
        Action::Write(_) | Action::EmptySpan => false,
        Action::Perform(means) => {
            variant.operation(means).is_some_and(|operation| !operation.is_maintenance())
        }
        _ => true,
    };
    way.steps.iter().filter(serves_both).map(|step| Stage { by: step.by, action: step.action })
}
