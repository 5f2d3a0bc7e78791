//! The ABIs of SPARC on Linux: of 32 bits, and of 64.

use crate::isa::{Abi, Failure, MAP_ANONYMOUS, Order, RegisterSlot, SyscallAbi, SyscallNumbers, consecutive};

// In words, behind r0 to r31 of the running window (`genregs32_get`, `genregs64_get`, arch/sparc/kernel/ptrace_64.c).
const PSR: usize = 32;
const PC_32: usize = 33;
const NPC_32: usize = 34;
const Y_32: usize = 35;
const TSTATE: usize = 32;
const PC_64: usize = 33;
const NPC_64: usize = 34;
const Y_64: usize = 35;
/// Words of the kernel's sets; those of 32 bits end in `wim` and `tbr`, which are always 0.
const WORDS_32: usize = 38;
const WORDS_64: usize = 36;

// The condition codes of floating point decide where branches go, and are in another of the kernel's sets (`NT_PRFPREG`). Here FSR
// is one word more, behind the kernel's; a stub has it among all the others.
pub(crate) const FSR_32: RegisterSlot = RegisterSlot(4 * WORDS_32);
pub(crate) const FSR_64: RegisterSlot = RegisterSlot(8 * WORDS_64);

/// r1 to r31 by GDB's names, and five more. r0 is always 0.
const REGISTERS: usize = 36;

const fn registers(
    word: usize,
    special: [(&'static str, RegisterSlot); 5],
) -> [(&'static str, RegisterSlot); REGISTERS] {
    let names = [
        "g1", "g2", "g3", "g4", "g5", "g6", "g7", "o0", "o1", "o2", "o3", "o4", "o5", "sp", "o7", "l0", "l1",
        "l2", "l3", "l4", "l5", "l6", "l7", "i0", "i1", "i2", "i3", "i4", "i5", "fp", "i7",
    ];
    let mut registers = [("", RegisterSlot(0)); REGISTERS];
    let mut index = 0;
    while index < names.len() {
        registers[index] = (names[index], general(word, index + 1));
        index += 1;
    }
    let mut nth = 0;
    while nth < special.len() {
        registers[index] = special[nth];
        index += 1;
        nth += 1;
    }
    registers
}

const NARROW: [(&str, RegisterSlot); REGISTERS] = registers(
    4,
    [
        ("psr", general(4, PSR)),
        ("pc", general(4, PC_32)),
        ("npc", general(4, NPC_32)),
        ("y", general(4, Y_32)),
        ("fsr", FSR_32),
    ],
);
const WIDE: [(&str, RegisterSlot); REGISTERS] = registers(
    8,
    [
        ("state", general(8, TSTATE)),
        ("pc", general(8, PC_64)),
        ("npc", general(8, NPC_64)),
        ("y", general(8, Y_64)),
        ("fsr", FSR_64),
    ],
);

/// Where a general register of the running window lies, or a word behind them.
pub(crate) const fn general(word: usize, number: usize) -> RegisterSlot {
    RegisterSlot(word * number)
}

/// 32 bits.
pub(crate) static SPARC: Abi = Abi {
    name: "sparc",
    elf_machine: 2,
    word: 4,
    registers: &NARROW,
    regset_len: 4 * WORDS_32 + 4,
    pc: general(4, PC_32),
    next_pc: Some(general(4, NPC_32)),
    sp: general(4, 14),
    flags: Some(general(4, PSR)),
    thread_base: Some(general(4, 7)),
    // `TASK_SIZE_OF`, arch/sparc/include/asm/processor_64.h; the last page is not mapped (`STACK_TOP32`).
    address_end: 0xffff_e000,
    syscall: SyscallAbi {
        instruction: &[0x91, 0xd0, 0x20, 0x10], // ta 0x10
        number: general(4, 1),
        arguments: const { &consecutive::<6>(4, 8) },
        result: general(4, 8),
        failure: Failure::Flag(general(4, PSR), 1 << 20), // PSR_C, arch/sparc/include/uapi/asm/psr.h
        // ipc, rt_sigtimedwait, io_getevents, epoll_wait, epoll_pwait, io_pgetevents, io_pgetevents_time64, semtimedop_time64,
        // rt_sigtimedwait_time64, epoll_pwait2
        ended_by_stops: &[215, 105, 272, 195, 309, 361, 416, 420, 421, 441],
        ..ABI.syscall
    },
    numbers: SyscallNumbers { rt_tgsigqueueinfo: None, ..ABI.numbers },
    ..ABI
};
/// 64 bits.
pub(crate) static SPARC64: Abi = ABI;

const ABI: Abi = Abi {
    name: "sparc64",
    elf_machine: 43,
    word: 8,
    order: Order::Big,
    registers: &WIDE,
    // ta 1, as GDB has it (gdb/sparc-tdep.c); the kernel stays at it (`sparc_breakpoint`, arch/sparc/kernel/traps_64.c). Its own
    // uprobes have `ta 0x73`.
    breakpoint: &[0x91, 0xd0, 0x20, 0x01],
    pc_past_breakpoint: 0,
    // Below the stack pointer nothing is the program's, but from it on (2047 bytes above it in 64 bits) the kernel keeps the window's
    // registers.
    red_zone: 0,
    regset_len: 8 * WORDS_64 + 8,
    pc: general(8, PC_64),
    next_pc: Some(general(8, NPC_64)),
    sp: general(8, 14),
    flags: Some(general(8, TSTATE)),
    thread_base: Some(general(8, 7)),
    // `TASK_SIZE_OF`, arch/sparc/include/asm/processor_64.h: all but the last 16 GiB; addresses have a hole in the middle.
    address_end: 0xffff_fffc_0000_0000,
    trapping: &[],
    signal_frames: &[],
    syscall: SyscallAbi {
        instruction: &[0x91, 0xd0, 0x20, 0x6d], // ta 0x6d
        number: general(8, 1),
        arguments: const { &consecutive::<6>(8, 8) },
        stacked_arguments: 0,
        result: general(8, 8),
        // TSTATE_XCARRY, arch/sparc/include/asm/pstate.h: the carry of %xcc. (The kernel sets that of %icc as well.)
        failure: Failure::Flag(general(8, TSTATE), 1 << 36),
        original_number: None,
        // ipc, rt_sigtimedwait, io_getevents, epoll_wait, epoll_pwait, io_pgetevents, semtimedop, epoll_pwait2
        ended_by_stops: &[215, 105, 272, 195, 309, 361, 392, 441],
        leaves_pc: None,
    },
    // arch/sparc/kernel/syscalls/syscall.tbl
    numbers: SyscallNumbers {
        mmap: 71,
        map_anonymous: MAP_ANONYMOUS,
        munmap: 73,
        mprotect: 74,
        madvise: 75,
        memfd_create: 348,
        close: 6,
        rt_sigaction: 102,
        membarrier: 351,
        rt_tgsigqueueinfo: Some(326),
        execve: 59,
        execveat: 350,
    },
};
