//! Plain text for `xol explain` and `xol coherence`.

use std::fmt::{self, Display, Formatter};

use crate::cache::{
    Aliasing, Allowed, Caches, Coherence, Completes, DebuggerWriteCare, Effect, Finds, Index, Means,
    Operation, Scope, SystemCall, Tag,
};
use crate::cite::Citation;
use crate::procedure::{
    Action, Part, Procedure, Requirement, Runner, Situation, Step, Unfit, Verdict, Way, Writer,
};
use crate::{Architecture, Description, Variant};

impl Display for Architecture {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(crate::description(*self).name)
    }
}

impl Display for Description {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.name, self.isas.join(", "))?;
        self.variants.iter().try_for_each(|variant| write!(f, "\n{variant}"))
    }
}

impl Display for Variant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "caches: {} ({})", self.name, self.what)?;
        write!(f, "{}", self.caches)?;
        writeln!(f, "\noperations")?;
        for operation in self.operations {
            write!(f, "{operation}")?;
        }
        for writer in Writer::ALL {
            for situation in Situation::ALL {
                writeln!(f, "\n{situation}, written by {writer}")?;
                match self.procedures.of(writer).of(situation) {
                    Verdict::Fit(procedure) => write!(f, "{procedure}")?,
                    Verdict::Unfit(unfit) => unfit_line(f, unfit)?,
                }
            }
        }
        Ok(())
    }
}

fn unfit_line(f: &mut Formatter<'_>, unfit: &Unfit) -> fmt::Result {
    prose(f, "  never: ", "    ", unfit.why)?;
    sources(f, "    ", unfit.citations)
}

impl Display for Caches {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let instruction = &self.instruction;
        writeln!(f, "  instruction: {}, {}, {}", instruction.coherence, instruction.index, instruction.tag)?;
        sources(f, "    ", instruction.citations)?;
        let write_back = match self.data.fetch_needs_write_back {
            true => "fetch needs a write-back",
            false => "fetch needs no write-back",
        };
        writeln!(f, "  data: {}, {write_back}", self.data.aliasing)?;
        sources(f, "    ", self.data.citations)?;
        let (own, other) = (self.prefetch.sees_own_stores, self.prefetch.sees_other_stores);
        writeln!(f, "  fetched ahead: own stores {}, other stores {}", seen(own), seen(other))?;
        sources(f, "    ", self.prefetch.citations)?;
        let switch = &self.context_switch;
        writeln!(
            f,
            "  context switch: {} between address spaces, {} within one; address-space numbers {}",
            synchronises(switch.synchronises_between_spaces),
            synchronises(switch.synchronises_within_space),
            if switch.keeps_space_number { "are kept" } else { "change" },
        )?;
        if switch.synchronises_if_prepared {
            writeln!(f, "    synchronises after a kernel thread, if the program registered for it")?;
        }
        sources(f, "    ", switch.citations)?;
        writeln!(f, "  return to the program: {}", self.kernel_exit.note)?;
        sources(f, "    ", self.kernel_exit.citations)?;
        self.debugger_write.iter().try_for_each(|care| write!(f, "{care}"))
    }
}

impl Display for DebuggerWriteCare {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let first = format!("  write by a debugger (kernels: {}): ", self.kernels.text);
        prose(f, &first, "    ", self.note)?;
        for step in self.steps {
            writeln!(f, "    {}: {} on {}", step.means, effects(step.effects), step.scope)?;
        }
        if let Some(hole) = self.hole {
            prose(f, "    but: ", "      ", hole)?;
        }
        sources(f, "    ", self.citations)
    }
}

fn effects(effects: &[Effect]) -> String {
    if effects.is_empty() {
        return "does nothing by itself".to_owned();
    }
    let texts: Vec<String> = effects.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

fn seen(yes: bool) -> &'static str {
    if yes { "seen" } else { "not seen" }
}

fn synchronises(yes: bool) -> &'static str {
    if yes { "synchronises" } else { "does not synchronise" }
}

impl Display for Operation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}: {} on {}, by {}", self.means, effects(self.effects), self.scope, self.allowed)?;
        let finds = match self.finds {
            Finds::Everything => None,
            other => Some(other),
        };
        if let Some(finds) = finds {
            writeln!(f, "    finds {finds}; done {}", self.completes)?;
        }
        prose(f, "    ", "    ", self.note)?;
        sources(f, "    ", self.citations)
    }
}

impl Display for Procedure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        prose(f, "  given: ", "    ", self.given)?;
        self.ways.iter().try_for_each(|way| write!(f, "{way}"))
    }
}

impl Display for Way {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.requires {
            [] => writeln!(f, "  with nothing required")?,
            requires => {
                let names: Vec<String> = requires.iter().map(ToString::to_string).collect();
                writeln!(f, "  with {}", names.join(" and "))?;
            }
        }
        for (number, step) in (1..).zip(self.steps) {
            writeln!(f, "    {number}. {step}")?;
            prose(f, "       because ", "       ", step.why)?;
            if let Some(spare) = step.spare {
                prose(f, "       belt and braces: ", "       ", spare)?;
            }
            sources(f, "       ", step.citations)?;
        }
        Ok(())
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.by, self.action)
    }
}

/// Columns that running text is broken at.
const WIDTH: usize = 110;

/// Running text, broken between words; `first` opens the first line, `indent` the others.
#[must_use]
pub fn wrap(first: &str, indent: &str, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::from(first);
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, String::from(indent)));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines
}

