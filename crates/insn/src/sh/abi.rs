//! The ABI of SuperH on Linux.

use crate::isa::{Abi, Failure, MAP_ANONYMOUS, Order, RegisterSlot, SyscallAbi, SyscallNumbers};

/// Bytes of a register.
const WORD: usize = 4;

const fn word(number: usize) -> RegisterSlot {
    RegisterSlot(WORD * number)
}

// `struct pt_regs`, arch/sh/include/uapi/asm/ptrace_32.h, in words: r0 to r15, then these. ELF_NGREG is 23.
pub(crate) const PC: RegisterSlot = word(16);
pub(crate) const PR: RegisterSlot = word(17);
pub(crate) const SR: RegisterSlot = word(18);
const GBR: RegisterSlot = word(19);
const TRA: RegisterSlot = word(22);

/// A general register.
pub(crate) const fn general(number: u32) -> RegisterSlot {
    word(number as usize)
}

/// SH-4.
pub(crate) static ABI: Abi = Abi {
    name: "sh",
    elf_machine: 42,
    word: WORD,
    order: Order::Little,
    registers: &[
        ("r0", word(0)),
        ("r1", word(1)),
        ("r2", word(2)),
        ("r3", word(3)),
        ("r4", word(4)),
        ("r5", word(5)),
        ("r6", word(6)),
        ("r7", word(7)),
        ("r8", word(8)),
        ("r9", word(9)),
        ("r10", word(10)),
        ("r11", word(11)),
        ("r12", word(12)),
        ("r13", word(13)),
        ("r14", word(14)),
        ("r15", word(15)),
        ("pc", PC),
        ("pr", PR),
        ("sr", SR),
        ("gbr", GBR),
        ("mach", word(20)),
        ("macl", word(21)),
    ],
    // trapa #0xc3, as GDB has it (gdb/sh-tdep.c): one of the traps that the kernel makes SIGTRAP of, the PC back at it
    // (`debug_trap_handler`, arch/sh/kernel/traps.c). The kernel has no uprobes here.
    breakpoint: &[0xc3, 0xc3],
    pc_past_breakpoint: 0,
    red_zone: 0,
    regset_len: 23 * WORD,
    pc: PC,
    next_pc: None,
    sp: word(15),
    flags: Some(SR),
    thread_base: Some(GBR),
    // `TASK_SIZE`, arch/sh/include/asm/processor_32.h.
    address_end: 0x7c00_0000,
    trapping: &[],
    signal_frames: &[],
    syscall: SyscallAbi {
        // trapa #0x13: the kernel has done with the number of arguments that it tells ([`Isa::calls_the_kernel`]).
        instruction: &[0x13, 0xc3],
        number: word(3),
        arguments: &[word(4), word(5), word(6), word(7), word(0), word(1)],
        stacked_arguments: 0,
        result: word(0),
        failure: Failure::Negative,
        original_number: Some(TRA),
        // ipc, rt_sigtimedwait, io_getevents, epoll_wait, epoll_pwait, io_pgetevents_time64, semtimedop_time64,
        // rt_sigtimedwait_time64, epoll_pwait2
        ended_by_stops: &[117, 177, 247, 256, 319, 416, 420, 421, 441],
        leaves_pc: None,
    },
    // arch/sh/kernel/syscalls/syscall.tbl
    numbers: SyscallNumbers {
        mmap: 192, // mmap2: the offset, which is 0 here, is in units of 4096 bytes
        map_anonymous: MAP_ANONYMOUS,
        munmap: 91,
        mprotect: 125,
        madvise: 219,
        memfd_create: 374,
        close: 6,
        rt_sigaction: 174,
        membarrier: 378,
        rt_tgsigqueueinfo: None,
        execve: 11,
        execveat: 376,
    },
};
