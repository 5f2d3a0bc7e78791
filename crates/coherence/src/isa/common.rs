//! What is the same on several architectures: caches that see every store, what a switch of threads usually does, the
//! steps by which text is written while all threads are stopped, and the reasons why a writer may not be used.

use crate::cache::{
    Aliasing, Allowed, Caches, Coherence, Completes, ContextSwitch, DataCache, DebuggerWriteCare, Effect,
    Finds, Index, InstructionCache, KernelExit, Kernels, Mapping, Means, Operation, Prefetch, Scope,
    SystemCall, Tag,
};
use crate::cite::Citation;
use crate::procedure::{
    Action, Part, Procedure, Procedures, Runner, Situation, Situations, Step, Unfit, Verdict, Way,
};

/// The discussion that this crate answers.
pub(super) const THREAD: Citation = Citation::Discussion {
    title: "[RFC] uprobes: copy to user-space xol page with proper cache flushing (linux-kernel, 2014)",
};
pub(super) const CACHETLB: Citation =
    Citation::Kernel { path: "Documentation/core-api/cachetlb.rst", symbol: "copy_to_user_page" };
pub(super) const ACCESS_REMOTE_VM: Citation =
    Citation::Kernel { path: "mm/memory.c", symbol: "__access_remote_vm" };
const CLONE_VM: Citation = Citation::Kernel { path: "kernel/fork.c", symbol: "copy_mm" };
const PROCESS_VM: Citation =
    Citation::Kernel { path: "mm/process_vm_access.c", symbol: "process_vm_rw_single_vec" };
const FILE_MAPPING: Citation = Citation::Kernel { path: "mm/memory.c", symbol: "do_wp_page" };
const CHANGE_PROTECTION: Citation = Citation::Kernel { path: "mm/mprotect.c", symbol: "change_protection" };

pub(super) const PROTECT: Means = Means::SystemCall(SystemCall::MprotectReadExecute);
pub(super) const PROTECT_OPERATION: Operation = Operation {
    means: PROTECT,
    effects: &[Effect::Protect],
    scope: Scope::EveryCpuOfSpace,
    finds: Finds::Everything,
    completes: Completes::AtOnce,
    allowed: Allowed::User,
    note: "flushes TLBs; no promise about caches, except where a new address-space number comes with it",
    citations: &[CHANGE_PROTECTION],
};

/// What a switch of threads does on most: what was fetched ahead goes with a change of address spaces, and no more.
pub(super) const SWITCH: ContextSwitch = ContextSwitch {
    synchronises_between_spaces: true,
    synchronises_within_space: false,
    keeps_space_number: true,
    number_reuse_flushes: true,
    flushes_between_spaces: false,
    flushes_if_prepared: false,
    synchronises_if_prepared: false,
    completes_maintenance: true,
    citations: &[],
};

/// The kernel copies, and cares for no cache.
pub(super) const PLAIN_COPY: DebuggerWriteCare = DebuggerWriteCare {
    kernels: Kernels::ALL,
    at_executing_colour: true,
    before: &[],
    steps: &[],
    hole: None,
    note: "a plain copy",
    citations: &[ACCESS_REMOTE_VM, CACHETLB],
};

/// Caches that see every store, as `coherent` says; each return from the kernel drops what was fetched ahead (`prefetched`),
/// as `note` and `synchronised` say.
pub(super) const fn snooping(
    index: Index,
    coherent: &'static [Citation],
    prefetched: &'static [Citation],
    note: &'static str,
    synchronised: &'static [Citation],
) -> Caches {
    Caches {
        instruction: InstructionCache {
            coherence: Coherence::Snooped,
            index,
            tag: Tag::Physical,
            citations: coherent,
        },
        data: DataCache { aliasing: Aliasing::None, fetch_needs_write_back: false, citations: coherent },
        prefetch: Prefetch { sees_own_stores: false, sees_other_stores: false, citations: prefetched },
        context_switch: ContextSwitch { citations: synchronised, ..SWITCH },
        kernel_exit: KernelExit {
            always_synchronises: true,
            interrupts_synchronise: true,
            note,
            citations: synchronised,
        },
        mapping: Mapping {
            makes_marked_pages_agree: false,
            tlb_flush_renews_number: false,
            citations: &[CACHETLB],
        },
        debugger_write: &[PLAIN_COPY],
        is_smp: true,
    }
}

