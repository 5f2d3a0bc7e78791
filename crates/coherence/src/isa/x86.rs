//! x86, 64-bit and 32-bit.
//!
//! Caches are no concern: every store by any CPU through any mapping reaches instruction fetch. What remains is the
//! pipeline. A CPU may have fetched or decoded ahead what another CPU overwrites, and must execute a serialising
//! instruction between the store and the first execution of the new bytes. `iret` is one, `sysret` and `sysexit` are
//! not, so a thread's trip through the kernel proves nothing unless it ends in `iret` or the kernel promises more:
//! membarrier SYNC_CORE is that promise.
//!
//! Without membarrier the tracer chooses the way back itself. `sysret` cannot load RF, so the kernel leaves by `iret`
//! when RF is set in the saved flags, and ptrace may set it. Measured on Linux 6.18: with RF set at 1,000 system-call
//! exits a debug register behind the instruction hit 0 times, without it 1,000 times; `pushf` showed RF in none of
//! 20,000. Not examined: CPUs with FRED, where the kernel leaves by `eretu`.
//!
//! A 32-bit task differs in nothing that matters here: the kernel leaves by `sysretl`/`sysexit` or by `iret`, refuses
//! the first two when RF is set likewise, and offers it the same membarrier commands.

use crate::cache::{
    Aliasing, Allowed, Caches, Coherence, Completes, ContextSwitch, DataCache, DebuggerWriteCare, Effect,
    Finds, Index, InstructionCache, KernelExit, Mapping, Means, Operation, Prefetch, Scope, SystemCall, Tag,
};
use crate::cite::Citation;
use crate::procedure::{
    Action, Part, Procedure, Procedures, Requirement, Runner, Situation, Situations, Step, Unfit, Verdict,
    Way,
};
use crate::{Description, Variant};

use super::common::{PLAIN_COPY, SWITCH, TEXT_IS_SHARED};

pub(crate) static DESCRIPTION: Description = Description {
    name: "x86",
    isas: &["x86-64", "i386"],
    variants: &[Variant {
        name: "snooping",
        what: "every CPU since the Pentium",
        caches: CACHES,
        operations: OPERATIONS,
        procedures: PROCEDURES,
    }],
};

const SDM_SELF: Citation = Citation::Manual { title: "Intel SDM vol. 3A", section: "Self-Modifying Code" };
const SDM_CROSS: Citation =
    Citation::Manual { title: "Intel SDM vol. 3A", section: "Handling Self- and Cross-Modifying Code" };
const SDM_SERIALIZING: Citation =
    Citation::Manual { title: "Intel SDM vol. 3A", section: "Serializing Instructions" };
const SDM_RF: Citation =
    Citation::Manual { title: "Intel SDM vol. 3B", section: "Instruction-Breakpoint Exception Condition" };
const APM_CROSS: Citation =
    Citation::Manual { title: "AMD64 APM vol. 2", section: "Self-Modifying Code and Cross-Modifying Code" };
const COPY_TO_USER_PAGE: Citation =
    Citation::Kernel { path: "include/asm-generic/cacheflush.h", symbol: "copy_to_user_page" };
const ACCESS_REMOTE_VM: Citation = Citation::Kernel { path: "mm/memory.c", symbol: "__access_remote_vm" };
const TEXT_POKE: Citation =
    Citation::Kernel { path: "arch/x86/kernel/alternative.c", symbol: "smp_text_poke_batch_finish" };
const SYNC_CORE: Citation =
    Citation::Kernel { path: "arch/x86/include/asm/sync_core.h", symbol: "sync_core_before_usermode" };
const MEMBARRIER: Citation =
    Citation::Kernel { path: "kernel/sched/membarrier.c", symbol: "membarrier_private_expedited" };
const MEMBARRIER_REGISTER: Citation =
    Citation::Kernel { path: "kernel/sched/membarrier.c", symbol: "sync_runqueues_membarrier_state" };
const SWITCH_IN: Citation =
    Citation::Kernel { path: "include/linux/sched/mm.h", symbol: "membarrier_mm_sync_core_before_usermode" };
const SWITCH_MM: Citation = Citation::Kernel { path: "arch/x86/mm/tlb.c", symbol: "switch_mm_irqs_off" };
const SYSRET_CHECKS: Citation =
    Citation::Kernel { path: "arch/x86/entry/syscall_64.c", symbol: "do_syscall_64" };