fn prose(f: &mut Formatter<'_>, first: &str, indent: &str, text: &str) -> fmt::Result {
    wrap(first, indent, text).iter().try_for_each(|line| writeln!(f, "{line}"))
}

fn sources(f: &mut Formatter<'_>, indent: &str, citations: &[Citation]) -> fmt::Result {
    citations.iter().try_for_each(|citation| writeln!(f, "{indent}[{citation}]"))
}

/// Implements `Display` by a table of texts, so that each value's name stands on one line.
macro_rules! texts {
    ($($type:ty { $($pattern:pat => $text:expr),+ $(,)? })+) => {$(
        impl Display for $type {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($pattern => $text),+ })
            }
        }
    )+};
}

texts! {
    Coherence {
        Self::Snooped => "sees every store",
        Self::SnoopedRemotely => "sees stores of other CPUs only",
        Self::None => "sees no store",
    }
    Index {
        Self::Physical => "indexed physically",
        Self::Virtual => "indexed virtually",
    }
    Tag {
        Self::Physical => "tagged physically",
        Self::Virtual => "tagged virtually",
        Self::VirtualWithSpaceNumber => "tagged virtually with an address-space number",
    }
    Scope {
        Self::ThisCpu => "this CPU",
        Self::EveryCpuOfSpace => "every CPU of the address space",
        Self::CpusRunningSpace => "the CPUs that run the address space now",
        Self::EveryCpu => "every CPU",
        Self::OtherCpus => "every other CPU",
        Self::AddressSpace => "the address space",
    }
    Finds {
        Self::OwnAddress => "the lines of its own address",
        Self::WrittenAddress => "the lines of the address it was written through",
        Self::ExecutingAddress => "the lines of the program's address",
        Self::Everything => "all lines",
    }
    Completes {
        Self::AtOnce => "at once",
        Self::ByBarrier => "when a barrier says so",
    }
    Effect {
        Self::DropPrefetched => "drops what was fetched ahead",
        Self::WriteBackData => "writes data lines back",
        Self::InvalidateInstructions => "drops instruction lines",
        Self::Complete => "completes what was begun",
        Self::RenewSpaceNumber => "gives the address space a new number",
        Self::ReplacePage => "puts another page in the place",
        Self::MarkPage => "marks the page",
        Self::Prepare => "prepares",
        Self::Protect => "changes access rights",
    }
    Allowed {
        Self::User => "any program",
        Self::Tracer => "the tracer",
        Self::Kernel => "the kernel only",
        Self::ForbiddenByAbi => "nobody: the ABI forbids it",
    }
    SystemCall {
        Self::MembarrierRegisterSyncCore => "membarrier(REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)",
        Self::MembarrierSyncCore => "membarrier(PRIVATE_EXPEDITED_SYNC_CORE)",
        Self::MprotectReadExecute => "mprotect(PROT_READ | PROT_EXEC)",
        Self::MprotectTwice => "mprotect(PROT_READ), then mprotect(PROT_READ | PROT_EXEC)",
        Self::Cacheflush => "cacheflush(range)",
        Self::RiscvFlushIcache => "riscv_flush_icache(range, 0)",
        Self::RiscvAllowFence => "prctl(PR_RISCV_SET_ICACHE_FLUSH_CTX, ON, PER_PROCESS)",
    }
    Writer {
        Self::DebuggerWrite => "/proc/PID/mem or PTRACE_POKETEXT",
        Self::StoreThroughAlias => "a store through another mapping",
        Self::ProcessVmWritev => "process_vm_writev",
        Self::TargetStore => "a store of the target itself",
    }
    Situation {
        Self::FreshCode => "code that nobody can reach yet",
        Self::LiveTextStopped => "program text, all threads stopped",
        Self::LiveTextRunning => "program text, threads running",
        Self::OwnBreakpoint => "a breakpoint in our own area",
    }
    Requirement {
        Self::MembarrierSyncCore => "membarrier SYNC_CORE",
        Self::RiscvFenceContext => "prctl PR_RISCV_SET_ICACHE_FLUSH_CTX",
    }
    Runner {
        Self::Writer => "writer",
        Self::StoppedThread => "one stopped thread of the target",
        Self::EveryThread => "every thread of the target",
        Self::EveryCpu => "a thread of the target on every CPU",
        Self::WriterOnEveryCpu => "writer on every CPU",
    }
    Part {
        Self::All => "all bytes",
        Self::Breakpoint => "the breakpoint over the first unit, in one store",
        Self::Tail => "all bytes behind the first unit",
        Self::FirstUnit => "the first unit of the new code, in one store",
    }
}

impl Display for Aliasing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no aliases"),
            Self::Colours(bytes) => write!(f, "aliases unless addresses agree modulo {bytes}"),
        }
    }
}

impl Display for Means {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::SystemCall(call) => write!(f, "{call}"),
            Self::Instruction(name) | Self::Kernel(name) => write!(f, "`{name}`"),
            Self::ReadBack => f.write_str("read the bytes back through /proc/PID/mem"),
            Self::Visit => f.write_str("run there, by sched_setaffinity"),
            Self::ResumeByIret => f.write_str("set RF, so that the kernel returns by `iret`"),
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::StopAllThreads => f.write_str("stop all threads"),
            Self::EmptySpan => f.write_str("move every thread out of the bytes"),
            Self::Write(part) => write!(f, "write {part}"),
            Self::Perform(means) => write!(f, "{means}"),
            Self::PublishBy(situation) => write!(f, "make it reachable only as for \"{situation}\""),
            Self::ResumeAllThreads => f.write_str("let all threads go on"),
        }
    }
}