/// What is done on such caches.
pub(super) const SNOOPING: Procedures = procedures(
    DEBUGGER,
    fresh(&[way(&[WRITE, PUBLISH])]),
    breakpoint(&[way(&[STOP, WRITE_ONE, RESUME])]),
    stored(&[way(&[WRITE, PROTECTED, PUBLISH])]),
);

/// A function of the kernel, as far as it concerns caches.
pub(super) const fn kernel(
    name: &'static str,
    effects: &'static [Effect],
    scope: Scope,
    finds: Finds,
    completes: Completes,
    citations: &'static [Citation],
) -> Operation {
    let note = "part of what the kernel does for a debugger's write";
    Operation {
        means: Means::Kernel(name),
        effects,
        scope,
        finds,
        completes,
        allowed: Allowed::Kernel,
        note,
        citations,
    }
}

/// An instruction that any program may execute.
pub(super) const fn instruction(
    name: &'static str,
    effects: &'static [Effect],
    scope: Scope,
    finds: Finds,
    completes: Completes,
    note: &'static str,
    citations: &'static [Citation],
) -> Operation {
    let means = Means::Instruction(name);
    Operation { means, effects, scope, finds, completes, allowed: Allowed::User, note, citations }
}

/// A step that performs something.
pub(super) const fn perform(
    by: Runner,
    means: Means,
    why: &'static str,
    citations: &'static [Citation],
) -> Step {
    Step { by, action: Action::Perform(means), why, citations, spare: None }
}

/// The target's thread drops the instruction lines of the code.
pub(super) const fn invalidate(instruction: &'static str, citations: &'static [Citation]) -> Step {
    perform(
        Runner::StoppedThread,
        Means::Instruction(instruction),
        "instruction lines do not see stores: one that was filled before holds the old bytes for ever",
        citations,
    )
}

/// The barrier behind that.
pub(super) const fn invalidated(instruction: &'static str, citations: &'static [Citation]) -> Step {
    perform(
        Runner::StoppedThread,
        Means::Instruction(instruction),
        "until the invalidation is complete another CPU may still hit the old line",
        citations,
    )
}

pub(super) const STOP: Step = Step {
    by: Runner::Writer,
    action: Action::StopAllThreads,
    why: "a CPU that executes bytes while they change may see any mixture of old and new, and one that runs on may have \
          fetched old bytes ahead",
    citations: &[CLONE_VM, CACHETLB],
    spare: None,
};
pub(super) const EMPTY: Step = Step {
    by: Runner::Writer,
    action: Action::EmptySpan,
    why: "a thread stopped between two old instructions would go on in the middle of the new code",
    citations: &[CLONE_VM],
    spare: None,
};
pub(super) const WRITE: Step = Step {
    by: Runner::Writer,
    action: Action::Write(Part::All),
    why: "the bytes, and whatever care the kernel takes for a write of this kind",
    citations: &[ACCESS_REMOTE_VM, CACHETLB],
    spare: None,
};
pub(super) const WRITE_ONE: Step = Step {
    by: Runner::Writer,
    action: Action::Write(Part::FirstUnit),
    why: "one instruction, and whatever care the kernel takes for a write of this kind",
    citations: &[ACCESS_REMOTE_VM, CACHETLB],
    spare: None,
};
pub(super) const RESUME: Step = Step {
    by: Runner::Writer,
    action: Action::ResumeAllThreads,
    why: "each thread returns from the kernel, which drops what its CPU fetched ahead",
    citations: &[CLONE_VM],
    spare: None,
};
pub(super) const PROTECTED: Step = Step {
    by: Runner::StoppedThread,
    action: Action::Perform(PROTECT),
    why: "no mapping is writable and executable at once",
    citations: &[CHANGE_PROTECTION],
    spare: None,
};
pub(super) const PUBLISH: Step = Step {
    by: Runner::Writer,
    action: Action::PublishBy(Situation::LiveTextStopped),
    why: "a CPU may have fetched the place ahead; the jump that leads here is written with all threads stopped, and \
          their return from the kernel serves both",
    citations: &[THREAD],
    spare: None,
};

const COVERED: Option<&str> = Some(
    "on these caches nothing fetched ahead outlives what was done for the write: each CPU was interrupted for it, or \
     there is only one and it came through the kernel; it is done all the same, as everywhere",
);
pub(super) const PUBLISH_SPARE: Step = Step { spare: COVERED, ..PUBLISH };
pub(super) const STOP_SPARE: Step = Step { spare: COVERED, ..STOP };