const PTRACE_FLAGS: Citation = Citation::Kernel { path: "arch/x86/kernel/ptrace.c", symbol: "FLAG_MASK_32" };
const PROCESS_VM: Citation =
    Citation::Kernel { path: "mm/process_vm_access.c", symbol: "process_vm_rw_single_vec" };
const TLB_SHOOTDOWN: Citation = Citation::Kernel { path: "arch/x86/mm/tlb.c", symbol: "flush_tlb_mm_range" };
const CLONE_VM: Citation = Citation::Kernel { path: "kernel/fork.c", symbol: "copy_mm" };
const SYSCALL_RESTART: Citation =
    Citation::Kernel { path: "arch/x86/kernel/signal.c", symbol: "arch_do_signal_or_restart" };

const CACHES: Caches = Caches {
    instruction: InstructionCache {
        coherence: Coherence::Snooped,
        index: Index::Physical,
        tag: Tag::Physical,
        citations: &[SDM_SELF, APM_CROSS],
    },
    data: DataCache { aliasing: Aliasing::None, fetch_needs_write_back: false, citations: &[SDM_SELF] },
    prefetch: Prefetch {
        sees_own_stores: true,
        sees_other_stores: false,
        citations: &[SDM_SELF, SDM_CROSS, SYNC_CORE],
    },
    context_switch: ContextSwitch {
        synchronises_if_prepared: true,
        citations: &[SWITCH_MM, SDM_SERIALIZING, SWITCH_IN],
        ..SWITCH
    },
    kernel_exit: KernelExit {
        always_synchronises: false,
        interrupts_synchronise: true,
        note: "iret serialises; sysret and sysexit do not, and a system call may end in them",
        citations: &[SDM_SERIALIZING, SYSRET_CHECKS],
    },
    mapping: Mapping {
        makes_marked_pages_agree: false,
        tlb_flush_renews_number: false,
        citations: &[TLB_SHOOTDOWN],
    },
    debugger_write: &[DebuggerWriteCare {
        note: "a plain copy through the kernel's own mapping of the page; the flush is empty",
        citations: &[ACCESS_REMOTE_VM, COPY_TO_USER_PAGE],
        ..PLAIN_COPY
    }],
    is_smp: true,
};

const REGISTER: Means = Means::SystemCall(SystemCall::MembarrierRegisterSyncCore);
const SYNC: Means = Means::SystemCall(SystemCall::MembarrierSyncCore);
const PROTECT: Means = Means::SystemCall(SystemCall::MprotectReadExecute);

const OPERATIONS: &[Operation] = &[
    Operation {
        means: REGISTER,
        effects: &[Effect::Prepare],
        scope: Scope::AddressSpace,
        finds: Finds::Everything,
        completes: Completes::AtOnce,
        allowed: Allowed::User,
        note: "marks the address space, until exec: each CPU synchronises from then on when it comes back to it from \
               the idle thread or another kernel thread; waits for an RCU grace period where the address space has \
               several users: 15 to 96 ms measured, so never while all threads are stopped",
        citations: &[MEMBARRIER_REGISTER, SWITCH_IN],
    },
    Operation {
        means: SYNC,
        effects: &[Effect::DropPrefetched],
        scope: Scope::CpusRunningSpace,
        finds: Finds::Everything,
        completes: Completes::AtOnce,
        allowed: Allowed::User,
        note: "acts on the caller's address space, so only a thread of the target can do it; interrupts the CPUs \
               that run the space now, its own too, and leaves nothing for the others: those synchronise when they \
               switch to it, by the write to CR3 or by what the registration asked for",
        citations: &[MEMBARRIER, SYNC_CORE, SWITCH_IN],
    },
    Operation {
        means: Means::ResumeByIret,
        effects: &[Effect::DropPrefetched],
        scope: Scope::ThisCpu,
        finds: Finds::Everything,
        completes: Completes::AtOnce,
        allowed: Allowed::Tracer,
        note: "pushf never shows RF; a signal frame built before the next instruction does, as one for a fault always \
               does; a debug register at that one instruction is passed over once",
        citations: &[SYSRET_CHECKS, PTRACE_FLAGS, SDM_RF, SDM_SERIALIZING],
    },
    Operation {
        means: Means::Visit,
        effects: &[],
        scope: Scope::ThisCpu,
        finds: Finds::Everything,
        completes: Completes::AtOnce,
        allowed: Allowed::Tracer,
        note: "the CPU loads another address space, a write to CR3, now or when it comes back to the target; the tracer \
               reaches only CPUs that its cpuset allows",
        citations: &[SWITCH_MM, SDM_SERIALIZING],
    },
    Operation {
        means: Means::Instruction("cpuid"),
        effects: &[Effect::DropPrefetched],
        scope: Scope::ThisCpu,
        finds: Finds::Everything,
        completes: Completes::AtOnce,
        allowed: Allowed::User,
        note: "leaves to the hypervisor in most virtual machines; overwrites four registers",
        citations: &[SDM_SERIALIZING],
    },
    Operation {
        means: Means::Instruction("serialize"),
        effects: &[Effect::DropPrefetched],
        scope: Scope::ThisCpu,
        finds: Finds::Everything,
        completes: Completes::AtOnce,
        allowed: Allowed::User,
        note: "where CPUID reports it",
        citations: &[SDM_SERIALIZING],
    },
    Operation {
        means: PROTECT,
        effects: &[Effect::Protect],
        scope: Scope::EveryCpuOfSpace,
        finds: Finds::Everything,
        completes: Completes::AtOnce,
        allowed: Allowed::User,
        note: "a protection change alone is no promise that instructions fetched ahead are dropped",
        citations: &[TLB_SHOOTDOWN],
    },
];

