//! The calling standard and the system calls of Linux on Alpha.

use crate::isa::{Abi, Failure, Order, RegisterSlot, SyscallAbi, SyscallNumbers, consecutive};

/// Names of the integer registers, $0 to $30, as GDB has them (`alpha_register_name`, gdb/alpha-tdep.c). $31 is zero.
pub(crate) const NAMES: [&str; 31] = [
    "v0", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "s0", "s1", "s2", "s3", "s4", "s5", "fp", "a0",
    "a1", "a2", "a3", "a4", "a5", "t8", "t9", "t10", "t11", "ra", "t12", "at", "gp", "sp",
];
const REGISTERS: usize = NAMES.len() + 2;

/// An integer register's place in the set.
pub(crate) const fn slot(number: usize) -> RegisterSlot {
    RegisterSlot(8 * number)
}

const PC: RegisterSlot = slot(31);
/// Where PALcode keeps the thread pointer.
const UNIQUE: RegisterSlot = slot(32);

/// `dump_elf_thread`, arch/alpha/kernel/process.c: $0 to $30, then the PC in the place of $31, then the unique value.
const fn registers() -> [(&'static str, RegisterSlot); REGISTERS] {
    let mut registers = [("pc", PC); REGISTERS];
    let mut number = 0;
    while number < NAMES.len() {
        registers[number] = (NAMES[number], slot(number));
        number += 1;
    }
    registers[REGISTERS - 1] = ("unique", UNIQUE);
    registers
}

/// Alpha.
pub(crate) static ABI: Abi = Abi {
    name: "alpha",
    elf_machine: 0x9026,
    word: 8,
    order: Order::Little,
    registers: &registers(),
    breakpoint: &[0x80, 0x00, 0x00, 0x00], // call_pal bpt
    // PALcode reports the PC of the next instruction, and the kernel leaves it there for a breakpoint that is none of its own
    // (`do_entIF`, arch/alpha/kernel/traps.c).
    pc_past_breakpoint: 4,
    red_zone: 0,
    regset_len: 8 * 33,
    pc: PC,
    next_pc: None,
    sp: slot(30),
    flags: None,
    thread_base: Some(UNIQUE),
    // `TASK_SIZE`, arch/alpha/include/asm/processor.h.
    address_end: 1 << 42,
    trapping: &[],
    signal_frames: &[],
    syscall: SyscallAbi {
        instruction: &[0x83, 0x00, 0x00, 0x00], // call_pal callsys
        number: slot(0),
        arguments: &consecutive::<6>(8, 16),
        stacked_arguments: 0,
        result: slot(0),
        // `$syscall_error`, arch/alpha/kernel/entry.S: a3 is 1, or else 0.
        failure: Failure::Flag(slot(19), u64::MAX),
        original_number: None,
        // semop, rt_sigtimedwait, io_getevents, epoll_wait, semtimedop, epoll_pwait, io_pgetevents, epoll_pwait2
        ended_by_stops: &[206, 355, 400, 409, 423, 474, 523, 551],
        leaves_pc: None,
    },
    // arch/alpha/kernel/syscalls/syscall.tbl.
    numbers: SyscallNumbers {
        mmap: 71,
        map_anonymous: 0x10,
        munmap: 73,
        mprotect: 74,
        madvise: 75,
        memfd_create: 512,
        close: 6,
        rt_sigaction: 352,
        membarrier: 517,
        rt_tgsigqueueinfo: Some(492),
        execve: 59,
        execveat: 513,
    },
};
