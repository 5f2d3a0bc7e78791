//! "ELF Application Binary Interface, s390x Supplement", and Linux.

use crate::isa::{Abi, Failure, MAP_ANONYMOUS, Order, RegisterSlot, SyscallAbi, SyscallNumbers, consecutive};

const WORD: usize = 8;

// `s390_regs`, arch/s390/include/uapi/asm/ptrace.h: the PSW's mask and address, r0 to r15, then access registers of 4 bytes each
// and the first argument of a system call.
pub(crate) const MASK: RegisterSlot = RegisterSlot(0);
const ADDRESS: RegisterSlot = RegisterSlot(WORD);
const ORIGINAL_R2: RegisterSlot = RegisterSlot(18 * WORD + 16 * 4);

/// Where a general register lies.
pub(crate) const fn general(number: usize) -> RegisterSlot {
    RegisterSlot(WORD * (2 + number))
}

/// Behind that set: the one of `NT_S390_SYSTEM_CALL`, by which the kernel decides on restarting a call (`arch_do_signal_or_restart`,
/// arch/s390/kernel/signal.c); 0 where there is none to be restarted.
const SYSTEM_CALL: RegisterSlot = RegisterSlot(ORIGINAL_R2.0 + WORD);

const REGISTERS: [(&str, RegisterSlot); 20] = {
    let names = [
        "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    ];
    let mut registers = [("", MASK); 20];
    let mut number = 0;
    while number < names.len() {
        registers[number] = (names[number], general(number));
        number += 1;
    }
    registers[16] = ("pswm", MASK);
    registers[17] = ("pswa", ADDRESS);
    registers[18] = ("orig_r2", ORIGINAL_R2);
    registers[19] = ("system_call", SYSTEM_CALL);
    registers
};

pub(crate) static ABI: Abi = Abi {
    name: "s390x",
    elf_machine: 22,
    word: WORD,
    order: Order::Big,
    registers: &REGISTERS,
    // `S390_BREAKPOINT_U16`, arch/s390/include/uapi/asm/ptrace.h: of a traced task the kernel makes SIGTRAP of it (`illegal_op`,
    // arch/s390/kernel/traps.c). As every operation exception it leaves the PSW behind itself. It is as short as the shortest
    // instruction; a store of 2 bytes is atomic.
    breakpoint: &[0x00, 0x01],
    pc_past_breakpoint: 2,
    red_zone: 0,
    regset_len: SYSTEM_CALL.0 + WORD,
    pc: ADDRESS,
    next_pc: None,
    sp: general(15),
    flags: Some(MASK),
    // In two access registers, a0 and a1, which GDB's descriptions have apart.
    thread_base: None,
    // `TASK_SIZE_MAX`, arch/s390/include/asm/processor.h: all of 64 bits but the last page.
    address_end: 0xffff_ffff_ffff_f000,
    trapping: &[],
    signal_frames: &[],
    syscall: SyscallAbi {
        // `svc 0`: the number is in r1. (With another number in the instruction it is that one: `__do_syscall`,
        // arch/s390/kernel/syscall.c.)
        instruction: &[0x0a, 0x00],
        number: general(1),
        arguments: const { &consecutive::<6>(WORD, 2 + 2) },
        stacked_arguments: 0,
        result: general(2),
        failure: Failure::Negative,
        original_number: Some(SYSTEM_CALL),
        // ipc, rt_sigtimedwait, io_getevents, epoll_wait, epoll_pwait, io_pgetevents, semtimedop, epoll_pwait2
        ended_by_stops: &[117, 177, 245, 251, 312, 382, 392, 441],
        leaves_pc: None,
    },
    // arch/s390/kernel/syscalls/syscall.tbl
    numbers: SyscallNumbers {
        mmap: 90,
        map_anonymous: MAP_ANONYMOUS,
        munmap: 91,
        mprotect: 125,
        madvise: 219,
        memfd_create: 350,
        close: 6,
        rt_sigaction: 174,
        membarrier: 356,
        rt_tgsigqueueinfo: Some(330),
        execve: 11,
        execveat: 354,
    },
};