const PROCEDURES: Procedures = Procedures {
    debugger_write: Situations {
        fresh_code: Verdict::Fit(FRESH),
        live_text_stopped: Verdict::Fit(STOPPED),
        live_text_running: Verdict::Fit(RUNNING),
        own_breakpoint: Verdict::Fit(BREAKPOINT),
    },
    store_through_alias: Situations {
        fresh_code: Verdict::Fit(FRESH),
        live_text_stopped: Verdict::Unfit(TEXT_IS_SHARED),
        live_text_running: Verdict::Unfit(TEXT_IS_SHARED),
        own_breakpoint: Verdict::Fit(BREAKPOINT),
    },
    process_vm_writev: Situations {
        fresh_code: Verdict::Unfit(NO_FORCE),
        live_text_stopped: Verdict::Unfit(NO_FORCE),
        live_text_running: Verdict::Unfit(NO_FORCE),
        own_breakpoint: Verdict::Unfit(NO_FORCE),
    },
    target_store: Situations {
        fresh_code: Verdict::Fit(FRESH_BY_TARGET),
        live_text_stopped: Verdict::Unfit(WRITABLE_TEXT),
        live_text_running: Verdict::Unfit(WRITABLE_TEXT),
        own_breakpoint: Verdict::Unfit(WRITABLE_TEXT),
    },
};

const NO_FORCE: Unfit = Unfit {
    why: "process_vm_writev writes only where the target itself may write, and code is never writable there",
    citations: &[PROCESS_VM],
};
const WRITABLE_TEXT: Unfit = Unfit {
    why: "the target could store there only while the code is writable and executable at once",
    citations: &[TLB_SHOOTDOWN],
};