/// Ways that need nothing of kernel and target.
pub(super) const fn way(steps: &'static [Step]) -> Way {
    Way { requires: &[], steps }
}

/// Code that nobody can reach yet.
pub(super) const fn fresh(ways: &'static [Way]) -> Verdict {
    Verdict::Fit(Procedure {
        given: "no branch, saved PC, signal frame or stack word leads to the place, now or from an earlier use, and no \
                child of a fork shares a page that is written through another mapping",
        ways,
    })
}

/// Code that a thread of the target stores.
pub(super) const fn stored(ways: &'static [Way]) -> Verdict {
    Verdict::Fit(Procedure {
        given: "the place is mapped read-write and not executable, and nothing leads there",
        ways,
    })
}

/// Text with all threads stopped.
pub(super) const fn stopped(ways: &'static [Way]) -> Verdict {
    Verdict::Fit(Procedure {
        given: "all threads of the address space are seized, and the code that the new bytes lead to is written",
        ways,
    })
}

/// One instruction of our own area.
pub(super) const fn breakpoint(ways: &'static [Way]) -> Verdict {
    Verdict::Fit(Procedure {
        given: "the instruction has the size of a breakpoint, and whoever executes the old or the new one is served \
                rightly",
        ways,
    })
}

/// What a debugger's write may be used for.
pub(super) const fn debugger(fresh: Verdict, stopped: Verdict, breakpoint: Verdict) -> Situations {
    Situations {
        fresh_code: fresh,
        live_text_stopped: stopped,
        live_text_running: Verdict::Unfit(NOT_RUNNING),
        own_breakpoint: breakpoint,
    }
}

/// What the other writers may be used for, and the whole.
pub(super) const fn procedures(
    debugger_write: Situations,
    alias_fresh: Verdict,
    alias_breakpoint: Verdict,
    target_fresh: Verdict,
) -> Procedures {
    Procedures {
        debugger_write,
        store_through_alias: Situations {
            fresh_code: alias_fresh,
            live_text_stopped: Verdict::Unfit(TEXT_IS_SHARED),
            live_text_running: Verdict::Unfit(TEXT_IS_SHARED),
            own_breakpoint: alias_breakpoint,
        },
        process_vm_writev: Situations {
            fresh_code: Verdict::Unfit(NO_FORCE),
            live_text_stopped: Verdict::Unfit(NO_FORCE),
            live_text_running: Verdict::Unfit(NO_FORCE),
            own_breakpoint: Verdict::Unfit(NO_FORCE),
        },
        target_store: Situations {
            fresh_code: target_fresh,
            live_text_stopped: Verdict::Unfit(WRITABLE_TEXT),
            live_text_running: Verdict::Unfit(WRITABLE_TEXT),
            own_breakpoint: Verdict::Unfit(WRITABLE_TEXT),
        },
    }
}

/// What a debugger's write is used for where the kernel's care is enough.
pub(super) const DEBUGGER: Situations = debugger(
    fresh(&[way(&[WRITE, PUBLISH])]),
    stopped(&[way(&[STOP, EMPTY, WRITE, RESUME])]),
    breakpoint(&[way(&[STOP, WRITE_ONE, RESUME])]),
);

/// The same, where a single instruction and code not yet reachable would not need the threads to be stopped.
pub(super) const DEBUGGER_SPARE: Situations = debugger(
    fresh(&[way(&[WRITE, PUBLISH_SPARE])]),
    stopped(&[way(&[STOP, EMPTY, WRITE, RESUME])]),
    breakpoint(&[way(&[STOP_SPARE, WRITE_ONE, RESUME])]),
);

pub(super) const TEXT_IS_SHARED: Unfit = Unfit {
    why: "an alias of program text is the file itself, which other processes run too",
    citations: &[FILE_MAPPING],
};
pub(super) const NO_FORCE: Unfit = Unfit {
    why: "process_vm_writev writes only where the target itself may write, and code is never writable there; nor does \
          it care for instruction caches",
    citations: &[PROCESS_VM],
};
pub(super) const WRITABLE_TEXT: Unfit = Unfit {
    why: "the target could store there only while the code is writable and executable at once",
    citations: &[CHANGE_PROTECTION],
};
const NOT_RUNNING: Unfit = Unfit {
    why: "several instructions of running code are changed on x86 only; elsewhere the threads are stopped",
    citations: &[CLONE_VM],
};
