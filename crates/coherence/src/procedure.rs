//! The vocabulary of procedures: who does what, in which order, and why.

use std::fmt;

use serde::Serialize;

use crate::cache::Means;
use crate::cite::Citation;

/// How code bytes get into the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writer {
    /// `/proc/PID/mem` or `PTRACE_POKETEXT`: the kernel copies by `copy_to_user_page`, which cares for the caches of
    /// mappings that are executable at that time.
    DebuggerWrite,
    /// The tracer stores through its own shared mapping of the same pages: no care by anyone.
    StoreThroughAlias,
    /// `process_vm_writev`: a plain copy by the kernel, no care by anyone.
    ProcessVmWritev,
    /// A thread of the target stores by itself, at the address where the code will run.
    TargetStore,
}

impl Writer {
    /// All writers.
    pub const ALL: [Self; 4] =
        [Self::DebuggerWrite, Self::StoreThroughAlias, Self::ProcessVmWritev, Self::TargetStore];
}

/// What is written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Situation {
    /// A stub or slot that no thread can reach until something else is published.
    FreshCode,
    /// Program text, all threads stopped.
    LiveTextStopped,
    /// Program text, the threads running.
    LiveTextRunning,
    /// One breakpoint-sized unit of our own area, at an instruction boundary, old and new both right for whoever
    /// executes them.
    OwnBreakpoint,
}

impl Situation {
    /// All situations.
    pub const ALL: [Self; 4] =
        [Self::FreshCode, Self::LiveTextStopped, Self::LiveTextRunning, Self::OwnBreakpoint];
}

/// The verdicts for every writer: a struct, so that no combination can be missing.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each field is the writer of that name")]
pub struct Procedures {
    pub debugger_write: Situations,
    pub store_through_alias: Situations,
    pub process_vm_writev: Situations,
    pub target_store: Situations,
}

impl Procedures {
    /// The verdicts for one writer.
    #[must_use]
    pub fn of(&self, writer: Writer) -> &Situations {
        match writer {
            Writer::DebuggerWrite => &self.debugger_write,
            Writer::StoreThroughAlias => &self.store_through_alias,
            Writer::ProcessVmWritev => &self.process_vm_writev,
            Writer::TargetStore => &self.target_store,
        }
    }
}

/// The verdicts for one writer in every situation.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each field is the situation of that name")]
pub struct Situations {
    pub fresh_code: Verdict,
    pub live_text_stopped: Verdict,
    pub live_text_running: Verdict,
    pub own_breakpoint: Verdict,
}

impl Situations {
    /// The verdict in one situation.
    #[must_use]
    pub fn of(&self, situation: Situation) -> &Verdict {
        match situation {
            Situation::FreshCode => &self.fresh_code,
            Situation::LiveTextStopped => &self.live_text_stopped,
            Situation::LiveTextRunning => &self.live_text_running,
            Situation::OwnBreakpoint => &self.own_breakpoint,
        }
    }
}

/// Whether a writer may be used in a situation.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It may, like this.
    Fit(Procedure),
    /// It may not.
    Unfit(Unfit),
}

/// Why a writer may not be used in a situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Unfit {
    /// The reason, a lower-case fragment.
    pub why: &'static str,
    /// Where this can be looked up.
    pub citations: &'static [Citation],
}

impl std::error::Error for Unfit {}

/// How to make the written bytes the only ones executed: one or several ways, the best first.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Procedure {
    /// What is required of the caller before the first step, a lower-case fragment.
    pub given: &'static str,
    /// In order of preference.
    pub ways: &'static [Way],
}

impl Procedure {
    /// The best way whose requirements are all `available`; none if the procedure cannot be carried out at all.
    #[must_use]
    pub fn way(&self, available: impl Fn(Requirement) -> bool) -> Option<&'static Way> {
        self.ways.iter().find(|way| way.requires.iter().all(|requirement| available(*requirement)))
    }
}

/// One way to carry out a procedure.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Way {
    /// What the machine and the target must offer.
    pub requires: &'static [Requirement],
    /// What to do, in this order.
    pub steps: &'static [Step],
}

impl Way {
    /// The names of its steps in commands: the actions', and `-2` and so on behind one that occurs again.
    #[must_use]
    pub fn step_names(&self) -> Vec<String> {
        let name = |(index, step): (usize, &Step)| {
            let name = step.action.name();
            let before = self.steps[..index].iter().filter(|other| other.action.name() == name).count();
            if before == 0 { name.to_owned() } else { format!("{name}-{}", before + 1) }
        };
        self.steps.iter().enumerate().map(name).collect()
    }
}

/// What a way needs of kernel and target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Requirement {
    /// `membarrier` SYNC_CORE exists in the kernel and may be called in the target (no seccomp filter is in the way).
    MembarrierSyncCore,
    /// The kernel has `prctl(PR_RISCV_SET_ICACHE_FLUSH_CTX)` (6.10 and later).
    RiscvFenceContext,
}

/// One step: who does what, and why it must be so.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Step {
    /// Who.
    pub by: Runner,
    /// What.
    pub action: Action,
    /// What goes wrong without it, or why here: a lower-case fragment.
    pub why: &'static str,
    /// Where this can be looked up; never empty.
    pub citations: &'static [Citation],
    /// Why the step is there although the model finds no counterexample without it; `None` where it finds one.
    pub spare: Option<&'static str>,
}

/// Who takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runner {
    /// Whoever writes: the tracer, except for [`Writer::TargetStore`].
    Writer,
    /// One stopped thread of the target, by an injected call.
    StoppedThread,
    /// Each thread of the target, before its next instruction in program code or in our area.
    EveryThread,
    /// A thread of the target, on each CPU in turn that may execute the code.
    EveryCpu,
    /// The tracer, on each CPU in turn that may execute the code.
    WriterOnEveryCpu,
}

/// What is done in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// All threads of the address space are stopped, those of `CLONE_VM` processes too.
    StopAllThreads,
    /// Every thread stopped inside the bytes to be written is moved out; verified signal frames likewise.
    EmptySpan,
    /// Bytes are written.
    Write(Part),
    /// An operation of the description is performed.
    Perform(Means),
    /// The code may now be made reachable, by the procedure for that situation and no other way.
    PublishBy(Situation),
    /// The threads go on.
    ResumeAllThreads,
}

impl Action {
    /// Its name in commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::StopAllThreads => "stop",
            Self::EmptySpan => "empty",
            Self::Write(Part::All) => "write",
            Self::Write(Part::Breakpoint) => "write-breakpoint",
            Self::Write(Part::Tail) => "write-tail",
            Self::Write(Part::FirstUnit) => "write-first",
            Self::Perform(means) => means.name(),
            Self::PublishBy(_) => "publish",
            Self::ResumeAllThreads => "resume",
        }
    }
}

/// Which of the bytes are written in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// All of them, in any order.
    All,
    /// The breakpoint instruction over the first unit, in one store.
    Breakpoint,
    /// All but the first unit.
    Tail,
    /// The first unit of the new code, in one store.
    FirstUnit,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}