const ALL_STOPPED: Step = Step {
    by: Runner::Writer,
    action: Action::StopAllThreads,
    why: "a CPU that executes bytes while they change may see any mixture of old and new",
    citations: &[SDM_CROSS, CLONE_VM],
    spare: None,
};
const SPAN_EMPTY: Step = Step {
    by: Runner::Writer,
    action: Action::EmptySpan,
    why: "a thread stopped between two old instructions would go on in the middle of a new one",
    citations: &[SDM_CROSS, SYSCALL_RESTART],
    spare: None,
};
const ALL_WRITTEN: Step = Step {
    by: Runner::Writer,
    action: Action::Write(Part::All),
    why: "no thread fetches here now, so order and size of the stores do not matter; the instruction cache sees them",
    citations: &[SDM_SELF, ACCESS_REMOTE_VM, COPY_TO_USER_PAGE],
    spare: None,
};
const REGISTERED: Step = Step {
    by: Runner::StoppedThread,
    action: Action::Perform(REGISTER),
    why: "without it the barrier is refused with EPERM; it is slow, so once per address space, others running",
    citations: &[MEMBARRIER, MEMBARRIER_REGISTER, SWITCH_IN],
    spare: None,
};
const SYNCHRONISED_ONCE_MORE: Step = Step {
    by: Runner::StoppedThread,
    action: Action::Perform(SYNC),
    why: "a thread may resume on its CPU without switching address spaces and by sysret, with old bytes decoded",
    citations: &[SDM_CROSS, MEMBARRIER, SWITCH_IN],
    spare: Some(
        "while all threads are stopped no CPU of the model runs the address space, and the registration makes each \
         synchronise when it comes back to it; but a thread that reported its stop may not have left its CPU yet, and \
         another may follow it there directly; and what membarrier(2) promises is the call, not the registration",
    ),
};
const RESUMED: Step = Step {
    by: Runner::Writer,
    action: Action::ResumeAllThreads,
    why: "from here on every CPU fetches the new bytes",
    citations: &[MEMBARRIER, SYNC_CORE],
    spare: None,
};
const IRET_FOR_ALL: Step = Step {
    by: Runner::EveryThread,
    action: Action::Perform(Means::ResumeByIret),
    why: "each thread serialises just before it executes program code again",
    citations: &[SDM_SERIALIZING, SYSRET_CHECKS, PTRACE_FLAGS],
    spare: Some(
        "after the visits every CPU switches address spaces before it takes up the program; this is for a CPU that \
         the tracer may not visit because its cpuset is another",
    ),
};
const VISITED: Step = Step {
    by: Runner::WriterOnEveryCpu,
    action: Action::Perform(Means::Visit),
    why: "a thread that went on may later be moved to a CPU that idled in its address space all the time, and leave \
          the kernel by sysret there, where nothing has dropped the old bytes",
    citations: &[SWITCH_MM, SDM_SERIALIZING],
    spare: None,
};
const RESUMED_BY_IRET: Step = Step {
    by: Runner::Writer,
    action: Action::ResumeAllThreads,
    why: "only after RF is set in every thread: one that left by sysret might still run old bytes",
    citations: &[SYSRET_CHECKS],
    spare: None,
};

/// Bytes that nobody can reach. A CPU may have fetched the empty place ahead (a mispredicted branch goes anywhere),
/// but it executes what is there only after the code was published, and publishing ends in a synchronisation.
const FRESH: Procedure = Procedure {
    given: "no branch, saved PC, signal frame or stack word leads to the place, now or from an earlier use, and no \
            child of a fork shares a page that is written through another mapping",
    ways: &[Way {
        requires: &[],
        steps: &[
            Step {
                by: Runner::Writer,
                action: Action::Write(Part::All),
                why: "nobody executes the place, so order and size of the stores do not matter; the instruction cache \
                      sees them, whatever mapping they go through",
                citations: &[SDM_SELF, ACCESS_REMOTE_VM, COPY_TO_USER_PAGE],
                spare: None,
            },
            PUBLISHED_LATER,
        ],
    }],
};

const PUBLISHED_LATER: Step = Step {
    by: Runner::Writer,
    action: Action::PublishBy(Situation::LiveTextStopped),
    why: "another linear address or another CPU wrote, so each CPU must serialise before it gets here: the jump that \
          leads here is published with that synchronisation, which serves both",
    citations: &[SDM_SELF, SDM_CROSS],
    spare: None,
};

/// As `FRESH`, by a thread of the target in a mapping that is not executable yet.
const FRESH_BY_TARGET: Procedure = Procedure {
    given: "the place is mapped read-write and not executable, and nothing leads there",
    ways: &[Way {
        requires: &[],
        steps: &[
            Step {
                by: Runner::Writer,
                action: Action::Write(Part::All),
                why: "stored as data; no CPU may execute the page yet",
                citations: &[SDM_SELF],
                spare: None,
            },
            Step {
                by: Runner::StoppedThread,
                action: Action::Perform(PROTECT),
                why: "no mapping is writable and executable at once; every CPU forgets the old permission",
                citations: &[TLB_SHOOTDOWN],
                spare: None,
            },
            PUBLISHED_LATER,
        ],
    }],
};

/// Program text with everybody stopped.
const STOPPED: Procedure = Procedure {
    given: "all threads of the address space are seized, and stubs that the new bytes lead to are written",
    ways: &[
        Way {
            requires: &[Requirement::MembarrierSyncCore],
            steps: &[REGISTERED, ALL_STOPPED, SPAN_EMPTY, ALL_WRITTEN, SYNCHRONISED_ONCE_MORE, RESUMED],
        },
        Way {
            requires: &[],
            steps: &[ALL_STOPPED, SPAN_EMPTY, ALL_WRITTEN, VISITED, IRET_FOR_ALL, RESUMED_BY_IRET],
        },
    ],
};

const RUNNING_SYNC_1: Step = Step {
    by: Runner::StoppedThread,
    action: Action::Perform(SYNC),
    why: "until every CPU has fetched the breakpoint one may still execute the old first byte and run into the tail",
    citations: &[TEXT_POKE, MEMBARRIER],
    spare: None,
};
const RUNNING_SYNC_2: Step = Step {
    by: Runner::StoppedThread,
    action: Action::Perform(SYNC),
    why: "until every CPU has dropped the old tail one may put the new first byte and the old tail together",
    citations: &[TEXT_POKE, MEMBARRIER],
    spare: None,
};
const RUNNING_SYNC_3: Step = Step {
    by: Runner::StoppedThread,
    action: Action::Perform(SYNC),
    why: "after it no CPU takes the breakpoint any more, and what served its hits may go",
    citations: &[TEXT_POKE, MEMBARRIER],
    spare: None,
};

/// Program text with everybody running: the order that the kernel uses for its own text.
const RUNNING: Procedure = Procedure {
    given: "all threads are seized, so that hits of the breakpoint stop at the tracer and are moved to the stub; no \
            thread is between two old instructions of the span, or each such place traps in the new bytes",
    ways: &[Way {
        requires: &[Requirement::MembarrierSyncCore],
        steps: &[
            REGISTERED,
            Step {
                by: Runner::Writer,
                action: Action::Write(Part::Breakpoint),
                why: "one byte, so a CPU sees the old instruction or the breakpoint and nothing between",
                citations: &[TEXT_POKE, APM_CROSS],
                spare: None,
            },
            RUNNING_SYNC_1,
            Step {
                by: Runner::Writer,
                action: Action::Write(Part::Tail),
                why: "behind the breakpoint nobody executes these bytes, so they need not change at once",
                citations: &[TEXT_POKE, SDM_CROSS],
                spare: None,
            },
            RUNNING_SYNC_2,
            Step {
                by: Runner::Writer,
                action: Action::Write(Part::FirstUnit),
                why: "one byte, so a CPU sees the breakpoint or the whole new instruction",
                citations: &[TEXT_POKE, APM_CROSS],
                spare: None,
            },
            RUNNING_SYNC_3,
        ],
    }],
};

/// One byte of our own area, `int3` in or out.
const BREAKPOINT: Procedure = Procedure {
    given: "the byte starts an instruction, and whoever executes the old or the new one is served rightly",
    ways: &[
        Way {
            requires: &[Requirement::MembarrierSyncCore],
            steps: &[
                REGISTERED,
                Step {
                    by: Runner::Writer,
                    action: Action::Write(Part::FirstUnit),
                    why: "one byte, so a CPU sees the old instruction or the new one",
                    citations: &[TEXT_POKE, APM_CROSS],
                    spare: None,
                },
                Step {
                    by: Runner::StoppedThread,
                    action: Action::Perform(SYNC),
                    why: "after it no CPU executes the old byte, and what relied on it may go",
                    citations: &[SDM_CROSS, MEMBARRIER],
                    spare: None,
                },
            ],
        },
        Way {
            requires: &[],
            steps: &[
                Step {
                    spare: Some(
                        "the visits alone would do without it, but RF can be set in a stopped thread only",
                    ),
                    ..ALL_STOPPED
                },
                Step {
                    by: Runner::Writer,
                    action: Action::Write(Part::FirstUnit),
                    why: "one byte at an instruction's start: nobody can be stopped inside it",
                    citations: &[SDM_SELF, APM_CROSS],
                    spare: None,
                },
                VISITED,
                IRET_FOR_ALL,
                RESUMED_BY_IRET,
            ],
        },
    ],
};
